import { meant } from "../text/nearest.ts";

/** Flags that have a key of their own in `slurm`, by the names that sbatch has for them. */
const KEYS: Record<string, string> = {
  time: "time",
  "time-min": "timeMin",
  nodes: "nodes",
  ntasks: "tasks",
  "cpus-per-task": "cpusPerTask",
  mem: "memory",
  constraint: "constraint",
  gres: "gres",
  partition: "partition",
  reservation: "reservation",
  account: "account",
  qos: "qos",
  exclusive: "exclusive",
  dependency: "dependency",
};

const STARTS = "Mento starts it once, and from its own script";
const ENVIRONMENT = "the program's environment is made by Mento; set env";
const HERE = "the job would not be found where Mento looks for it";
const NO_JOB = "it submits nothing";

/** Flags that are Mento's, and why. */
const OWNED: Record<string, string> = {
  "job-name": "the job's name is the trigger's",
  comment: "Mento finds its job by it",
  chdir: "Mento keeps the job directory; set workdir for the program",
  output: "the job's log is job.log in its directory",
  error: "the job's log is job.log in its directory",
  input: "set stdin for the program",
  "open-mode": "a log is never cut off",
  parsable: "Mento reads the job's id from it",
  array: "an array has several ends, and a job of Mento one",
  wait: "Mento submits and watches; nobody waits",
  wrap: STARTS,
  requeue: STARTS,
  "no-requeue": STARTS,
  export: ENVIRONMENT,
  "export-file": ENVIRONMENT,
  "get-user-env": ENVIRONMENT,
  quiet: "its warnings are kept for whoever looks why it failed",
  clusters: HERE,
  uid: HERE,
  gid: HERE,
  "test-only": NO_JOB,
  help: NO_JOB,
  usage: NO_JOB,
  version: NO_JOB,
};

/**
 * The flag of Mento's, or with a key in `slurm`, that sbatch takes this name for: itself, or its beginning. One that
 * continues another's name is one of its own: --mem-per-cpu, --wait-all-nodes.
 */
function flagMeant(name: string): string | undefined {
  const known = [...Object.keys(KEYS), ...Object.keys(OWNED)];
  return known.includes(name) ? name : known.find((one) => one.startsWith(name));
}

const CHOSEN = "Mento chooses the reservation, of those of the session";

/** Flags that a user's own sbatch script has in vain, and why. */
export const NOT_FROM_SCRIPT: Readonly<Record<string, string>> = {
  ...OWNED,
  cluster: HERE,
  autocomplete: NO_JOB,
  partition: CHOSEN,
  reservation: CHOSEN,
};

/**
 * Why a flag cannot be passed on to sbatch, or undefined. sbatch takes a flag's beginning for the flag, so the beginning
 * of one that is Mento's is refused with it.
 */
export function extraFlagMistake(flag: string): string | undefined {
  const [, name] = /^--([a-z][a-z0-9-]*)(=[^\n\0]*)?$/.exec(flag) ?? [];
  if (name === undefined) {
    const [, short] = /^(-[A-Za-z])/.exec(flag) ?? [];
    return short === undefined
      ? "must be a flag of sbatch, --name or --name=value, as one text"
      : `must be the long form of ${short}, --name or --name=value, as one text`;
  }
  const meansFlag = flagMeant(name);
  if (meansFlag === undefined) return undefined;
  const key = KEYS[meansFlag];
  return key === undefined
    ? `--${meansFlag} is Mento's: ${OWNED[meansFlag] ?? ""}`
    : `--${meansFlag} has a key of its own: write slurm.${key}`;
}

const JOB = String.raw`\d+(_(\d+|\*))?`;
const DEPENDENCY_TYPES: Record<string, RegExp> = {
  after: new RegExp(`^(:${JOB}(\\+\\d+)?)+$`),
  ...Object.fromEntries(
    ["afterany", "afterburstbuffer", "aftercorr", "afternotok", "afterok"].map((type) => [
      type,
      new RegExp(`^(:${JOB})+$`),
    ]),
  ),
  singleton: /^$/,
};

/** sbatch(1), `--dependency`: `type:job[:job]`, several joined by `,` (all) or by `?` (any). */
export function dependencyMistake(text: string): string | undefined {
  if (text.includes(",") && text.includes("?")) return "must have either , (all) or ? (any), not both";
  for (const one of text.split(/[,?]/)) {
    const [, type = "", jobs = ""] = /^([A-Za-z]*)(.*)$/s.exec(one) ?? [];
    const form = DEPENDENCY_TYPES[type];
    if (form === undefined) {
      return `${JSON.stringify(one)} is no dependency of Slurm${meant(type, Object.keys(DEPENDENCY_TYPES))}`;
    }
    if (!form.test(jobs)) {
      return type === "singleton"
        ? "singleton stands alone: one job of the trigger at a time"
        : `${one} needs Slurm job ids, such as ${type}:4711 or ${type}:4711:4712`;
    }
  }
  return undefined;
}

/** `2h` → `02:00:00`, for people who write times as everybody else does. */
export function slurmTimeMistake(text: string): string {
  const [, number, unit] = /^\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*$/i.exec(text) ?? [];
  const seconds = SECONDS[unit?.toLowerCase() ?? ""];
  const forms = "must be a Slurm time such as 00:20:00, 45 (minutes) or 1-12:00:00";
  if (number === undefined || seconds === undefined) return forms;
  const whole = Math.round(Number(number) * seconds);
  const two = (part: number) => String(Math.floor(part)).padStart(2, "0");
  return `${forms}; ${text.trim()} is ${two(whole / 3600)}:${two((whole / 60) % 60)}:${two(whole % 60)}`;
}

const SECONDS: Record<string, number> = Object.fromEntries(
  [
    [1, "s sec secs second seconds"],
    [60, "m min mins minute minutes"],
    [3600, "h hour hours hrs hr"],
    [86_400, "d day days"],
  ].flatMap(([seconds, words]) =>
    String(words)
      .split(" ")
      .map((word) => [word, Number(seconds)]),
  ),
);

/** `4 GB` → `4G`. */
export function memoryMistake(text: string): string {
  const [, number, unit] = /^\s*(\d+)\s*([KMGT])i?B?\s*$/i.exec(text) ?? [];
  const form = "must be a size of Slurm such as 4G or 500M";
  return number === undefined ? form : `${form}; write ${number}${unit?.toUpperCase() ?? ""}`;
}
