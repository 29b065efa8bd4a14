import type { ExitReason, JobState } from "../messages/job-event.ts";

/**
 * The life of a job.
 *
 * - submitted: Slurm has taken it
 * - started: the run script has recorded its start on the node
 * - completed: the program ended with exit code 0
 * - failed: it ended in any other way that nobody asked for
 * - cancelled: a person or a program cancelled it
 * - lost: nothing has been seen of it for so long that a person must look
 */
const NEXT: Record<JobState, readonly JobState[]> = {
  submitted: ["started", "completed", "failed", "cancelled", "lost"],
  started: ["completed", "failed", "cancelled", "lost"],
  completed: [],
  failed: [],
  cancelled: [],
  lost: [],
};

export function isTerminal(state: JobState): boolean {
  return NEXT[state].length === 0;
}

/** The next state, or an error: an illegal step is a bug. */
export function advance(from: JobState, to: JobState): JobState {
  if (NEXT[from].includes(to)) return to;
  throw new Error(`a job cannot go from ${from} to ${to}`);
}

export interface JobEnd {
  state: "completed" | "failed" | "cancelled";
  code: number | null;
  signal: string | null;
  reason: ExitReason | null;
}

/** What the run script wrote when the program had ended. */
export interface EndRecord {
  at: string;
  /** The exit code as the shell saw it: 128 + n for a program that was ended by signal n. */
  code: number;
  /** The signal that Slurm sent to the script meanwhile, if any. */
  stoppedBy: string | null;
}

/**
 * Slurm's word on a job that has ended (squeue(1), JOB STATE CODES, Slurm 22.05), or undefined for a state that is
 * not an end, or that is unknown: such a job goes on being watched.
 */
export function endFromSlurm(
  slurmState: string,
): { state: JobEnd["state"]; reason: ExitReason | null } | undefined {
  return SLURM_ENDS[slurmState.split(/[ +]/, 1)[0] ?? ""];
}

const SLURM_ENDS: Record<string, { state: JobEnd["state"]; reason: ExitReason | null }> = {
  COMPLETED: { state: "completed", reason: null },
  FAILED: { state: "failed", reason: "exit-code" },
  TIMEOUT: { state: "failed", reason: "timeout" },
  OUT_OF_MEMORY: { state: "failed", reason: "out-of-memory" },
  NODE_FAIL: { state: "failed", reason: "node-failure" },
  BOOT_FAIL: { state: "failed", reason: "node-failure" },
  PREEMPTED: { state: "failed", reason: "preempted" },
  DEADLINE: { state: "failed", reason: "deadline" },
  CANCELLED: { state: "cancelled", reason: null },
};

/** The end that the run script's record alone proves, or undefined if Slurm must say why it was stopped. */
export function endFromRecord(record: EndRecord): JobEnd | undefined {
  if (record.stoppedBy !== null) return undefined;
  if (record.code === 0) return { state: "completed", code: 0, signal: null, reason: null };
  const signal = signalOf(record.code);
  // Slurm's memory limit kills with SIGKILL; only Slurm can tell that from any other kill.
  if (signal === "SIGKILL") return undefined;
  return signal === null
    ? { state: "failed", code: record.code, signal: null, reason: "exit-code" }
    : { state: "failed", code: record.code, signal, reason: "signal" };
}

/** The same when Slurm has nothing to say any more. */
export function endFromRecordAlone(record: EndRecord): JobEnd {
  const { code } = record;
  if (code === 0) return { state: "completed", code, signal: null, reason: null };
  const signal = signalOf(code) ?? record.stoppedBy;
  return { state: "failed", code, signal, reason: signal === null ? "exit-code" : "signal" };
}

/** The end of a job that was stopped from outside: Slurm's state says why, the record how. */
export function endFromBoth(record: EndRecord, slurmState: string): JobEnd | undefined {
  const end = endFromSlurm(slurmState);
  if (end === undefined) return undefined;
  const signal = record.code === 0 ? null : (signalOf(record.code) ?? record.stoppedBy);
  if (end.state === "completed" && record.code !== 0) {
    return { state: "failed", code: record.code, signal, reason: signal === null ? "exit-code" : "signal" };
  }
  const reason = end.reason === "exit-code" && signal !== null ? "signal" : end.reason;
  return { state: end.state, code: record.code, signal, reason };
}

/** The end of a job that left no record: only Slurm's state and its exit code (`7:0`, `0:9`: code, signal). */
export function endFromSlurmAlone(slurmState: string, exitCode: string): JobEnd | undefined {
  const end = endFromSlurm(slurmState);
  if (end === undefined) return undefined;
  const [code, number] = exitCode.split(":").map(Number);
  const signal = number !== undefined && number > 0 ? (SIGNALS[number] ?? `signal ${number}`) : null;
  const reason = end.reason === "exit-code" && signal !== null ? "signal" : end.reason;
  return { state: end.state, code: code ?? null, signal, reason };
}

function signalOf(code: number): string | null {
  if (code <= 128 || code > 128 + 64) return null;
  return SIGNALS[code - 128] ?? `signal ${code - 128}`;
}

/** Linux, signal(7), the numbers of x86 and ARM. */
const SIGNALS: Record<number, string> = {
  1: "SIGHUP",
  2: "SIGINT",
  3: "SIGQUIT",
  4: "SIGILL",
  5: "SIGTRAP",
  6: "SIGABRT",
  7: "SIGBUS",
  8: "SIGFPE",
  9: "SIGKILL",
  10: "SIGUSR1",
  11: "SIGSEGV",
  12: "SIGUSR2",
  13: "SIGPIPE",
  14: "SIGALRM",
  15: "SIGTERM",
  24: "SIGXCPU",
  25: "SIGXFSZ",
  31: "SIGSYS",
};

/** The sentence and hint of a failed job's event. `lastLines` is the end of its log. */
export function describeFailure(end: JobEnd, slurmState: string | null, lastLines: string): string {
  const what: Record<ExitReason, string> = {
    "exit-code": `The program ended with exit code ${end.code ?? "unknown"}`,
    signal: `The program was ended by ${end.signal ?? "a signal"}`,
    timeout: "The job ran into its time limit",
    "out-of-memory": "The job used more memory than it had asked for",
    "node-failure": "The node failed while the job ran",
    preempted: "Slurm took the node away for another job",
    deadline: "The job's reservation, or its deadline, ended before the job did",
    "launch-failed": "Slurm could not start the job on its node",
    "reservation-deleted": "The job's reservation was deleted",
  };
  const said = lastLines.trim();
  const reason = end.reason === null ? `The job ended as ${slurmState ?? "failed"}` : what[end.reason];
  return said === "" ? `${reason}.` : `${reason}. Its log ends: ${said}`;
}
