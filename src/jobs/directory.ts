import { quote, quoteAll } from "../shells/quote.ts";
import { ACCOUNTING_SECONDS } from "../slurm/accounting.ts";
import { BOUNDED_FILE, REQUEST_BYTES, SUBMITTED_BYTES } from "../shells/bounded-file.ts";
import { dataCheck, type DataWanted } from "./data-check.ts";
import { ASK_SBATCH } from "../slurm/sbatch-call.ts";
import { SET_TURN } from "./run-script.ts";
import { PENDING_COMMAND } from "../slurm/slurm-now.ts";
import { cancelOne, SQUEUE } from "../slurm/squeue.ts";
import { leaveCommand, takePermits, type Permits } from "./permits.ts";

/**
 * Submit once. A job's directory is its lock: `mkdir` on a shared file system is won by one caller only. One remote
 * call checks the data, makes the directory, writes the run script and calls `sbatch`, whose answer goes into a file
 * of the directory. The call that finds the directory answers with what is inside. A directory without a whole answer
 * is a submit in flight, or one that was cut off; {@link recoverCommand} tells which. A job whose reservation was
 * deleted before it could run is submitted again from its directory, by `resubmitCommand` (resubmit-command.ts).
 *
 *     <jobs>/<job id>/run.sh       what runs; its second line is the request
 *     <jobs>/<job id>/submitted    Slurm's job id, as sbatch printed it; whole when its line has ended. A second line
 *                                  has the reservation and partition that it was submitted to again. The file's time is
 *                                  when Slurm had the job
 *     <jobs>/<job id>/.failed      there if the last `sbatch` has ended without an answer; empty if it said itself why, or
 *                                  nothing, or was not called; else its exit code: something that it left behind may submit yet
 *     <jobs>/<job id>/.looked      when somebody first looked for the job and did not find it
 *     <jobs>/<job id>/.array       of a job that was submitted as a task of an array: the array's id, the task's index
 *     <jobs>/<job id>/.cancelled   who has asked for it to be cancelled: a submit that comes after it is cancelled at once
 *     <jobs>/<job id>/.resubmit.<Slurm's job id>   the lock of whoever submits it again in place of that one
 *     <jobs>/<job id>/.begun.<n>   made once, by the script of the n-th submit, or by whoever replaces that ({@link forgottenCommand})
 *     <jobs>/<job id>/started.<Slurm's job id>, ended.<…>   written by run.sh
 *     <jobs>/<job id>/job.log      what the program printed
 *     <jobs>/.spool/<job id>.started, .ended   empty files: "there is something to read"
 */
export interface JobDirectory {
  jobsDirectory: string;
  jobId: string;
}

export interface SubmitRequest extends JobDirectory {
  /** null: nobody looks at the data. */
  data: DataWanted | null;
  /** A user's own script, which is copied into the directory as Slurm would copy it. */
  program: string | null;
  /** Where the program's output goes; null: to `job.log` in the directory. */
  log: string | null;
  /** Fewer of our jobs than this must wait in Slurm; null: nobody looks. */
  maxPending: number | null;
  /** What it must have to be submitted; null: nobody counts the trigger's jobs. */
  permits: Permits | null;
  sbatchArguments: readonly string[];
  /** The run script, whole. */
  script: string;
}

/** Longer than `sbatch` is let take. */
export const CUT_OFF_AFTER_SECONDS = 150;
/** So long a remote call that submits is waited for. */
export const LONGEST_SUBMIT_SECONDS = 150;

/** Between the two looks that must not find a job before it is submitted again. */
const BETWEEN_LOOKS_SECONDS = 10;

export function directoryOf(jobsDirectory: string, jobId: string): string {
  return `${jobsDirectory}/${jobId}`;
}

export function spoolOf(jobsDirectory: string): string {
  return `${jobsDirectory}/.spool`;
}

/** What Slurm carries for us, so that a job can be found without its id. */
export function jobCommentOf(jobId: string): string {
  return `mento:${jobId}`;
}

/** The same for an array of jobs, whose tasks share a comment. */
export function arrayCommentOf(arrayId: string): string {
  return jobCommentOf(`array:${arrayId}`);
}

/** Folders of arrays: their dispatch scripts, and links to their jobs' directories. */
export function arraysOf(jobsDirectory: string): string {
  return `${jobsDirectory}/.arrays`;
}

/** The one remote call. Every process that it starts costs a millisecond or two: `mkdir`, `timeout` and `sbatch`. */
export function submitCommand(request: SubmitRequest, account: string): string {
  return `${functions(request.jobsDirectory, request.jobId)}
answered
[ ! -d "$d" ] || say in-flight
${request.maxPending === null ? "" : `[ "$(${PENDING_COMMAND})" -lt ${request.maxPending} ] || say full`}
${request.data === null ? "" : dataCheck(request.data)}
[ -d ${quote(spoolOf(request.jobsDirectory))} ] || mkdir -p ${quote(spoolOf(request.jobsDirectory))} || exit 1
${checkLog(request.log)}${permitsOf(request)}
mkdir "$d" || {
  [ ! -d "$d" ] || say in-flight
  exit 1
}
${writeAndSubmit(request, account)}`;
}

function permitsOf({ jobsDirectory, jobId, permits }: SubmitRequest): string {
  return permits === null ? "" : takePermits(jobsDirectory, jobId, permits);
}

/**
 * The functions of the scripts: `say` answers and ends; `answered` does so if the directory already holds a whole answer;
 * `found` looks for our job in a list of ids, comments and directories, as itself or as a task of its array; `adopt` makes it
 * the directory's answer, with the time at which its submit began, `moved` one that was submitted again, and where; `turn` counts the submits that were replaced,
 * and `replace` keeps the script of the last one from running, unless it has begun;
 * `keep_cancelled` cancels a job that was to be cancelled before Slurm had it; `clock` sets `now` to
 * the file system's time, by which all ages are told: nodes' clocks differ.
 */
export function functions(jobsDirectory: string, jobId: string): string {
  return `${namesOf(jobsDirectory, jobId)} arrays=${quote(arraysOf(jobsDirectory))} array= index=
${BOUNDED_FILE}
${ASK_SBATCH}
${UNWRITABLE}
say() { printf 'mento:%s\\n' "$1"; exit 0; }
${WRITTEN}
answered() {
  [ -s "$d/submitted" ] && lines "$d/submitted" ${SUBMITTED_BYTES} || return 0
  id=$first at=$(written "$d/submitted") over=
  [ ! -f "$d/ended.\${id%%;*}" ] || over=" ended $(written "$d/ended.\${id%%;*}")"
  say "submitted $id at $at$over \${second:+again $second }$(content "$d/run.sh" ${REQUEST_BYTES} | sed -n '2{p;q}')"
}
keep_cancelled() {
  one=\${1%%;*}
  [ ! -f "$d/.cancelled" ] || ${cancelOne('"$one"', '"$m"')}
}
read_array() { ! lines "$d/.array" ${SUBMITTED_BYTES} || { array=\${first%% *} index=\${first##* }; }; }
clock() {
  clock=${quote(spoolOf(jobsDirectory))}/.now.$$
  : > "$clock" && now=$(stat -c %Y "$clock") && rm -f "$clock" || exit 1
}
found() {
  printf '%s\\n' "$list" | awk -F'|' -v m="$m" -v d="$d" -v a="$array" -v p="$arrays/$array" -v i="$index" '
    $1 !~ /^[0-9]+(_([0-9]+|[[].*))?$/ { next }
    $2 == m || $3 == d { print $1; exit }
    a != "" && ($2 == "${arrayCommentOf("")}" a || $3 == p) { sub(/_.*/, "", $1); print $1 "_" i; exit }'
}
adopt() {
  [ -n "$1" ] || return 0
  echo "$1" > "$d/.submitted.$$" && { touch -r "$d/run.sh" "$d/.submitted.$$" 2>/dev/null || :; } && mv "$d/.submitted.$$" "$d/submitted" || exit 1
  keep_cancelled "$1"
  answered
}
turn() { turn=0; while [ -s "$d/.begun.$turn" ]; do turn=$((turn + 1)); done; }
replace() {
  echo "$1" > "$d/.replaced.$$" && ln "$d/.replaced.$$" "$d/.begun.$turn" 2>/dev/null
  is_replaced=$?
  rm -f "$d/.replaced.$$"
  [ $is_replaced = 0 ] && [ -s "$d/.begun.$turn" ]
}
moved() {
  lines "$d/submitted" ${SUBMITTED_BYTES} && [ "\${first%%;*}" = "$old" ] || answered
  printf '%s\\n%s\\n' "$1" "$2" > "$d/.submitted.$$" && mv "$d/.submitted.$$" "$d/submitted" || exit 1
  keep_cancelled "$1"
  answered
}`;
}

/** Prints when a file was written, by the clock of the file system or the host that wrote it. */
export const WRITTEN = 'written() { date -u -r "$1" +%Y-%m-%dT%H:%M:%S.%3NZ; }';

/** Ends a script, and has said why a folder cannot be written to: a shell's own words for it differ, or are none. */
const UNWRITABLE = `unwritable() {
  head -c 65536 /dev/zero > "$1/.probe.$$"
  rm -f "$1/.probe.$$"
  exit 1
}`;

/** The directory and the job comment, as the functions know them. */
export function namesOf(jobsDirectory: string, jobId: string): string {
  return `d=${quote(directoryOf(jobsDirectory, jobId))} m=${quote(jobCommentOf(jobId))}`;
}

/**
 * Inside a directory that this call has made. An `sbatch` that failed may have made the job all the same: if Slurm has
 * it, that is the answer; else `.failed` says that nobody is at it any more.
 */
function writeAndSubmit(request: SubmitRequest, account: string, alsoWrite = ""): string {
  const { program, log } = request;
  return `${copyOf(program)}${linkLog(log)}printf %s ${quote(request.script)} > "$d/run.sh"${alsoWrite} || { rm -f "$d/.looked"; : > "$d/.failed"; unwritable "$d"; }
rm -f "$d/.failed" "$d/.looked" "$d/.array"
array= index=
ask_sbatch ${quoteAll(request.sbatchArguments)} "$d/run.sh" || {
  rm -f "$d/.looked"
  note_failed "$d/.failed"
  list=$(${listCommand(account)} 2>/dev/null) && adopt "$(found)"
  say "failed $code"
}
echo "$id" > "$d/submitted"
at=$(written "$d/submitted")
keep_cancelled "$id"
say "submitted $id at $at"`;
}

/** A user's own script is copied, as Slurm would copy it. */
export function copyOf(program: string | null): string {
  if (program === null) return "";
  return `cp -- ${quote(program)} "$d/program" && chmod u+x "$d/program" || exit 1\n`;
}

/** Without a file for its output a job would end without a word. */
export function checkLog(log: string | null): string {
  if (log === null) return "";
  const folder = log.slice(0, log.lastIndexOf("/"));
  return `why=$({ mkdir -p ${quote(folder)} && : >> ${quote(log)}; } 2>&1) || say "no-log \${why##*: }"\n`;
}

/** `job.log` is then a link to the file that was asked for. */
export function linkLog(log: string | null): string {
  return log === null ? "" : `ln -sfn ${quote(log)} "$d/job.log" || exit 1\n`;
}

/**
 * For a directory without an answer: if `sbatch` has failed, or the directory is older than the longest submit, look for
 * the job by its comment, first among the jobs that Slurm's controller knows, then in the run script's own records, then
 * in accounting. Found: adopt it. Not found, twice: submit again. The second look is for a controller that hung: when it
 * goes on, it may answer the look before the submit that it has had for longer. Of the callers that have judged the same
 * look only one can make the lock for it. Whatever submits late all the same runs nothing: its turn is over.
 */
export function recoverCommand(request: SubmitRequest, account: string): string {
  return `${adoptOrGoOn(request, account)}
${permitsOf(request)}
if ! mkdir "$d/.again.$looked" 2>/dev/null; then
  locked=$(stat -c %Y "$d/.again.$looked") || exit 1
  # Whoever took it has died: the looks begin anew.
  [ $((now - locked)) -lt ${CUT_OFF_AFTER_SECONDS} ] || rm -f "$d/.looked"
  say in-flight
fi
turn
replace late || {
  # It has begun, and its record follows; or was ended before.
  begun=$(stat -c %Y "$d/.begun.$turn") && [ $((now - begun)) -ge ${CUT_OFF_AFTER_SECONDS} ] && echo late > "$d/.begun.$turn" || say in-flight
}
turn=$((turn + 1))
${writeAndSubmit(request, account, ` && ${SET_TURN}`)}`;
}

/** The same where nothing can be submitted at the moment: adopts the job, or answers `none`. */
export function adoptCommand(job: JobDirectory, account: string): string {
  return `${adoptOrGoOn(job, account)}
say none`;
}

function adoptOrGoOn({ jobsDirectory, jobId }: JobDirectory, account: string): string {
  return `${functions(jobsDirectory, jobId)}
answered
[ -d "$d" ] || say in-flight
clock
made=$(stat -c %Y "$d/run.sh" 2>/dev/null || stat -c %Y "$d") || exit 1
[ -f "$d/.failed" ] || [ $((now - made)) -ge ${CUT_OFF_AFTER_SECONDS} ] || say in-flight
read_array
list=$(${listCommand(account)}) || exit 1
adopt "$(found)"
for one in "$d"/started.[0-9]*; do
  [ ! -f "$one" ] || adopt "\${one##*.}"
done
since=$(date -d "@$((made - 60))" +%Y-%m-%dT%H:%M:%S)
list=$(timeout ${ACCOUNTING_SECONDS} sacct -n -P -X -u ${quote(account)} -S "$since" -E now+2hour -o JobID,Comment,WorkDir 2>&1) || case $list in
  *"accounting storage is disabled"*) list= ;;
  *) say in-flight ;;
esac
adopt "$(found)"
failed=$(stat -c %Y "$d/.failed" 2>/dev/null || echo 0)
looked=$(stat -c %Y "$d/.looked" 2>/dev/null || echo 0)
if [ "$looked" = 0 ] || [ "$looked" -lt "$failed" ]; then
  # It has the time of before the look, and the directory keeps its own.
  : > "$d/.looked" && touch -d "@$now" "$d/.looked" && touch -d "@$made" "$d"
  say in-flight
fi
[ $((now - looked)) -ge ${BETWEEN_LOOKS_SECONDS} ] || say in-flight
[ ! -s "$d/.failed" ] || [ $((now - made)) -ge ${CUT_OFF_AFTER_SECONDS} ] || say in-flight`;
}

/** Every job of the account that Slurm's controller knows: id, `4711_3` of a task, `4711_[4-9]` of those that wait, and comment. */
export function listCommand(account: string): string {
  return `${SQUEUE} --noheader --states=all --user=${quote(account)} --format='%i|%k'`;
}

/** Answers with the job that the directory holds, or, if its data is whole, `none`; makes nothing. */
export function findCommand({ jobsDirectory, jobId }: JobDirectory, data: DataWanted | null = null): string {
  return `${functions(jobsDirectory, jobId)}
answered
[ ! -d "$d" ] || say in-flight
${data === null ? "" : dataCheck(data)}
say none`;
}

/**
 * Removes a directory whose submit Slurm has refused for good, so that a replay can try again: but not if somebody is at
 * it again. It is renamed first, so that nobody finds half of it.
 */
export function withdrawCommand(jobsDirectory: string, jobId: string, permits: Permits | null): string {
  const semaphores = permits?.semaphores.map(({ name }) => name) ?? [];
  const aside = quote(`${jobsDirectory}/.removed.${jobId}`);
  return `d=${quote(directoryOf(jobsDirectory, jobId))}
[ ! -f "$d/.failed" ] || [ -s "$d/submitted" ] || { mv "$d" ${aside}.$$ && rm -rf ${aside}.$$; }
${
  semaphores.length === 0
    ? ""
    : `[ -d "$d" ] || { ${leaveCommand(jobsDirectory, jobId, semaphores)}
}`
}`;
}
