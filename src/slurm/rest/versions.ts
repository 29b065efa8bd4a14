import * as z from "zod";
import { expandHostlist } from "../hostlist.ts";
import type { SlurmNode, SlurmReservation } from "../slurm-now.ts";
import { cut } from "../../text/cut.ts";
import { slurmIdOf } from "./answer.ts";
import type { ReportedState } from "../job-states.ts";
import { endOf } from "../squeue.ts";

/**
 * All that differs between the versions of Slurm's REST API. Read in SchedMD/slurm:
 *
 * - v0.0.38, Slurm 22.05 to 23.02: the options of `src/plugins/openapi/v0.0.38/jobs.c`, as `src/common/slurm_opt.c` reads
 *   them, and what `reservations.c` and `nodes.c` print; `openapi.json` beside them is wrong in places
 * - v0.0.39 and later: `PARSER_ARRAY(JOB_DESC_MSG)`, `…(JOB_INFO)`, `…(RESERVATION_INFO)`, `…(NODE)` and
 *   `PARSER_FLAG_ARRAY(NODE_STATES)` in `src/plugins/data_parser/v0.0.NN/parsers.c`
 */
export const API_VERSIONS = [
  "v0.0.38",
  "v0.0.39",
  "v0.0.40",
  "v0.0.41",
  "v0.0.42",
  "v0.0.43",
  "v0.0.44",
  "v0.0.45",
] as const;
export type ApiVersion = (typeof API_VERSIONS)[number];

/** The newest of the versions on offer that is known here. */
export function newestKnown(offered: readonly string[]): ApiVersion | undefined {
  return API_VERSIONS.findLast((version) => offered.includes(version));
}

/** A batch job. Its log is appended to, and Slurm never starts it again by itself, as in `sbatchArguments`. */
export interface RestJob {
  script: string;
  name: string;
  comment: string;
  /** Where the script starts. */
  directory: string;
  standardOutput: string;
  /** All that the script has in its environment but Slurm's own: at least PATH. */
  environment: Readonly<Record<string, string>>;
  timeLimitMinutes?: number | null | undefined;
  account?: string | null | undefined;
  partition?: string | null | undefined;
  reservation?: string | null | undefined;
  /** Features that its nodes must have, as sbatch's. */
  constraint?: string | null | undefined;
  nodes?: number | null | undefined;
  tasks?: number | null | undefined;
  cpusPerTask?: number | null | undefined;
  /** Per node, in MB of 1024 kB. */
  memoryMb?: number | null | undefined;
  dependency?: string | null | undefined;
  qos?: string | null | undefined;
  /** Per node, as sbatch's: `gpu:1`. */
  gres?: string | null | undefined;
  /** Whole nodes, which no other job shares. */
  exclusive?: boolean | undefined;
  /** How far others pass it, as sbatch's; not told to those that {@link NICE_IS_FATAL}. */
  nice?: number | null | undefined;
}

/** slurmrestd of Slurm 23.02 to 23.11.0 aborts when it reads `nice` (`PARSE_DISABLED(NICE)`). */
const NICE_IS_FATAL: readonly ApiVersion[] = ["v0.0.39", "v0.0.40"];

/** The body of `POST job/submit`. */
export function encodeSubmit(version: ApiVersion, job: RestJob): object {
  const isOld = version === "v0.0.38";
  const number = (value: number | null | undefined) =>
    value == null || isOld ? value : { set: true, infinite: false, number: value };
  // Without one Slurm says, with error 2127 or 2019, that the environment is missing.
  const environment =
    Object.keys(job.environment).length > 0 ? job.environment : { PATH: "/usr/local/bin:/usr/bin:/bin" };
  const description = {
    name: job.name,
    comment: job.comment,
    current_working_directory: job.directory,
    standard_output: job.standardOutput,
    account: job.account,
    partition: job.partition,
    reservation: job.reservation,
    constraints: job.constraint,
    dependency: job.dependency,
    qos: job.qos,
    tasks: job.tasks,
    cpus_per_task: job.cpusPerTask,
    nice: NICE_IS_FATAL.includes(version) ? undefined : job.nice,
    // A list is taken too, but in v0.0.38 does not count as a wish.
    nodes: job.nodes?.toString(),
    time_limit: number(job.timeLimitMinutes == null ? null : Math.ceil(job.timeLimitMinutes)),
    memory_per_node: number(job.memoryMb == null ? null : Math.ceil(job.memoryMb)),
    ...(isOld
      ? {
          environment,
          open_mode: "append",
          // `requeue: false` is read as true.
          no_requeue: true,
          gres: job.gres,
          // `openapi.json` says `true`, which is refused.
          exclusive: job.exclusive === true ? "exclusive" : undefined,
        }
      : {
          environment: Object.entries(environment).map(([name, value]) => `${name}=${value}`),
          open_mode: ["APPEND"],
          requeue: false,
          tres_per_node: job.gres == null ? undefined : tresOf(version, job.gres),
          // `exclusive` is gone from v0.0.42.
          shared: job.exclusive === true ? ["none"] : undefined,
        }),
  };
  const given = Object.fromEntries(Object.entries(description).filter(([, value]) => value != null));
  return isOld ? { script: job.script, job: given } : { job: { ...given, script: job.script } };
}

/** As `gres_prepend_tres_type` of `src/interfaces/gres.c`: Slurm 23.02 reads `gres:` alone, 23.11 and later `gres/`. */
function tresOf(version: ApiVersion, gres: string): string {
  const prefix = version === "v0.0.39" ? "gres:" : "gres/";
  return gres
    .split(",")
    .map((one) => prefix + one)
    .join(",");
}

/** A job as Slurm has it. */
export interface ListedJob extends ReportedState {
  reason: string;
  nodes: string;
  /** Our job comment, and the job directory: an id alone may be another job's, for Slurm begins again at its MaxJobId. */
  comment: string;
  directory: string;
  /** Empty where slurmrestd's host does not know the account. */
  user: string;
  /** Empty without. */
  reservation: string;
  partition: string;
}

/** Before v0.0.39 a number, or null; since then an object; a few fields are numbers for ever. */
const SlurmNumber = z
  .union([
    z.number(),
    z.looseObject({ set: z.boolean(), infinite: z.boolean(), number: z.number() }),
    z.null(),
  ])
  .transform((value) => (typeof value !== "object" ? value : value?.set === true ? value.number : undefined))
  .optional();

/** As a line of `squeue`: nodes, a directory. */
const LONGEST_TEXT = 64 * 1024;

const text = z
  .string()
  .nullish()
  .transform((value) => cut(value ?? "", LONGEST_TEXT));

/** v0.0.40 and later: a status, a code and a signal. Earlier: what wait(2) gives. */
const ExitCode = z
  .union([
    z.looseObject({ return_code: SlurmNumber, signal: z.looseObject({ id: SlurmNumber }) }),
    SlurmNumber,
  ])
  .transform((value) => {
    if (typeof value === "object") return `${value.return_code ?? 0}:${value.signal.id ?? 0}`;
    return value === undefined ? undefined : `${(value >> 8) & 0xff}:${value & 0x7f}`;
  });

const JobInfo = z.looseObject({
  /** A list since v0.0.40: a state and flags. */
  job_state: z.union([z.string(), z.array(z.string())]),
  state_reason: text,
  nodes: text,
  exit_code: ExitCode,
  comment: text,
  current_working_directory: text,
  user_name: text,
  resv_name: text,
  partition: text,
  start_time: SlurmNumber,
  end_time: SlurmNumber,
  time_limit: SlurmNumber,
});

/** False of a job that says that it is another's. */
export function mayBeOf(user: string, job: unknown): boolean {
  const named = typeof job === "object" && job !== null && "user_name" in job ? job.user_name : "";
  return typeof named !== "string" || ["", "nobody", user].includes(named);
}

/** The state of a job that is there, and of which no more can be read: none that Slurm has, and so no end. */
export const UNREADABLE = "UNREADABLE";

const Named = z.looseObject({ job_id: z.unknown().optional(), comment: z.unknown().optional() });

/** undefined for what has no id; or no state, nor a comment to tell which of our jobs it is. */
export function decodeJob(value: unknown): ListedJob | undefined {
  const { job_id, comment } = Named.safeParse(value).data ?? {};
  const id = slurmIdOf(job_id);
  if (id === undefined) return undefined;
  const job = JobInfo.safeParse(value).data;
  if (job === undefined) {
    return typeof comment === "string" ? unreadable(id, cut(comment, LONGEST_TEXT)) : undefined;
  }
  const state = stateOf(job.job_state);
  const { start_time: start, end_time: end, time_limit: minutes } = job;
  const used = start !== undefined && end !== undefined ? end - start : Infinity;
  return {
    id,
    // As in parseSqueue: Slurm 22.05 says TIMEOUT also where the reservation ended, before the job's own limit.
    state: state === "TIMEOUT" && used < (minutes ?? 0) * 60 ? "DEADLINE" : state,
    reason: job.state_reason,
    nodes: job.nodes,
    endedAt: endOf(state, end),
    ...(job.exit_code === undefined ? {} : { exitCode: job.exit_code }),
    comment: job.comment,
    directory: job.current_working_directory,
    user: job.user_name === "nobody" ? "" : job.user_name,
    reservation: job.resv_name,
    partition: job.partition,
  };
}

export function unreadable(id: string, comment: string): ListedJob {
  const nothing = { reason: "", nodes: "", directory: "", user: "", reservation: "", partition: "" };
  return { id, state: UNREADABLE, comment, ...nothing };
}

/** Flags that `squeue` shows in place of the state, in this order: `job_state_string` of Slurm, 22.05 to 26.05. */
const FLAGS = [
  "COMPLETING",
  "STAGE_OUT",
  "CONFIGURING",
  "EXPEDITING",
  "RESIZING",
  "REQUEUED",
  "REQUEUE_FED",
  "REQUEUE_HOLD",
  "SPECIAL_EXIT",
  "STOPPED",
  "REVOKED",
  "RESV_DEL_HOLD",
  "SIGNALING",
];

/** Flags that `squeue` shows nothing of: `PARSER_FLAG_ARRAY(JOB_STATE)`, v0.0.40 to v0.0.45. */
const SILENT_FLAGS = ["LAUNCH_FAILED", "UPDATE_DB", "RECONFIG_FAIL", "POWER_UP_NODE"];

const LONGEST_STATE = 100;

/** One word, as `squeue` has it. */
function stateOf(states: string | readonly string[]): string {
  if (typeof states === "string") return states.slice(0, LONGEST_STATE);
  const shown = FLAGS.find((flag) => states.includes(flag));
  return (shown ?? states.find((state) => !SILENT_FLAGS.includes(state)) ?? states[0] ?? "").slice(
    0,
    LONGEST_STATE,
  );
}

/** A list, or its words with commas between them: features are so in v0.0.38, users always. */
const Words = z
  .union([z.string(), z.array(z.string()), z.null()])
  .transform((words) => (typeof words === "string" ? words.split(",") : (words ?? [])))
  .transform((words) => words.filter((word) => word !== ""))
  .default([]);

const ReservationInfo = z.looseObject({
  name: z.string().min(1),
  partition: text,
  node_list: text,
  users: Words,
  start_time: SlurmNumber,
  end_time: SlurmNumber,
});

/** undefined for what has no name. */
export function decodeReservation(
  value: unknown,
  limit: { most?: number } = {},
): SlurmReservation | undefined {
  const one = ReservationInfo.safeParse(value).data;
  if (one === undefined) return undefined;
  const { name, partition, node_list: nodes, users, start_time: start = 0, end_time: end = Infinity } = one;
  return { name, partition: partition || null, nodes: expandHostlist(nodes, limit), start, end, users };
}

const NodeInfo = z.looseObject({
  name: z.string().min(1),
  /** v0.0.38: the state in small letters, its flags in `state_flags`; later both in one list. */
  state: z.union([z.string(), z.array(z.string())]),
  state_flags: Words,
  features: Words,
  /** v0.0.38's name, and that of all others. */
  idle_cpus: SlurmNumber,
  alloc_idle_cpus: SlurmNumber,
});

/** The states that `parseSlurmNow` knows by `sinfo`'s names for them: nodes that take no jobs. */
const DOWN = ["DOWN", "ERROR", "FUTURE", "INVALID", "INVALID_REG", "DRAIN", "FAIL", "BLOCKED"];
/** Flags in whose place `sinfo` says no `idle`. */
const BUSY = ["COMPLETING", "REBOOT_REQUESTED", "REBOOT_ISSUED"];

/** undefined for what has no name or no state. */
export function decodeNode(value: unknown): SlurmNode | undefined {
  const node = NodeInfo.safeParse(value).data;
  if (node === undefined) return undefined;
  const { name, features, state, state_flags: flags, idle_cpus: idle, alloc_idle_cpus: idleCpus } = node;
  const states = new Set([state, flags].flat().map((word) => word.toUpperCase()));
  const isAny = (words: readonly string[]) => words.some((word) => states.has(word));
  return {
    ...{ name, features },
    isIdle: states.has("IDLE") && !isAny(BUSY),
    isUp: !isAny(DOWN),
    idleCpus: idle ?? idleCpus ?? 0,
  };
}
