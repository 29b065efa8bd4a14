import type { AskedToCancel } from "../jobs/cancel-request.ts";
import {
  CANCELLED,
  endFromBoth,
  endFromRecordAlone,
  endFromSlurmAlone,
  type EndRecord,
  type JobEnd,
} from "../jobs/job.ts";
import { isHeldForReservation } from "../slurm/squeue.ts";
import { endFromSlurm, type ReportedState } from "../slurm/job-states.ts";

/** What is known of a job besides Slurm's report, times in milliseconds. */
export interface Known {
  /** What its own record says of its end, where that alone is not enough. */
  endRecord: { record: EndRecord; since: number } | undefined;
  /** Since when Slurm says that it has ended, though it left no record. */
  endedWithoutRecordSince: number | undefined;
  /** When anything was last seen of it. */
  seenAt: number;
  /** Its script has recorded its start. */
  hasStarted: boolean;
  /** Since when this worker finds that Slurm no longer knows it. */
  forgottenSince: number | undefined;
  isBeingResubmitted: boolean;
  /** Somebody has asked Mento to cancel it. */
  cancelled?: AskedToCancel | undefined;
}

export type Decision =
  | "goes-on"
  /** Its reservation was deleted before it could run. */
  | "held"
  /** Slurm says that it has ended; its record may come late. */
  | "look-again"
  /** The same, and its record has not come. */
  | "ask-exit-code"
  /** Slurm may have lost it before it began: a look in its directory tells. */
  | "look-if-forgotten"
  | "lost"
  | { end: JobEnd; slurmState: string | null };

/** Files appear late on a shared file system: so long a record may lag behind Slurm. */
const RECORD_GRACE_MS = 10_000;
/**
 * So long a worker looks before it gives a job up: it may have been away itself, or accounting be down. Shorter than its
 * record is held at a time, for another worker begins to look anew.
 */
export const LOOK_FIRST_MS = 5 * 60_000;
/** Slurm keeps ended jobs for some minutes (MinJobAge): later it cannot be told from one that has never run. */
const PROVABLE_MS = 3600_000;
/** So long Slurm may take to say why it has stopped a job. */
const REASON_GRACE_MS = 60_000;

/**
 * What has become of a job. Only evidence is an end: its own record, or Slurm's report; silence is none, and neither is a
 * state that nobody knows.
 */
export function decide(
  known: Known,
  reported: ReportedState | undefined,
  time: number,
  lostAfterMs: number,
): Decision {
  const { endRecord, endedWithoutRecordSince, seenAt, forgottenSince = time, cancelled } = known;
  // Whoever submits it again then finds that it is to be cancelled.
  const isBeingResubmitted = known.isBeingResubmitted && cancelled === undefined;
  if (endRecord !== undefined) {
    if (reported === undefined) {
      // Slurm has forgotten it: then the record is all that is known.
      const isLate = time - endRecord.since > REASON_GRACE_MS;
      return isLate
        ? { end: endFromRecordAlone(endRecord.record, cancelled !== undefined), slurmState: null }
        : "goes-on";
    }
    const end = endFromBoth(endRecord.record, reported.state);
    return end === undefined ? "goes-on" : { end, slurmState: reported.state };
  }
  if (reported === undefined) {
    if (isBeingResubmitted) return "held";
    // Slurm had taken the cancellation, and has had the time to forget the job.
    if (cancelled?.isAccepted === true && time - forgottenSince > REASON_GRACE_MS) {
      return { end: CANCELLED, slurmState: null };
    }
    if (time - seenAt > lostAfterMs && time - forgottenSince > LOOK_FIRST_MS) return "lost";
    // Not at the first look: accounting may know how it has ended.
    const maybeForgotten = !known.hasStarted && cancelled?.isAccepted !== true && time > forgottenSince;
    return maybeForgotten && time - seenAt < PROVABLE_MS ? "look-if-forgotten" : "goes-on";
  }
  if (isHeldForReservation(reported)) return "held";
  if (endFromSlurm(reported.state) === undefined) return "goes-on";
  if (endedWithoutRecordSince === undefined || time - endedWithoutRecordSince < RECORD_GRACE_MS) {
    return "look-again";
  }
  const { state, exitCode, nodes = "", log } = reported;
  if (exitCode === undefined || log === undefined) return "ask-exit-code";
  if (isBeingResubmitted) return "held";
  const { hasStarted } = known;
  const isAsked = cancelled !== undefined;
  const end = endFromSlurmAlone({ state, exitCode, nodes, hasStarted, isAsked, log });
  return end === undefined ? "goes-on" : { end, slurmState: reported.state };
}

/** Whether the job goes on, and nothing hangs on how long this worker has been looking at it. */
export function isAtRest(
  decision: Decision,
  { endRecord, cancelled, seenAt }: Known,
  reported: ReportedState | undefined,
  lostBefore: number,
): boolean {
  if (decision !== "goes-on" || endRecord !== undefined) return false;
  return reported !== undefined || (cancelled === undefined && seenAt > lostBefore);
}
