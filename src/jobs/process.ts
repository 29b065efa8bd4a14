import { AS_ACCOUNT } from "../shells/environment.ts";
import { quote } from "../shells/quote.ts";
import { answerLines, fieldsOf } from "../shells/answer-lines.ts";
import { BOUNDED_FILE } from "../shells/bounded-file.ts";
import { askFunction, type CancelRequest } from "./cancel-request.ts";
import { dataCheck, type DataWanted } from "./data-check.ts";
import { linkCheck, type DataHere } from "./link-check.ts";
import { checkLog, functions, linkLog, spoolOf, type JobDirectory } from "./directory.ts";
import { STARTED_BYTES } from "./record-schema.ts";
import { LAUNCHED, UNPREPARED } from "./run-script.ts";
import { takePermits, type Permits } from "./permits.ts";
import type { ReportedJob } from "../slurm/job-states.ts";

/**
 * Jobs outside Slurm: processes of their own on a host, which go on when whoever started them is gone. Starting one twice
 * does no harm: of all the run scripts that were started for a job only the one that makes `submitted` goes on.
 */
export interface LaunchRequest extends JobDirectory {
  /** null: nobody looks at the data. */
  data: DataWanted | DataHere | null;
  /** What it must have to be started; null: nobody counts the trigger's jobs. */
  permits: Permits | null;
  script: string;
  /** Where the program's output goes; null: to `job.log` in the directory. */
  log: string | null;
  /** What the host is called here. */
  host: string;
}

/** How often, each 20 ms, a started process is asked for its first sign: 10 s. */
const LOOKS = 500;

/** Answers as the submit commands do. What was launched before, and has not answered yet, may still come up. */
export function launchCommand(request: LaunchRequest): string {
  const { jobsDirectory, jobId, data, permits, script, log, host } = request;
  const spool = quote(spoolOf(jobsDirectory));
  return `${functions(jobsDirectory, jobId)}
answered
${data === null ? "" : "folders" in data ? linkCheck(data) : dataCheck(data)}
[ -d ${spool} ] || mkdir -p ${spool} || exit 1
${checkLog(log)}${permits === null ? "" : `[ -d "$d" ] || {\n${takePermits(jobsDirectory, jobId, permits)}\n}`}
[ -d "$d" ] || mkdir "$d" 2>/dev/null || [ -d "$d" ] || exit 1
[ -s "$d/run.sh" ] || {
  ${linkLog(log)}printf %s ${quote(script)} > "$d/.run.$$" && mv -n "$d/.run.$$" "$d/run.sh" || unwritable "$d"
  rm -f "$d/.run.$$"
}
cd /
# A function that is redirected keeps what its caller has open for as long as it runs; a subshell does not.
( ${AS_ACCOUNT} env ${LAUNCHED}=${quote(host)} setsid /bin/sh "$d/run.sh" ) < /dev/null >> "$d/job.log" 2>&1 &
looks=0
while [ ! -s "$d/submitted" ] && [ $looks -lt ${LOOKS} ]; do
  sleep 0.02
  looks=$((looks + 1))
done
answered
say in-flight`;
}

export interface ProcessJob {
  pid: number;
  directory: string;
}

/** A process is known by its script: another one may have got its number. */
export const IS_RUNNING = `is_running() { tr '\\0' '\\n' 2>/dev/null < "/proc/$1/cmdline" | grep -qxF "$2/run.sh"; }`;

/** What has become of these processes, on their host: a line each, in Slurm's words. */
export function processesCommand(jobs: readonly ProcessJob[]): string {
  const looks = jobs.map(({ pid, directory }) => `look ${pid} ${quote(directory)}`);
  return `${BOUNDED_FILE}
${IS_RUNNING}
now=$(cat /proc/sys/kernel/random/boot_id)
look() {
  boot= code=0:9
  # It is gone, and had not come to its program.
  [ ! -d "$2" ] || [ -e "$2/started.$1" ] || code=${UNPREPARED}:0
  if is_running "$1" "$2"; then state=RUNNING
  elif [ -e "$2/.cancelled" ]; then state=CANCELLED
  else
    boot=$(content "$2/started.$1" ${STARTED_BYTES} | tr '\\0' '\\n' | sed -n 's/^boot=//p')
    state=FAILED
    [ -z "$boot" ] || [ "$boot" = "$now" ] || state=NODE_FAIL
  fi
  echo "mento-process $1 $state $code"
}
${looks.join("\n")}`;
}

/** By the run id. What has started and is gone without a record was killed: nothing else ends a run script silently. */
export function parseProcesses(
  output: string,
  jobs: readonly ProcessJob[],
  host: string,
): Map<string, ReportedJob> {
  const words = new Map<string, ReportedJob>();
  const directories = new Map(jobs.map(({ pid, directory }) => [String(pid), directory]));
  for (const line of answerLines(output)) {
    const [mark, id = "", state = "", exitCode = ""] = fieldsOf(line, " ", 4);
    const directory = directories.get(id);
    if (mark !== "mento-process" || directory === undefined || !/^\d{1,3}:\d{1,3}$/.test(exitCode)) continue;
    words.set(id, { id, state, nodes: host, comment: "", directory, exitCode, log: "" });
  }
  return words;
}

/** A process that is asked to end and does not is killed after so long. */
const KILL_AFTER_SECONDS = 10;

/**
 * Ends processes and all that they have started: by SIGTERM, then by SIGKILL. Prints a line for each that ran and got the
 * signal. Who asked is in the job directory before.
 */
export function cancelProcessesCommand(jobs: readonly ProcessJob[], request: CancelRequest): string {
  const calls = jobs.map(({ pid, directory }) => `cancel ${pid} ${quote(directory)}`);
  return `${IS_RUNNING}
${askFunction(request)}
cancel() {
  is_running "$1" "$2" || return
  # Even if it cannot be written down.
  ask "$2"
  kill -s TERM -- "-$1" || return
  (
    # While one of the group is left, no other process gets its number.
    seconds=0
    while kill -s 0 -- "-$1"; do
      [ $seconds -lt ${KILL_AFTER_SECONDS} ] || { kill -s KILL -- "-$1"; break; }
      sleep 1
      seconds=$((seconds + 1))
    done
  ) < /dev/null > /dev/null 2>&1 &
  echo "mento-cancelled $1"
}
${calls.join("\n")}`;
}

/** The numbers of those that got the signal. */
export function parseCancelled(output: string): Set<string> {
  const cancelled = new Set<string>();
  for (const line of answerLines(output)) {
    const [, pid] = /^mento-cancelled (\d{1,10})$/.exec(line) ?? [];
    if (pid !== undefined) cancelled.add(pid);
  }
  return cancelled;
}
