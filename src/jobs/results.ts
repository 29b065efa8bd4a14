import picomatch from "picomatch";
import { lookup as mediaTypeOf } from "mrmime";
import { posix } from "node:path";
import type { JobResult } from "../messages/job-event.ts";
import type { TrackingRecord } from "./tracking-record.ts";

/** The files that the trigger calls results, as an event has them. */
export function resultsOf(record: TrackingRecord, files: { path: string; bytes: number }[]): JobResult[] {
  const fits = picomatch(record.resultGlobs, { dot: true });
  return files
    .filter(({ path }) => fits(posix.relative(record.resultsDirectory, path)))
    .map(({ path, bytes }) => ({
      path,
      // Nothing copies from the core file system to the beamline.
      beamlinePath: null,
      bytes,
      mediaType: mediaTypeOf(path) ?? "application/octet-stream",
    }));
}
