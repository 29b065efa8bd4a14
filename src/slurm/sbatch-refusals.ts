import { SBATCH_FAILED, SBATCH_FATAL, SUBMIT_FAILED } from "./sbatch-call.ts";

/**
 * What an `sbatch` that failed means for its job.
 *
 * - never: Slurm will refuse the same job again
 * - later: it refuses the job at the moment
 * - nobody: the controller does not answer; the job may have been created all the same
 *
 * Anything else is unknown: the job is looked for.
 */
export type Refusal = "never" | "later" | "nobody";

/**
 * Texts of Slurm's errors, whole: slurm_errno.c of 22.05.8 and 24.11.5. Not all of them are here, but those that
 * `slurmctld` answers a submit with, which it then has not taken; and those that say that it has not answered.
 */
const ERRORS: Record<Refusal, readonly string[]> = {
  never: [
    "Invalid partition name specified",
    "No partition specified or system default partition",
    "User's group not permitted to use this partition",
    "Requested nodes not in this partition",
    "More processors requested than permitted",
    "Node count specification invalid",
    "Job size specification needs to be provided",
    "Job script not specified",
    "Pathname of a file, directory or other parameter too long",
    "Requested node configuration is not available",
    "Requested topology configuration is not available",
    "Invalid node name specified",
    "Task distribution specification invalid",
    "Task count specification invalid",
    "CPU count specification invalid",
    "Invalid feature specification",
    "Invalid preferred feature specification",
    "Job dependency problem",
    "Circular job dependency",
    "Memory required by task is not available",
    "Invalid qos specification",
    "Invalid wckey specification",
    "Invalid license specification",
    "Invalid mcs_label specified",
    "Invalid generic resource (gres) specification",
    "Duplicate generic resource (gres) specification",
    "Invalid GRES specification (with and without type identification)",
    "Requested GRES option unsupported by configured SelectType plugin",
    "Invalid Trackable RESource (TRES) specification",
    "Invalid extra constraints specification",
    "Requested time limit is invalid (missing or exceeds some limit)",
    "Time limit specification required, but not provided",
    "Invalid time-min specification (exceeds job's time or other limits)",
    "Invalid time specified",
    "Invalid job array specification",
    "Invalid --nice value",
    "Job --batch option is invalid or not a subset of --constraints",
    "Job --batch option is invalid or not a subset of --constraint",
    "Cannot request more threads per core than the job allocation",
    "Burst Buffer request invalid",
    "Container support is not configured",
    "X11 forwarding not available",
    "Requested operation not supported on this system",
    "Invalid cluster name",
  ],
  later: [
    "Access/permission denied",
    "Access denied to requested reservation",
    "Requested reservation is invalid",
    "Requested reservation not usable now",
    "Requested partition configuration not available now",
    "Required partition not available (inactive or drain)",
    "Required node not available (down, drained or reserved)",
    "Partition in DOWN state",
    "Invalid account or account/partition combination specified",
    "Invalid or unknown association",
    "Invalid user id",
    "Invalid group id",
    "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
    "Requested account has breached requested QOS usage threshold",
    "Unable to create job record, try again",
    "I/O error writing script/environment to file",
    "Burst Buffer permission denied",
    "Burst Buffer resource limit exceeded",
    "Licenses currently unavailable",
    "Job can not start due to maintenance reservation.",
    "System submissions disabled",
    "Requested operation is presently disabled",
    "Rate limit exceeded, please retry momentarily",
    "Rate limit exceeded, please retry later",
  ],
  nobody: [
    "Unable to contact slurm controller (connect failure)",
    "Unable to contact slurm controller (send failure)",
    "Unable to contact slurm controller (receive failure)",
    "Unable to contact slurm controller (shutdown failure)",
    "Communication connection failure",
    "Message send failure",
    "Message receive failure",
    "Communication shutdown failure",
    "Socket timed out on send/recv operation",
    "Zero Bytes were transmitted or received",
    "Slurm backup controller in standby mode",
    "Controller is in standby mode, try a different controller",
    // strerror(3)
    "Connection refused",
    "Connection reset by peer",
    "Connection timed out",
  ],
};

const MEANINGS = new Map(
  (["never", "later", "nobody"] as const).flatMap((meaning) =>
    ERRORS[meaning].map((text) => [text, meaning]),
  ),
);

/**
 * What `sbatch` says, and nobody else, of options that it does not send to Slurm at all: sbatch.c, slurm_opt.c and
 * proc_args.c of 22.05.8 and 24.11.5, and glibc's getopt.
 */
const OPTIONS_REFUSED = [
  /^sbatch: (error|fatal): Invalid (--[\w-]+|-W umask=) (specification|argument|value|combo|node file)\b/,
  /^sbatch: error: Invalid directive found in batch script: /,
  /^sbatch: error: Invalid numeric value "[^"]*" for /,
  /^sbatch: error: (invalid number of (tasks|nodes|cpus per task) \(|invalid --[\w-]+=|unrecognized --[\w-]+ argument )/,
  /^sbatch: (error|fatal): --[\w-]+(=\S+)? .*(mutually exclusive|is not valid|only permitted)/,
  /^(\S*\/)?sbatch: (unrecognized option|invalid option|option) /,
  /^sbatch: error: Batch script (is empty!|contains )/,
  /^sbatch: error: This does not look like a batch script\./,
];

/** sbatch found no controller to send anything to. */
const NO_CONTROLLER = `${SBATCH_FATAL}Could not establish a configuration source`;

/** What `sbatch` says itself; getopt knows it by its path. */
const OF_SBATCH = /^(\S*\/)?sbatch: (error: |fatal: )?(Batch job submission failed: )?/;
/** Of a job that was made: {@link ASK_SBATCH}. */
const IS_ID = /^[1-9]\d*(;[\w.-]+)?$/;

export interface SbatchFailure {
  /** undefined: whether Slurm has the job is not known. */
  meaning: Refusal | undefined;
  /** The line that says why; the last one, if it is not known which does. */
  said: string;
}

const MOST_STDERR = 64 * 1024;
const MOST_LINE = 2048;

/**
 * @param exitCode 0: it ended well, but said no id, or more than that
 * @param printed by `sbatch`, and whatever stands before it: a warning may look like a refusal, so what it says last counts
 */
export function failureOf(exitCode: number, printed: string): SbatchFailure {
  // The account may have put a program of its own before Slurm's: what it prints is read in bounded time.
  const lines = printed
    .slice(-MOST_STDERR)
    .split("\n")
    .map((line) => line.slice(0, MOST_LINE).trim())
    .filter((line) => line !== "");
  const last = lines.at(-1) ?? "";
  if (exitCode !== SBATCH_FAILED || lines.some((line) => IS_ID.test(line))) {
    return { meaning: undefined, said: last };
  }
  const reason = lines.findLast((line) => OF_SBATCH.test(line)) ?? last;
  const said = reason.replace(OF_SBATCH, "");
  if (reason.startsWith(SUBMIT_FAILED)) return { meaning: MEANINGS.get(said), said };
  if (reason.startsWith(NO_CONTROLLER)) return { meaning: "nobody", said };
  return { meaning: OPTIONS_REFUSED.some((form) => form.test(reason)) ? "never" : undefined, said };
}

/** What one of Slurm's texts means, wherever it stands: of an answer that is known to be a refusal. */
export function meaningOfText(text: string): Refusal | undefined {
  return [...MEANINGS].find(([known]) => text.includes(known))?.[1];
}
