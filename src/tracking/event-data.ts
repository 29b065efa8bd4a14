import { canBe } from "../time/can-be.ts";
import type { JobEventData } from "../messages/job-event.ts";
import type { AskedToCancel } from "../jobs/cancel-request.ts";
import { advance, describeFailure, type EndRecord, type JobEnd } from "../jobs/job.ts";
import type { ReportedState } from "../slurm/job-states.ts";
import type { Known } from "./decision.ts";
import { NO_RESULTS, type FoundResults } from "./results.ts";

/** What is told of a job that its run script has started: once, though Slurm may start it again. */
export function startedData(data: JobEventData, started: { at: string; node: string }): JobEventData {
  const { job, slurm, times } = data;
  return {
    ...data,
    job: { ...job, state: job.state === "submitted" ? advance(job.state, "started") : job.state },
    slurm: { ...slurm, nodes: [started.node] },
    times: { ...times, started: started.at },
  };
}

/** What a job's own record says of its end, while Slurm's reason is awaited. */
export interface WatchedEnd {
  record: EndRecord;
  recordedAt: string;
  found: FoundResults;
  log: string;
  since: number;
}

export interface EndFacts {
  /** RFC 3339. */
  at: string;
  found: FoundResults;
  /** The end of its log. */
  log: string;
  /** Slurm's report, if it was needed. */
  slurmState: string | null;
  /** What else is to be said of it. */
  why?: string;
  /** Somebody has asked Mento to cancel it. */
  cancelled?: AskedToCancel | undefined;
}

/** Of an end that `decide` has found. */
export function endFacts(
  {
    endRecord,
    endedWithoutRecordSince,
    hasStarted,
  }: Pick<Known, "hasStarted" | "endedWithoutRecordSince"> & {
    endRecord: WatchedEnd | undefined;
  },
  { end, slurmState }: { end: JobEnd; slurmState: string | null },
  reported: ReportedState | undefined,
  time: number,
  clockAhead: number,
): EndFacts {
  const seen = new Date((endedWithoutRecordSince ?? time) + clockAhead);
  const told = reported?.endedAt;
  const isTold = told != null && canBe(Date.parse(told), seen.getTime());
  const at = endRecord?.record.at ?? (isTold ? told : seen.toISOString());
  const areUnknown = hasStarted || end.state === "completed";
  const { found = { ...NO_RESULTS, areUnknown }, log = reported?.log ?? "" } = endRecord ?? {};
  return { at, found, log, slurmState };
}

export function endedData(data: JobEventData, end: JobEnd, facts: EndFacts): JobEventData {
  const { job, times } = data;
  const { at, found, log, slurmState, why = "", cancelled } = facts;
  const { results, cut, notCopied, areUnknown } = found;
  return {
    ...data,
    job: { ...job, state: advance(job.state, end.state) },
    times: { ...times, ended: latestOf(times.submitted, times.started, at) },
    exit: { code: end.code, signal: end.signal, reason: end.reason },
    cancelledBy: end.state === "cancelled" ? (cancelled?.by ?? null) : null,
    results,
    ...(cut > 0 && { resultsCut: cut }),
    ...(areUnknown && { resultsUnknown: true as const }),
    ...(notCopied > 0 && { resultsNotCopied: notCopied }),
    error:
      end.reason === null
        ? null
        : {
            code: end.reason,
            message: [describeFailure(end, slurmState, log), why].join(" ").trim(),
            hint: `The whole log is ${job.directory}/job.log.`,
          },
  };
}

/** Of an end that only the worker has seen, its own clock tells the time. */
function latestOf(submitted: string | null, started: string | null, at: string): string {
  const earliest = started ?? submitted;
  return earliest !== null && Date.parse(at) < Date.parse(earliest) ? earliest : at;
}

/** Nobody knows what became of it: a person must look. */
export function lostData(data: JobEventData, seenAt: string): JobEventData {
  const { job, slurm } = data;
  return {
    ...data,
    job: { ...job, state: advance(job.state, "lost") },
    error: {
      code: "lost",
      message: `Nothing was seen of Slurm job ${slurm.jobId} since ${seenAt}: it left no record of its end, and neither squeue nor sacct knows it, or its node cannot be asked.`,
      hint: `Look with \`sacct -j ${slurm.jobId}\`, and at ${job.directory}/job.log; if it did not run, replay its message with --again.`,
    },
  };
}
