import type { WhyAgain } from "../jobs/resubmit-command.ts";
import type { TrackingRecord } from "./tracking-record.ts";
import type { Log } from "../log.ts";
import type { OutgoingEvent } from "../messages/job-event.ts";
import type { Observer } from "./observer.ts";

/** What the second half of the line, track-jobs.ts, needs from outside. */
export interface TrackerDeps {
  /** Where the job, and others of its session and kind, can be seen; throws Rejected if their records do not fit. */
  observerOf: (record: TrackingRecord) => Promise<Observer>;
  announce: (event: OutgoingEvent) => Promise<void>;
  /** Puts a fresh copy of a record on the group's queue of jobs, confirmed. */
  track: (record: TrackingRecord) => Promise<void>;
  /** Puts a record that does not fit into the dead-letter queue, confirmed. */
  putAside: (record: TrackingRecord, why: string) => Promise<void>;
  /** Frees the permits of a job that has ended. */
  leavePermits: (record: TrackingRecord) => Promise<void>;
  /** Submits a job again whose reservation was deleted, whose node failed, or that Slurm forgot; its directory then says which Slurm job it is. */
  resubmit: (record: TrackingRecord, seenAt: number, why: WhyAgain) => Promise<void>;
  reconcileSeconds: number;
  /** A job of which nothing was seen for so long is lost. */
  lostAfterHours: number;
  log: Log;
  now: () => Date;
}
