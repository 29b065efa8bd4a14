import { writeJson } from "../messages/json.ts";
import { GIVE_BACK_ENVIRONMENT, KEEP_ENVIRONMENT } from "../shells/environment.ts";
import { quote } from "../shells/quote.ts";
import { fieldsOf } from "../shells/answer-lines.ts";
import { copyBack, type CopyBack } from "./copy-back.ts";
import { linkCheck, type DataHere } from "./link-check.ts";
import { globToRegex, plainRegex } from "./glob.ts";

export interface RunScript {
  jobId: string;
  /** The job directory. */
  directory: string;
  /** Where the script rings when it has written a record. */
  spool: string;
  /** The program and its arguments, literal. */
  argv: readonly string[];
  env: Readonly<Record<string, string>>;
  /** Where the program starts; null: in the job directory. */
  workdir: string | null;
  stdin: string | null;
  /** The message's parameters, which the program finds in the file `$MENTO_PARAMETERS`. */
  parameters: unknown;
  /** Where the program puts its results; null: in a folder of the job directory. */
  resultsDirectory: string | null;
  /** Which files there are results, unless the program lists them in `$MENTO_RESULTS`. */
  resultGlobs: readonly string[];
  copyBack: CopyBack | null;
  /**
   * - slurm: by `sbatch` from the job directory
   * - process: by itself, once
   * - rest: by Slurm, which was given the script alone; of several jobs of Slurm one runs it
   */
  launch: "slurm" | "process" | "rest";
  /** Of `rest`: where the program's output goes; default: to `job.log` in the job directory. */
  log?: string | null;
  /** The program's, in octal; what is Mento's own is then for nobody else to write to. Default: the account's, for both. */
  umask?: string | undefined;
  /** Looked at once more before the program runs, for a link may have come since the submit; null: it need not be. */
  dataHere?: DataHere | null;
  /** `#SBATCH` lines that are carried over from a user's own script. */
  directives: readonly string[];
  /** Kept in the script's second line, so that the directory says what was asked. */
  request: unknown;
}

/** An event is a message of at most 1 MiB: of further results it has the number. */
export const MAX_RESULTS = 1000;

/** Of a record, which has a few, and two for each result. */
const MAX_FIELDS = 4 * MAX_RESULTS;

/** Exit codes of a job of Slurm that has not run the program; where that is looked at, a program's own are told as 1. */
export const NOT_RUN = {
  /** Another job of Slurm, of the same comment, has run it or does. */
  another: 121,
  /** It was cancelled before. */
  cancelled: 122,
};

/** Exit code of a job whose program was not run, since not all that it was promised could be written. */
export const UNPREPARED = 123;

/** A command of the shell: has a run script say that it is that of the submit of number `turn`. */
export const SET_TURN = `sed -i "0,/^mento_turn=0$/s//mento_turn=$turn/" "$d/run.sh"`;

export const REQUEST_PREFIX = "# mento-request: ";

/** What the launcher of a job outside Slurm sets, to the host's name: a run by hand makes records of its own. */
export const LAUNCHED = "MENTO_LAUNCHED";

/**
 * The script that runs on the node. It records start and end in the job directory by write-then-rename, rings in
 * the spool, and hands exit code and signals through. The records' names end with Slurm's job id, or the process's:
 * somebody who submits the script again by hand makes records of their own. A job that Slurm starts again replaces its
 * own. A record is a list of `key=value` fields, each ended by NUL, so that any path is safe in it. The program runs only
 * when all that it is promised is there. Results are the files that the program lists, else those in the results folder
 * that fit the globs and were not there before the job first began, or were others: by a listing of then, for no clock
 * tells what was copied or unpacked with its old time. All of them are listed in the job directory. The program gets the
 * environment that the script was given: no variable of the script's own is in it.
 */
export function runScript(job: RunScript): string {
  const resultsDirectory = job.resultsDirectory ?? `${job.directory}/results`;
  const patterns = job.resultGlobs.map((glob) => `${plainRegex(resultsDirectory)}/${globToRegex(glob)}`);
  return `#!/bin/sh
${[REQUEST_PREFIX + JSON.stringify(job.request), ...job.directives].join("\n")}
mento_turn=0
${KEEP_ENVIRONMENT}
${job.umask === undefined ? "" : "umask go-w\n"}mento_cr=$(printf '\\r')
directory=${quote(job.directory)}
spool=${quote(job.spool)}
results=${literal(resultsDirectory)}
begun=
job=${quote(job.jobId)}
${RUN[job.launch](job)}
${FUNCTIONS}${job.copyBack === null ? "" : copyBack(job.copyBack)}
count_kills
kills_before=$kills

before=$directory/.results-before
found=$directory/.found.$run
[ -z "$begun" ] || [ -f "$begun" ] || unprepared start
rm -f "$directory/ended.$run" "$directory/results.$run" "$found" || unprepared directory
printf %s ${quote(writeJson(job.parameters))} > "$directory/parameters.json" || unprepared parameters
${job.stdin === null ? "stdin=/dev/null" : `stdin="$directory/stdin"; printf %s ${literal(job.stdin)} > "$stdin" || unprepared "standard input"`}
${dataHere(job)}mkdir -p "$results" || unprepared "results folder"
${job.launch === "rest" ? `[ ! -L "$results" ] && [ -O "$results" ] || not_run "its results folder, $results, is another account's"\n` : ""}# What an earlier run of the job has left is the job's.
[ -f "$before" ] || { files > "$before.$run" && mv -f "$before.$run" "$before"; } || unprepared "list of the results folder"
{
  field at "$(now)"
  field node "\${SLURMD_NODENAME:-$(hostname)}"
  field restart "\${SLURM_RESTART_COUNT:-0}"
  field boot "$(cat /proc/sys/kernel/random/boot_id)"
} | record started || unprepared start

{
  mento_directory=$directory mento_run=$run mento_job=$job mento_results=$results
  ${GIVE_BACK_ENVIRONMENT}
  unset SSH_CLIENT SSH_CONNECTION SSH_TTY ${LAUNCHED}
  ${environmentOf(job)}
  ${job.umask === undefined ? "" : `umask ${job.umask}\n  `}cd ${job.workdir === null ? '"$mento_directory"' : literal(job.workdir)} || exit
  command -v ${literal(job.argv[0] ?? "")} > /dev/null || [ -e ${literal(job.argv[0] ?? "")} ] || { printf 'mento: there is no program %s on %s\\n' ${literal(job.argv[0] ?? "")} "$(hostname)" >&2; exit 127; }
  ${mayNotRun(job.argv[0] ?? "")}exec ${job.argv.map(literal).join(" ")}
} < "$stdin" &
child=$!
wait "$child"
code=$?
while kill -0 "$child" 2>/dev/null; do
  wait "$child"
  code=$?
done
# What has completed is not stopped any more. Of any other end the signal may be the reason, though it comes later.
[ "$code" != 0 ] || trap '' TERM HUP USR1 USR2
child=
count_kills

ended_at=$(now)
end() {
  field at "$ended_at"
  field code "$code"
  field stoppedBy "$stopped_by"
  [ "$kills" = "$kills_before" ] || field outOfMemory yes
  [ "$code" = 0 ] || field log "$(tail -c 600 "$directory/job.log" 2>/dev/null)"
  if results ${patterns.map((one) => `-e ${literal(one)}`).join(" ")} > "$found"; then
    field results "$(tr -cd '\\0' < "$found" | wc -c)"
    ${job.copyBack === null ? "" : '[ "$code" != 0 ] || field copyBack yes\n    '}head -z -n ${MAX_RESULTS} "$found" | ${job.copyBack === null ? "with_sizes" : "copied_back"}
    mv -f "$found" "$directory/all-results.$run"
  else
    field unlisted yes
    rm -f "$found"
  fi
}
${RECORD_END[job.launch]}
[ "$code" != 0 ] || rm -f "$before"

trap - TERM HUP USR1 USR2
[ "$code" -le 128 ] || kill -s "$((code - 128))" $$ 2>/dev/null
${job.launch === "rest" ? `case $code in ${NOT_RUN.another} | ${NOT_RUN.cancelled} | ${UNPREPARED}) code=1 ;; esac\n` : ""}exit "$code"
`;
}

function dataHere({ dataHere = null }: RunScript): string {
  if (dataHere === null) return "";
  return `outside=$(
say() { printf %s "$1"; exit; }
${linkCheck(dataHere)}
printf inside
)
case $outside in
  inside) ;;
  outside*) not_run "since its submit data has become a link to \${outside#outside * }" ;;
  too-long*) not_run "its arguments, variables and input name more than can be looked at" ;;
  *) not_run "its data could not be looked at once more" ;;
esac
`;
}

/** One literal word of this script, in which sbatch wants no line to end with a carriage return ("DOS line breaks"). */
function literal(word: string): string {
  return quote(word).replaceAll("\r", `'"$mento_cr"'`);
}

/** `test -x` knows of file systems that nothing may run from, too. */
function mayNotRun(program: string): string {
  if (!program.includes("/")) return "";
  const why = "it is not executable, or its file system is mounted noexec";
  return `[ ! -f ${literal(program)} ] || [ -x ${literal(program)} ] || printf 'mento: %s cannot be run on %s: ${why}\\n' ${literal(program)} "$(hostname)" >&2
  `;
}

function environmentOf({ env }: RunScript): string {
  const own = Object.entries(env).map(([name, value]) => `export ${name}=${literal(value)}`);
  return [
    ...own,
    'export MENTO_JOB_ID="$mento_job" MENTO_RESULTS_DIR="$mento_results" MENTO_RESULTS="$mento_directory/results.$mento_run"',
    'export MENTO_PARAMETERS="$mento_directory/parameters.json"',
  ].join("\n  ");
}

/** Sets `run`, or ends what must not run. */
const RUN: Record<RunScript["launch"], (job: RunScript) => string> = {
  // An array's dispatch script calls it with the task's id. A submit that was replaced does nothing.
  slurm: () => `run=\${1:-\${SLURM_JOB_ID:-by-hand}}
[ "$run" = by-hand ] || {
  begun=$directory/.begun.\${2:-$mento_turn}
  { set -C; true > "$begun"; } 2>/dev/null
  set +C
  [ ! -s "$begun" ] || {
    echo "mento: nothing is run, for this submit was replaced by another; sh $directory/run.sh runs it by hand" >&2
    exit ${NOT_RUN.another}
  }
}`,
  // A link is made by one caller only: of several processes that were started for the job one goes on.
  process: () => `run=by-hand
[ -z "\${${LAUNCHED}-}" ] || {
  run=$$
  echo "$$;$${LAUNCHED}" > "$directory/.submitted.$$" || exit 1
  ln "$directory/.submitted.$$" "$directory/submitted" 2>/dev/null || run=
  rm -f "$directory/.submitted.$$"
  [ -n "$run" ] && [ ! -f "$directory/.cancelled" ] || exit 0
}`,
  rest: ({ log = null }) => `run=\${SLURM_JOB_ID:-by-hand}
[ "$run" = by-hand ] || {
  [ ! -f "$directory/.cancelled" ] || exit ${NOT_RUN.cancelled}
  mkdir -p "$directory" "$spool" || exit ${UNPREPARED}
  # Of the session's account, which could have prepared it, where the token is another's.
  [ ! -L "$directory" ] && [ -O "$directory" ] || { echo "mento: the program was not run, for $directory is another account's" >&2; exit ${UNPREPARED}; }
  # Only its owner may have something there that is written through.
  [ ! -L "$spool" ] && [ -O "$spool" ] || spool=
  [ -f "$directory/run.sh" ] || { cat "$0" > "$directory/.run.$run" && mv -f "$directory/.run.$run" "$directory/run.sh"; } || exit ${UNPREPARED}
  echo "$run" > "$directory/.submitted.$run" || exit ${UNPREPARED}
  ln "$directory/.submitted.$run" "$directory/submitted" 2>/dev/null
  rm -f "$directory/.submitted.$run"
  [ -s "$directory/submitted" ] || exit ${UNPREPARED}
  read -r first < "$directory/submitted"
  [ "$first" = "$run" ] || exit ${NOT_RUN.another}
  ${log === null ? "" : linkLog(log)}exec >> "$directory/job.log" 2>&1
  # Slurm's REST API gives a job no environment but what it is told.
  [ -n "\${HOME-}" ] || export HOME="$(getent passwd "$(id -un)" | cut -d : -f 6)" USER="$(id -un)" LOGNAME="$(id -un)"
}`,
};

function linkLog(log: string): string {
  const folder = log.slice(0, log.lastIndexOf("/"));
  return `mkdir -p ${literal(folder)} && ln -sfn ${literal(log)} "$directory/job.log" || exit ${UNPREPARED}\n  `;
}

/** Of a job of Slurm there is Slurm's report too; a process that ends without a record counts as killed. */
const RECORD_END: Record<RunScript["launch"], string> = {
  slurm: "end | record ended",
  rest: "end | record ended",
  process: 'until end | record ended || [ ! -d "$directory" ]; do sleep 2; done',
};

const FUNCTIONS = `
now() { date -u +%Y-%m-%dT%H:%M:%S.%3NZ; }
field() { printf '%s=%s\\0' "$1" "$2"; }
record() {
  cat > "$directory/.$1.$run" && mv -f "$directory/.$1.$run" "$directory/$1.$run" || return
  # Without the bell the record is found all the same, but later.
  [ -z "$spool" ] || { true > "$spool/$job.$1"; } 2>/dev/null || true
}

unprepared() { not_run "its $1 could not be written on $(hostname): is there no room?"; }
# Its exit code says the same, should there be no room for the record.
not_run() {
  why="mento: the program was not run, for $1"
  code=${UNPREPARED}
  # Whoever ends the job ends what prepares it too.
  [ -z "$stopped_by" ] || why="mento: stopped by $stopped_by before the program ran" code=143
  echo "$why" >&2
  {
    field at "$(now)"
    field code "$code"
    field stoppedBy "$stopped_by"
    [ -n "$stopped_by" ] || field unprepared yes
    field log "$why"
  } | record ended
  exit "$code"
}

stopped_by=
child=
stop() {
  stopped_by=$1
  [ -z "$child" ] || kill -s "$1" "$child" 2>/dev/null
}
for signal in TERM HUP USR1 USR2; do
  trap "stop $signal" "$signal"
done

# Counts what the kernel has killed for memory in our cgroup, of version 1 or 2.
count_kills() {
  kills=0
  while IFS=: read -r number controllers path; do
    case $number:,$controllers, in
      *,memory,*) events=/sys/fs/cgroup/memory$path/memory.oom_control ;;
      0:,,) events=/sys/fs/cgroup$path/memory.events ;;
      *) continue ;;
    esac
    [ -r "$events" ] || continue
    while read -r name value; do
      [ "$name" != oom_kill ] || kills=$((kills + value))
    done < "$events"
  done < /proc/self/cgroup
}

# As rsync tells files apart, and by their inodes: who may read them, and how often they are linked, is no matter.
files() { find -H "$results" -type f -printf '%i %s %T@ %p\\0' 2>/dev/null | LC_ALL=C sort -z; }

# What the program has listed, else what is new and fits the patterns; each ended by NUL.
results() {
  if [ -s "$directory/results.$run" ]; then
    while IFS= read -r one || [ -n "$one" ]; do
      case $one in /*) ;; *) one=$results/$one ;; esac
      [ ! -f "$one" ] || printf '%s\\0' "$one" || return
    done < "$directory/results.$run"
  else
    [ -f "$before" ] || return
    files | LC_ALL=C comm -z -13 "$before" - | LC_ALL=C sed -z 's/^[^ ]* [^ ]* [^ ]* //' | LC_ALL=C sort -z |
      LC_ALL=C grep -zxE "$@" || [ $? = 1 ]
  fi
}
with_sizes() { xargs -0 -r stat -L --printf='result=%s %n\\0'; }
`;

/** The fields of a record that the run script wrote, in order, as far as one has so many; a key may come more than once. */
export function parseRecord(bytes: Uint8Array): [key: string, value: string][] {
  const text = new TextDecoder().decode(bytes);
  return fieldsOf(text, "\0", MAX_FIELDS + 1)
    .slice(0, -1)
    .map((field) => {
      const at = field.indexOf("=");
      return [field.slice(0, at), field.slice(at + 1)];
    });
}
