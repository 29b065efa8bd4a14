import { lookup as mediaTypeOf } from "mrmime";
import type { JobMethod, JobResult } from "../messages/job-event.ts";
import type { RecordedResult } from "./records.ts";

/** The results as an event has them. What a job here has written, the beamline sees where it is. */
export function resultsOf(method: JobMethod, files: readonly RecordedResult[]): JobResult[] {
  return files.map(({ path, bytes, beamlinePath }) => ({
    path,
    beamlinePath: method === "local-bash-script" ? path : beamlinePath,
    bytes,
    mediaType: mediaTypeOf(path) ?? "application/octet-stream",
  }));
}
