import { errorText } from "../errors.ts";
import { Accounting } from "./ask-accounting.ts";
import type { TrackingRecord } from "./tracking-record.ts";
import type { Watched } from "./watched.ts";
import type { Log } from "../log.ts";
import type { TrackerDeps } from "./tracker-deps.ts";

/** The jobs of one session and kind that a tracker watches together, by their ids. */
export interface SessionJobs {
  /** The first of them: all are seen from the same place. */
  first: TrackingRecord;
  jobsDirectory: string;
  jobs: Map<string, Watched>;
  accounting: Accounting;
  /** Slurm may have lost them before they began. */
  maybeForgotten: Watched[];
}

export function openSessionJobs(first: TrackingRecord, log: Log): SessionJobs {
  const { jobsDirectory } = first;
  return { first, jobsDirectory, jobs: new Map(), accounting: new Accounting(log), maybeForgotten: [] };
}

/** Those with one key are in one folder, have one session's data, and are seen from one place. */
export function keyOf({ data: { session, job, process }, jobsDirectory }: TrackingRecord): string {
  return JSON.stringify([session.id, session.corePath, jobsDirectory, job.method, process?.host]);
}

/** All are in one folder, and of one session: none of their records fits. What cannot be put aside now is held, and tried again. */
export async function putAside(
  session: SessionJobs,
  why: string,
  { putAside: put, log }: Pick<TrackerDeps, "putAside" | "log">,
): Promise<void> {
  try {
    for (const watched of [...session.jobs.values()]) {
      await put(watched.record, why);
      letGo(watched, session);
    }
  } catch (error) {
    log.error({ err: error }, `tracking records could not be put aside: ${errorText(error)}`);
  }
}

/** The record may have been delivered again meanwhile: both deliveries are of this job, which is done with. */
export function letGo(watched: Watched, { jobs }: SessionJobs): void {
  const { id } = watched.record.data.job;
  jobs.get(id)?.ack();
  jobs.delete(id);
  watched.ack();
}
