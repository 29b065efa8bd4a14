import { MentoError, Unavailable } from "../errors.ts";
import { lastLines } from "../shells/answer-lines.ts";
import { isTerminal } from "../jobs/job.ts";
import type { CancelOutcome } from "../messages/job-cancel.ts";
import type { JobEventData } from "../messages/job-event.ts";
import type { Shell } from "../shells/shell.ts";

/** By its last event; undefined if that was not its end. A lost job may live. */
export function goneSince({ job, exit, times, cancelledBy }: JobEventData): CancelOutcome | undefined {
  const { id, state } = job;
  if (!isTerminal(state) || state === "lost") return undefined;
  const { code, signal, reason } = exit ?? { code: null, signal: null, reason: null };
  const end = { state, code, signal, reason, at: times.ended };
  return { job: id, id, outcome: "gone", end, cancelledBy, error: null };
}

export function unknown(job: string, message: string, hint: string): CancelOutcome {
  const error = { code: "job-unknown", message, hint } as const;
  return { job, id: null, outcome: "unknown", end: null, cancelledBy: null, error };
}

/** @throws what is no error of ours */
export function failed(job: string, error: unknown): CancelOutcome {
  if (!(error instanceof MentoError)) throw error;
  const { code, message, hint } = error;
  return { job, id: job, outcome: "failed", end: null, cancelledBy: null, error: { code, message, hint } };
}

export function slurmSilent({ host }: Shell): Unavailable {
  return new Unavailable({
    code: "slurm-unavailable",
    message: `Slurm on ${host} does not answer: whether the job lives is not known.`,
    hint: "Try again when it does; `squeue` on the node says more.",
  });
}

/** Of a process whose directory names this host, to which no way leads from here. */
export function outOfReach(id: string, host: string, isOfSession: boolean): CancelOutcome {
  if (isOfSession) {
    return unknown(
      id,
      `Where job ${id} runs is not known: its directory names ${host}, which is no host of its session.`,
      "Look for its process on the session's nodes, as the account that it runs as.",
    );
  }
  const error = new Unavailable({
    code: "worker-silent",
    message: `Job ${id} is a process on ${host}, and can be cancelled there alone.`,
    hint: `Run \`mento cancel ${id}\` on ${host}.`,
  });
  return failed(id, error);
}

export function refused(id: string, said: string): MentoError {
  return new MentoError({
    code: "cancel-refused",
    message: `Job ${id} still lives: ${lastLines(said).at(-1) || "nobody says why"}.`,
    hint: "Try it with scancel, or kill, as the account that the job runs as.",
  });
}
