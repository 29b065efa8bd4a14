import type { ExitReason, JobMethod, JobState } from "../messages/job-event.ts";
import { endFromSlurm } from "../slurm/job-states.ts";
import { UNPREPARED } from "./run-script.ts";

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
  /** The kernel has killed one of the job's processes for memory: perhaps only a child, and the program went on. */
  outOfMemory: boolean;
  /** The program was not run, since not all that it was promised could be written. */
  isUnprepared?: boolean;
}

/** The end that the run script's record alone proves, or undefined if Slurm must say why it was stopped. */
export function endFromRecord(record: EndRecord): JobEnd | undefined {
  if (record.isUnprepared === true) return NOT_PREPARED;
  if (record.stoppedBy !== null || record.outOfMemory) return undefined;
  if (record.code === 0) return { state: "completed", code: 0, signal: null, reason: null };
  const signal = signalOf(record.code);
  // Slurm's memory limit kills with SIGKILL; only Slurm can tell that from any other kill. Its SIGTERM, for a
  // cancellation or the time limit, goes to one process after the other: to the script perhaps too late.
  if (signal === "SIGKILL" || signal === "SIGTERM") return undefined;
  return signal === null
    ? { state: "failed", code: record.code, signal: null, reason: "exit-code" }
    : { state: "failed", code: record.code, signal, reason: "signal" };
}

const NOT_PREPARED: JobEnd = { state: "failed", code: null, signal: null, reason: "not-prepared" };

/** Nothing more is known of it. */
export const CANCELLED: JobEnd = { state: "cancelled", code: null, signal: null, reason: null };

/**
 * The same when Slurm has nothing to say any more.
 *
 * @param isAsked whether somebody has asked Mento to cancel it
 */
export function endFromRecordAlone(record: EndRecord, isAsked = false): JobEnd {
  const { code } = record;
  if (code === 0) return { state: "completed", code, signal: null, reason: null };
  const signal = signalOf(code) ?? record.stoppedBy;
  // The signal goes to one process after the other: the script may have ended before its own comes.
  if (isAsked && (record.stoppedBy !== null || signal === "SIGTERM")) return { ...CANCELLED, code, signal };
  if (record.outOfMemory) return { state: "failed", code, signal, reason: "out-of-memory" };
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

/** What Slurm says of a job that has left no record of its end. */
export interface SlurmEnd {
  state: string;
  /** `7:0`, `0:9`: code and signal. */
  exitCode: string;
  /** The nodes it was given; empty if it never got one. */
  nodes: string;
  /** Whether its script has recorded its start. */
  hasStarted: boolean;
  /** Whether somebody has asked Mento to cancel it. */
  isAsked?: boolean;
  /** The end of its log, where the node's slurmstepd writes too. */
  log: string;
}

/** `0:53`: the batch script could not be set up on its node, for instance because its log could not be opened. */
const LAUNCH_FAILED = "0:53";
/** By the exit code of a run script that has not run the program, without a record of its start. */
const IS_UNPREPARED = `${UNPREPARED}:0`;
/** slurmstepd's words when it kills for memory without cgroups: the state is then FAILED. */
const MEMORY_KILL = /exceeded (job |step )?memory limit|oom.kill/i;

/**
 * Whether the script has begun, as far as can be known. Records of a job over the REST API may lie where nobody here can
 * read them: then an exit code is the program's, unless it is slurmstepd's own, or says that the script has not run it.
 */
export function hasBegun(
  method: JobMethod | undefined,
  isRecorded: boolean,
  exitCode: string | undefined,
): boolean {
  const isSlurms = exitCode === LAUNCH_FAILED || exitCode === IS_UNPREPARED;
  return isRecorded || (method === "slurm-rest-api" && !isSlurms);
}

/**
 * The end of a job that left no record. What Slurm 22.05 says was recorded: `JobLaunchFailure` is the reason of every job
 * that a signal has ended, and a failed prolog makes it CANCELLED, on a node and before its script began.
 */
export function endFromSlurmAlone({
  state,
  exitCode,
  nodes,
  hasStarted,
  isAsked = false,
  log,
}: SlurmEnd): JobEnd | undefined {
  const end = endFromSlurm(state);
  if (end === undefined) return undefined;
  const without = { code: null, signal: null };
  // Before the program runs, its start is recorded: an exit code without that is the script's, or slurmstepd's.
  if (!hasStarted && end.reason === "exit-code" && exitCode === IS_UNPREPARED) return NOT_PREPARED;
  const hasExitCode =
    exitCode === LAUNCH_FAILED || (end.reason === "exit-code" && /^[1-9]\d*:0$/.test(exitCode));
  const neverRan = hasExitCode || (end.state === "cancelled" && nodes !== "" && !isAsked);
  if (!hasStarted && neverRan) return { state: "failed", ...without, reason: "launch-failed" };
  const [code = 0, number = 0] = exitCode.split(":").map(Number);
  const signal = number > 0 ? (SIGNALS[number] ?? `signal ${number}`) : null;
  switch (end.reason) {
    case "exit-code":
      if (signal === "SIGKILL" && MEMORY_KILL.test(log)) {
        return { state: "failed", code: null, signal, reason: "out-of-memory" };
      }
      return { ...end, code, signal, reason: signal === null ? "exit-code" : "signal" };
    case null:
    case "timeout":
    case "preempted":
      return { ...end, code, signal };
    default:
      // Numbers of Slurm's own, like the 0:125 of the memory limit.
      return { ...end, ...without };
  }
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
    "not-prepared": "The job could not be prepared on its node, and its program did not run",
    "reservation-deleted": "The job's reservation was deleted",
  };
  const said = lastLines.trim();
  const reason = end.reason === null ? `The job ended as ${slurmState ?? "failed"}` : what[end.reason];
  return said === "" ? `${reason}.` : `${reason}. Its log ends: ${said}`;
}
