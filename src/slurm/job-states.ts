import type { ExitReason } from "../messages/job-event.ts";

/** What a state of Slurm means: the job goes on, or it has ended so. */
export type SlurmMeaning =
  "goes-on" | { state: "completed" | "failed" | "cancelled"; reason: ExitReason | null };

const failed = (reason: ExitReason) => ({ state: "failed", reason }) as const;

/**
 * Every state of Slurm that a job can be shown in, by `squeue` and `sacct`: `job_state_string` of Slurm's source, 22.05
 * to 25.11, which is the list of squeue(1), JOB STATE CODES, made whole. Those that wait for an operator (REQUEUE_HOLD, SPECIAL_EXIT, STOPPED) are no ends.
 */
export const SLURM_STATES: readonly [short: string, long: string, SlurmMeaning][] = [
  ["CD", "COMPLETED", { state: "completed", reason: null }],
  ["CA", "CANCELLED", { state: "cancelled", reason: null }],
  ["F", "FAILED", failed("exit-code")],
  ["TO", "TIMEOUT", failed("timeout")],
  ["OOM", "OUT_OF_MEMORY", failed("out-of-memory")],
  ["NF", "NODE_FAIL", failed("node-failure")],
  ["BF", "BOOT_FAIL", failed("node-failure")],
  ["PR", "PREEMPTED", failed("preempted")],
  ["DL", "DEADLINE", failed("deadline")],
  ["PD", "PENDING", "goes-on"],
  ["R", "RUNNING", "goes-on"],
  ["S", "SUSPENDED", "goes-on"],
  ["CF", "CONFIGURING", "goes-on"],
  ["CG", "COMPLETING", "goes-on"],
  ["RD", "RESV_DEL_HOLD", "goes-on"],
  ["RF", "REQUEUE_FED", "goes-on"],
  ["RH", "REQUEUE_HOLD", "goes-on"],
  ["RQ", "REQUEUED", "goes-on"],
  ["RS", "RESIZING", "goes-on"],
  ["RV", "REVOKED", "goes-on"],
  ["SE", "SPECIAL_EXIT", "goes-on"],
  ["SI", "SIGNALING", "goes-on"],
  ["SO", "STAGE_OUT", "goes-on"],
  ["ST", "STOPPED", "goes-on"],
  ["EX", "EXPEDITING", "goes-on"],
];

/**
 * What Slurm's report on a job means, in its long form (`CANCELLED by 1234`), cut off (`OUT_OF_ME+`) or short (`TO`);
 * undefined for a state that is not known: such a job goes on being watched.
 */
export function meaningOf(slurmState: string): SlurmMeaning | undefined {
  const [word = ""] = slurmState.trim().split(" ", 1);
  const cut = word.endsWith("+") && word.length > 3 ? word.slice(0, -1) : undefined;
  const fits = ([short, long]: (typeof SLURM_STATES)[number]) =>
    cut === undefined ? word === long || word === short : long.startsWith(cut);
  const found = SLURM_STATES.filter(fits).map(([, , meaning]) => meaning);
  // Cut off too early, it may be one of two.
  return found.length === 1 ? found[0] : undefined;
}

/** How the job has ended, if Slurm says that it has. */
export function endFromSlurm(slurmState: string): Exclude<SlurmMeaning, "goes-on"> | undefined {
  const meaning = meaningOf(slurmState);
  return meaning === "goes-on" ? undefined : meaning;
}

/** What Slurm reports of one job, by `squeue`, accounting or its REST API. */
export interface ReportedState {
  id: string;
  /** In any form that {@link endFromSlurm} knows. */
  state: string;
  /** Why it waits, or how it ended; `squeue` alone says. */
  reason?: string;
  /** The nodes it was given. */
  nodes?: string;
  /** `7:0`: code and signal; accounting says it, `squeue` does not. */
  exitCode?: string;
  /** The end of its log. */
  log?: string;
  /** When it ended, RFC 3339, to the second; undefined: it has not, or Slurm does not say. */
  endedAt?: string | undefined;
}

/** A word on a job, and by what it is known to be ours. */
export interface ReportedJob extends ReportedState {
  comment: string;
  directory: string;
  /** The job of Slurm that runs ours in place of the one that was asked for, and where. */
  instead?: { runId: string; reservation: string | null; partition: string | null };
}
