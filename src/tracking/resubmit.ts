import type { Session, Sessions } from "../beamtime/session.ts";
import { Deferred, ERROR_CODES, MentoError, Rejected } from "../errors.ts";
import { directoryOf, jobCommentOf, LONGEST_SUBMIT_SECONDS } from "../jobs/directory.ts";
import { resubmitCommand, type WhyAgain } from "../jobs/resubmit-command.ts";
import { forgottenCommand } from "../jobs/forgotten.ts";
import { parseSubmitAnswer } from "../jobs/submit-said.ts";
import type { EndFacts } from "./event-data.ts";
import type { JobEnd } from "../jobs/job.ts";
import type { JobRecords } from "../jobs/records.ts";
import { NO_RESULTS } from "./results.ts";
import type { TrackingRecord } from "./tracking-record.ts";
import type { Watched } from "./watched.ts";
import type { ExitReason, JobEventData, JobMethod } from "../messages/job-event.ts";
import type { SubmitTarget } from "../submission/method.ts";
import { sbatchArguments } from "../submission/sbatch.ts";
import type { TrackerDeps } from "./tracker-deps.ts";
import { TriggerSlurm } from "../triggers/trigger-config.ts";

/** What another run may do better: the program was not asked. */
const RETRIED: readonly (ExitReason | null)[] = ["node-failure", "preempted"];

export function isWorthRetrying({ reason }: JobEnd): boolean {
  return RETRIED.includes(reason);
}

/** Whether the job is to be submitted again for the way in which it has ended. */
export function isRetried({ data, retries = 0, retried = 0 }: TrackingRecord, end: JobEnd): boolean {
  return data.process === null && retried < retries && isWorthRetrying(end);
}

interface Targets {
  targetFor(
    session: Session,
    requirements: { method: JobMethod; slurm: TriggerSlurm; destination: undefined },
    notBefore: number,
  ): Promise<SubmitTarget>;
}

/** {@link resubmit} for jobs of any session, each in its own, by what Slurm says after the job was seen. */
export function resubmitAt(sessions: Pick<Sessions, "find">, places: Targets): TrackerDeps["resubmit"] {
  return async (record, seenAt, why) => {
    const { session: of, job } = record.data;
    const session = await sessions.find(of.id ?? undefined);
    const requirements = { method: job.method, destination: undefined };
    return resubmit(record, why, (slurm) => places.targetFor(session, { ...requirements, slurm }, seenAt));
  };
}

/**
 * Submits a job again whose reservation was deleted before it could run, that Slurm forgot, or whose node failed. The job directory then says
 * which Slurm job it is now; whoever watches the job reads it there. Nothing to say: somebody else is at it, or Slurm lets it run.
 *
 * @throws Deferred `no-reservation-fits` while none does, and whatever `placeFor` throws
 * @throws Rejected `no-reservation-fits` if its trigger does not wait
 */
export async function resubmit(
  { data, jobsDirectory, slurm = TriggerSlurm.parse({}), priority = 0 }: TrackingRecord,
  why: WhyAgain,
  targetFor: (slurm: TriggerSlurm) => Promise<SubmitTarget>,
): Promise<void> {
  const { shell, allocation, slurm: asked } = await targetFor(slurm);
  const slurmJobId = data.slurm.jobId;
  if (allocation === null || slurmJobId === null)
    throw new Error("only a job of Slurm can be submitted again");
  if (allocation instanceof MentoError) throw allocation;
  const { id: jobId, trigger: name } = data.job;
  const { reservation, partition } = allocation;
  const directory = directoryOf(jobsDirectory, jobId);
  const command = (why === "slurm-forgot" ? forgottenCommand : resubmitCommand)(
    {
      jobsDirectory,
      jobId,
      slurmJobId,
      sbatchArguments: sbatchArguments({
        jobComment: jobCommentOf(jobId),
        directory,
        output: `${directory}/job.log`,
        name,
        slurm: asked,
        priority,
        allocation,
      }),
      reservation,
      partition,
      why,
    },
    shell.account,
  );
  const end = await shell.run(command, { timeout: LONGEST_SUBMIT_SECONDS * 1000 });
  const answer = parseSubmitAnswer(end.stdout.toString("utf8"), []);
  if (answer !== undefined && answer.kind !== "failed") return;
  throw new Error(`job ${jobId} could not be submitted again: ${end.stderr.trim() || "no answer"}`);
}

/** So long a job whose reservation was deleted may wait for another. */
const HELD_AT_MOST_MS = 24 * 3600 * 1000;
/** So long none of a closed session's reservations must be there: between pre-start and start they may change. */
const ENDED_FOR_MS = 10 * 60 * 1000;

/**
 * Whether nothing will come of trying again: its trigger does not wait, the session is over, or none has fitted for long
 * enough. Any other trouble says nothing of the reservations.
 */
export function isGivenUp(error: unknown, heldSince: string | undefined, time: number): boolean {
  if (!(error instanceof Rejected || error instanceof Deferred)) return false;
  const held = time - Date.parse(heldSince ?? "");
  if (error.code === "beamtime-ended") return held > ENDED_FOR_MS;
  if (error.code !== "no-reservation-fits") return false;
  return error instanceof Rejected || held > HELD_AT_MOST_MS;
}

/** Where a job was submitted again, or what other job of Slurm runs it. */
export type Moved = Pick<
  NonNullable<JobRecords["submitted"]>,
  "runId" | "reservation" | "partition" | "why" | "at"
>;

/** A job's directory can say that it was submitted again: but no process is, and no job without end. */
const MOST_MOVES = 20;

export function mayMove({ data, moved = 0, retries = 0 }: TrackingRecord): boolean {
  return data.process === null && moved < MOST_MOVES + retries;
}

/** The record of a job that was submitted again. */
export function movedRecord(record: TrackingRecord, moved: Moved): TrackingRecord {
  const next = { ...record, data: movedTo(record, moved), moved: (record.moved ?? 0) + 1 };
  if (moved.why !== "reservation-deleted" && moved.why !== "slurm-forgot")
    next.retried = (record.retried ?? 0) + 1;
  delete next.heldSince;
  return next;
}

/** How a job ends that no reservation is left for. */
export function endOfUnplaced(at: Date, why: string): [JobEnd, EndFacts] {
  return [
    { state: "failed", code: null, signal: null, reason: "reservation-deleted" },
    { at: at.toISOString(), why, found: NO_RESULTS, log: "", slurmState: null },
  ];
}

/** How a job has ended that was cancelled because it was held, where nobody could submit it again. */
export function endOfHeld(
  { record: { data, heldSince }, cancelled }: Pick<Watched, "record" | "cancelled">,
  end: JobEnd,
  facts: EndFacts,
): [JobEnd, EndFacts] {
  const wasHeld = heldSince !== undefined && data.times.started === null && cancelled === undefined;
  if (data.job.method !== "slurm-rest-api" || !wasHeld || end.state !== "cancelled") return [end, facts];
  const why = "Over Slurm's REST API it is not submitted again; replay its message with --again.";
  return [
    { state: "failed", code: null, signal: null, reason: "reservation-deleted" },
    { ...facts, why },
  ];
}

/** What is announced of a job that was submitted again: it waits anew. */
function movedTo({ data }: TrackingRecord, { runId, reservation, partition, why, at }: Moved): JobEventData {
  const where = reservation === null ? `partition ${partition ?? ""}` : `reservation ${reservation}`;
  // Of two jobs that were submitted over the REST API at the same instant, the other one runs.
  const isOther = data.job.method === "slurm-rest-api";
  const message =
    why === "reservation-deleted"
      ? `Reservation ${data.slurm.reservation ?? ""} was deleted before the job could run.`
      : `${ERROR_CODES[why].replace(/\.$/, "")} (Slurm job ${data.slurm.jobId ?? ""}).`;
  return {
    ...data,
    job: { ...data.job, state: "submitted" },
    slurm: { jobId: runId, reservation, partition, nodes: [] },
    times: { ...data.times, submitted: at ?? data.times.submitted, started: null },
    error: isOther ? null : { code: why, message, hint: `It was submitted again, in ${where}.` },
  };
}
