import type { AskedToCancel } from "../jobs/cancel-request.ts";
import { isReportOn } from "../jobs/is-ours.ts";
import type { EndFacts, WatchedEnd } from "./event-data.ts";
import type { JobEnd } from "../jobs/job.ts";
import { ReadRate } from "./read-rate.ts";
import type { TrackingRecord } from "./tracking-record.ts";
import { LOOK_FIRST_MS } from "./decision.ts";

/** A job that this tracker watches: its record, and the un-acked delivery that says so. */
export interface Watched {
  record: TrackingRecord;
  ack: () => void;
  takenAt: number;
  /** What was seen of it last changes nothing: another worker can watch on as well. */
  isAtRest: boolean;
  /** It is going back to the queue, for others wait there: whoever gets it next watches on. */
  isToGo: boolean;
  /** By how much the clock of the host where its records lie is ahead of this one's, in milliseconds. */
  clockAhead: number;
  /** Its records in the job directory are to be read: it is new here, or it has rung. */
  isNotified: boolean;
  run: WatchedRun;
  /** Somebody has asked Mento to cancel it. */
  cancelled: AskedToCancel | undefined;
  /** Of which kinds of records it was said that they are left out. */
  refused: Set<string>;
  reads: ReadRate;
}

/** What is known of the run that is watched now; replaced whole when another begins. */
export interface WatchedRun {
  /** What its own record says of its end, while Slurm's report on the reason is awaited. */
  endRecord: WatchedEnd | undefined;
  /** Since when Slurm says that it has ended though it left no record. */
  endedWithoutRecordSince: number | undefined;
  /** A state that this version does not know: said once. */
  unknownState: string | undefined;
  /** Since when Slurm no longer knows it, though it has left no record of its end. */
  forgottenSince: number | undefined;
  /** Its cancellation in Slurm means nothing: it is submitted again. */
  isBeingResubmitted: boolean;
  /** How its run has ended, while it is to be submitted again for that. */
  retrying: { end: JobEnd; facts: EndFacts } | undefined;
  /** What was said of it last: the same is not said again. */
  said: string | undefined;
}

/** What Slurm, or its host, calls the job. */
export function runIdOf({ data }: TrackingRecord): string {
  return data.slurm.jobId ?? String(data.process?.pid ?? "");
}

/** By our comment or the job directory; a person may have changed the one, and Slurm forget the other. */
export function isOurs({ record }: Watched, reported: { comment: string; directory: string }): boolean {
  return isReportOn({ ...record.data.job, array: record.arrayId }, reported);
}

/**
 * The word on a job. Tasks that were cancelled together before they ran may have left one entry, under the array's id
 * (Slurm 22.05, `scancel --state`).
 */
export function reportOn<Reported>(
  record: TrackingRecord,
  reports: ReadonlyMap<string, Reported>,
): Reported | undefined {
  const id = runIdOf(record);
  const [arrayJob = "", task] = id.split("_");
  const hasRun = record.data.times.started !== null;
  return reports.get(id) ?? (task === undefined || hasRun ? undefined : reports.get(arrayJob));
}

/** When anything was last seen of a job, in milliseconds since 1970. */
export function seenAtOf({ seenAt, data }: TrackingRecord): number {
  return Date.parse(seenAt ?? data.times.submitted ?? "");
}

/** Of a run that has just begun, or that nobody has watched yet. */
export function newRun(): WatchedRun {
  return {
    endRecord: undefined,
    endedWithoutRecordSince: undefined,
    unknownState: undefined,
    forgottenSince: undefined,
    isBeingResubmitted: false,
    retrying: undefined,
    said: undefined,
  };
}

/** What cannot be settled for so long is not kept while others wait: longer than it takes to find a job lost. */
const UNSETTLED_AT_MOST_MS = LOOK_FIRST_MS + 60_000;

/** Those that another worker can watch on as well, the ones first that were taken first. */
export function atRest(all: readonly Watched[], now: Date): Watched[] {
  const takenBefore = now.getTime() - UNSETTLED_AT_MOST_MS;
  const free = all.filter(({ isAtRest, isToGo, takenAt }) => !isToGo && (isAtRest || takenAt < takenBefore));
  return free.sort((first, second) => first.takenAt - second.takenAt);
}

/** Those that are worth a line of the log: whoever writes them can write any number, so each kind is told once. */
export function newlyRefused(watched: Watched, refused: readonly string[]): string[] {
  return refused.filter((what) => {
    const [kind = ""] = what.split(" ", 1);
    const isNew = !watched.refused.has(kind);
    watched.refused.add(kind);
    return isNew;
  });
}

/** A delivered record, with what is known from an earlier delivery of the same job. */
export function watch(record: TrackingRecord, ack: () => void, old: Watched | undefined, now: Date): Watched {
  return {
    record: old?.record ?? record,
    ack,
    takenAt: now.getTime(),
    isAtRest: false,
    isToGo: false,
    clockAhead: old?.clockAhead ?? 0,
    isNotified: true,
    run: old?.run ?? newRun(),
    cancelled: old?.cancelled,
    refused: old?.refused ?? new Set(),
    reads: old?.reads ?? new ReadRate(),
  };
}
