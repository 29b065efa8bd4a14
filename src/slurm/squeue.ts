import { quote } from "../shells/quote.ts";
import { answerLines, fieldsOf } from "../shells/answer-lines.ts";
import { READ_SECONDS, within } from "../shells/bounded-file.ts";
import { endFromSlurm } from "./job-states.ts";
import { slurmMoment, slurmSeconds } from "./slurm-time.ts";

/**
 * So long Slurm's programs are waited for: while its controller hangs, they try for minutes. Less than a command is let
 * take: it is Slurm then that does not answer, and not the node; and nothing is left behind there.
 */
export const FOR_A_WHILE = "timeout -k 5 20";
export const SQUEUE = `${FOR_A_WHILE} squeue`;

/** One job as `squeue` has it. */
export interface SlurmJob {
  /** `4711`, or `4711_3` of an array's task: that is known when the array is submitted, its own number is not. */
  id: string;
  /** The long form, e.g. `RUNNING`. */
  state: string;
  /** Why it waits, or how it ended, in Slurm's words. */
  reason: string;
  nodes: string;
  /** Our job comment, and the job directory: an id alone may be another job's, for Slurm begins again at its MaxJobId. */
  comment: string;
  directory: string;
  /** When it ended, RFC 3339; undefined: it has not, or Slurm does not say. */
  endedAt?: string | undefined;
}

/** All jobs of the account that Slurm's controller still knows: also those that ended lately (MinJobAge). */
export function squeueCommand(account: string): string {
  return `SLURM_TIME_FORMAT=%s ${SQUEUE} --array --noheader --states=all --user=${quote(account)} --format='%i|%T|%M|%l|%N|%k|%Z|%e|%r'`;
}

export function parseSqueue(output: string): Map<string, SlurmJob> {
  const jobs = new Map<string, SlurmJob>();
  for (const line of answerLines(output)) {
    const [id = "", said = "", used = "", limit = "", nodes = "", comment = "", directory = "", ...rest] =
      fieldsOf(line.trim(), "|", 9);
    const [end = "", reason = ""] = rest;
    if (!/^\d+(_\d+)?$/.test(id) || said === "") continue;
    const state = endedWithReservation(said, used, limit) ? "DEADLINE" : said;
    jobs.set(id, { id, state, nodes, comment, directory, reason, endedAt: endOf(state, end) });
  }
  return jobs;
}

/** Of a job that goes on Slurm says when it will have to end. */
export function endOf(state: string, moment: number | string | undefined): string | undefined {
  return endFromSlurm(state) === undefined ? undefined : slurmMoment(moment);
}

/** What neither `squeue` nor a record says of how a job ended; asked for one job, and only when it left no record. */
export function exitCommand(slurmJobId: string, directory: string): string {
  return `${FOR_A_WHILE} scontrol --oneliner show job ${quote(slurmJobId)}
echo mento-log
${within(READ_SECONDS, `tail -c 600 ${quote(directory)}/job.log 2>/dev/null`)}`;
}

/** `ExitCode=7:0` is code and signal, undefined if Slurm did not say; and the end of its log. */
export function parseExit(output: string): { exitCode: string | undefined; log: string } {
  const [said = "", log = ""] = output.split(/^mento-log\n/m, 2);
  return { exitCode: / ExitCode=(\d{1,3}:\d{1,3})(?!\d)/.exec(said)?.[1], log };
}

/**
 * Slurm held the job because its reservation was deleted, or is over (slurmctld, RESV_DEL_HOLD): it will never run by
 * itself, nor fail.
 */
export function isHeldForReservation({ state, reason = "" }: { state: string; reason?: string }): boolean {
  const said = reason.slice(0, 200);
  return (
    state === "RESV_DEL_HOLD" || (state === "PENDING" && /reservation\s?\S* ?(was )?deleted/i.test(said))
  );
}

/** Slurm 22.05 says TIMEOUT also of a job that it killed because its reservation ended, before the job's own limit. */
function endedWithReservation(state: string, used: string, limit: string): boolean {
  if (state !== "TIMEOUT") return false;
  return (slurmSeconds(used) ?? Infinity) < (slurmSeconds(limit) ?? 0);
}

/**
 * Cancels a job if it waits; both are words of the shell. For one waiting task of an array `scancel --state` takes all of
 * them, and without it the task leaves no trace (Slurm 22.05): a change of its own, here of its comment, parts it from them.
 */
export function cancelWaiting(id: string, jobComment: string): string {
  return cancelCommand(id, jobComment, "--state=PENDING ");
}

/** The same, whether it waits or runs. */
export function cancelOne(id: string, jobComment: string): string {
  return cancelCommand(id, jobComment, "");
}

function cancelCommand(id: string, jobComment: string, which: string): string {
  return `{
  case ${id} in *_*) ${FOR_A_WHILE} scontrol update JobId=${id} Comment=${jobComment} ;; esac && ${FOR_A_WHILE} scancel ${which}${id}
}`;
}

/** Makes a task of an array, of this id, a job of its own in Slurm's eyes. */
export function partTask(slurmJobId: string, jobComment: string): string {
  return `${FOR_A_WHILE} scontrol update JobId=${quote(slurmJobId)} Comment=${quote(jobComment)}`;
}

/** Cancels a job that waits, and prints what it is then. */
export function cancelHeldCommand(slurmJobId: string, jobComment: string): string {
  const id = quote(slurmJobId);
  return `${cancelWaiting(id, quote(jobComment))}; ${SQUEUE} --array --noheader --states=all --jobs=${id} --format=%T`;
}

/** By what {@link cancelHeldCommand} has printed. */
export function isCancelled(output: string): boolean {
  return /^CANCELLED/m.test(output);
}
