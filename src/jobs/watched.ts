import type { JobResult } from "../messages/job-event.ts";
import type { EndRecord } from "./job.ts";
import type { TrackingRecord } from "./tracking-record.ts";

/** A job that this tracker watches: its record, and the un-acked delivery that says so. */
export interface Watched {
  record: TrackingRecord;
  ack: () => void;
  takenAt: number;
  /** How often the broker has delivered this record without an ack. */
  returns: number;
  /** Its records in the job directory are to be read: it is new here, or it has rung. */
  rung: boolean;
  /** What its own record says of its end, while Slurm's word on the reason is awaited. */
  endRecord: { record: EndRecord; results: JobResult[]; log: string; since: number } | undefined;
  /** Since when Slurm says that it has ended though it left no record. */
  endedWithoutRecordSince: number | undefined;
  /** Slurm no longer knows it, and it has left no record of its end: said once. */
  isForgotten: boolean;
  /** Its cancellation in Slurm means nothing: it is submitted again. */
  isBeingResubmitted: boolean;
  /** Why it cannot be submitted again at the moment: said once. */
  heldBecause: string | undefined;
}

/** A delivered record, with what is known from an earlier delivery of the same job. */
export function watch(
  record: TrackingRecord,
  delivery: { ack: () => void; returns: number },
  old: Watched | undefined,
  now: Date,
): Watched {
  return {
    record: old?.record ?? record,
    ack: delivery.ack,
    takenAt: now.getTime(),
    returns: delivery.returns,
    rung: true,
    endRecord: old?.endRecord,
    endedWithoutRecordSince: old?.endedWithoutRecordSince,
    isForgotten: old?.isForgotten ?? false,
    isBeingResubmitted: old?.isBeingResubmitted ?? false,
    heldBecause: old?.heldBecause,
  };
}
