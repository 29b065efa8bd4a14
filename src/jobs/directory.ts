import { quote, quoteAll } from "../shells/quote.ts";

/**
 * Submit once. A job's directory is its lock: `mkdir` on a shared file system is won by one caller only. One remote
 * call checks the data, makes the directory, writes the run script, calls `sbatch` and renames its answer into place.
 * The call that finds the directory answers with what is inside. A directory without an answer is a submit in
 * flight, or one that was cut off; {@link recoverCommand} tells which.
 *
 *     <jobs>/<job id>/run.sh       what runs; its second line is the request
 *     <jobs>/<job id>/submitted    Slurm's job id and the time of the submit
 *     <jobs>/<job id>/started      written by run.sh
 *     <jobs>/<job id>/ended        written by run.sh
 *     <jobs>/<job id>/job.log      what the program printed
 *     <jobs>/.spool/<job id>.started, .ended   empty files: "there is something to read"
 */
export interface SubmitRequest {
  jobsDirectory: string;
  jobId: string;
  /** The data that must be there, on the core file system. */
  paths: readonly string[];
  bytes: readonly number[] | undefined;
  sbatchArguments: readonly string[];
  submittedAt: string;
}

export type SubmitAnswer =
  | { kind: "submitted"; slurmJobId: string; submittedAt: string; first: boolean }
  | { kind: "missing"; path: string; found: number | null }
  | { kind: "in-flight" }
  | { kind: "failed"; exitCode: number };

/** The longest that `sbatch` can take: it retries by itself for up to 120 s. Then a submit counts as cut off. */
export const LONGEST_SUBMIT_SECONDS = 150;

export function directoryOf(jobsDirectory: string, jobId: string): string {
  return `${jobsDirectory}/${jobId}`;
}

export function spoolOf(jobsDirectory: string): string {
  return `${jobsDirectory}/.spool`;
}

/** What Slurm carries for us, so that a job can be found without its id. */
export function markerOf(jobId: string): string {
  return `mento:${jobId}`;
}

/** The one remote call. The run script comes on its standard input. */
export function submitCommand(request: SubmitRequest): string {
  const directory = directoryOf(request.jobsDirectory, request.jobId);
  return `${SAY}
j=${quote(request.jobsDirectory)} d=${quote(directory)}
[ ! -f "$d/submitted" ] || { read -r id at < "$d/submitted"; say "existing $id $at"; }
${dataChecks(request.paths, request.bytes).join("\n")}
mkdir "$d" 2>/dev/null || {
  [ ! -d "$d" ] || say in-flight
  mkdir -p ${quote(spoolOf(request.jobsDirectory))} && mkdir "$d" || {
    [ ! -d "$d" ] || say in-flight
    exit 1
  }
}
${submitInto(request)}`;
}

/** Answers and ends. */
const SAY = 'say() { echo "mento:$1"; exit 0; }';

/** One line of shell a path: is it there, and at its size if the message gave one? */
function dataChecks(paths: readonly string[], bytes: readonly number[] | undefined): string[] {
  return paths.map((path, index) => {
    const size = bytes?.[index];
    return size === undefined
      ? `[ -e ${quote(path)} ] || say "missing ${index} -"`
      : `n=$(stat -Lc %s ${quote(path)} 2>/dev/null) || n=-; [ "$n" = ${size} ] || say "missing ${index} $n"`;
  });
}

/** Inside a directory that this call has made: write the script, submit, rename the answer into place. */
function submitInto(request: SubmitRequest): string {
  return `cat > "$d/run.sh" || exit 1
id=$(sbatch ${quoteAll(request.sbatchArguments)} "$d/run.sh") || say "failed $?"
echo "\${id%%;*} ${request.submittedAt}" > "$d/.submitted" && mv "$d/.submitted" "$d/submitted"
say "submitted \${id%%;*} ${request.submittedAt}"`;
}

/**
 * For a directory without an answer: if it is older than the longest submit, look for the job by its marker, first
 * among the jobs that Slurm's controller knows, then in accounting. Found: adopt it. Not there, and the run script
 * never started: move the directory aside, which only one caller can do, and submit again.
 */
export function recoverCommand(request: SubmitRequest, account: string): string {
  const directory = directoryOf(request.jobsDirectory, request.jobId);
  const marker = markerOf(request.jobId);
  return `${SAY}
d=${quote(directory)} m=${quote(marker)}
[ ! -f "$d/submitted" ] || { read -r id at < "$d/submitted"; say "existing $id $at"; }
[ -d "$d" ] || say in-flight
made=$(stat -c %Y "$d") && now=$(date +%s) || exit 1
[ $((now - made)) -ge ${LONGEST_SUBMIT_SECONDS} ] || say in-flight
adopt() {
  echo "$1 ${request.submittedAt}" > "$d/.submitted.$$" && mv "$d/.submitted.$$" "$d/submitted"
  say "existing $1 ${request.submittedAt}"
}
list=$(squeue --noheader --states=all --user=${quote(account)} --format='%A %k') || exit 1
id=$(printf '%s\\n' "$list" | awk -v m="$m" '$2 == m { print $1; exit }')
[ -z "$id" ] || adopt "$id"
if [ -f "$d/started" ]; then
  id=$(tr '\\0' '\\n' < "$d/started" | sed -n 's/^slurmJobId=//p')
  [ -z "$id" ] || adopt "$id"
fi
since=$(date -d "@$made" +%Y-%m-%dT%H:%M:%S)
list=$(sacct -n -P -X -u ${quote(account)} -S "$since" -o JobIDRaw,Comment 2>&1) || case $list in
  *"accounting storage is disabled"*) list= ;;
  *) say in-flight ;;
esac
id=$(printf '%s\n' "$list" | awk -F'|' -v m="$m" '$2 == m { print $1; exit }')
[ -z "$id" ] || adopt "$id"
mv "$d" "$d.cut-off.$now" 2>/dev/null || say in-flight
mkdir "$d" 2>/dev/null || say in-flight
${submitInto(request)}`;
}

/** Removes a directory whose submit Slurm has refused for good, so that a replay can try again. */
export function withdrawCommand(jobsDirectory: string, jobId: string): string {
  const directory = quote(directoryOf(jobsDirectory, jobId));
  return `[ -f ${directory}/submitted ] || rm -rf ${directory}`;
}

/** The answer is the last line that begins with `mento:`; a login shell may print before it. */
export function parseSubmitAnswer(stdout: string, paths: readonly string[]): SubmitAnswer | undefined {
  const line = stdout
    .split("\n")
    .filter((one) => one.startsWith("mento:"))
    .at(-1);
  const [word, ...rest] = (line ?? "").slice("mento:".length).split(" ");
  switch (word) {
    case "submitted":
    case "existing": {
      const [slurmJobId, submittedAt] = rest;
      if (slurmJobId === undefined || submittedAt === undefined || !/^\d+$/.test(slurmJobId))
        return undefined;
      return { kind: "submitted", slurmJobId, submittedAt, first: word === "submitted" };
    }
    case "missing": {
      const path = paths[Number(rest[0])];
      return path === undefined
        ? undefined
        : { kind: "missing", path, found: rest[1] === "-" ? null : Number(rest[1]) };
    }
    case "in-flight":
      return { kind: "in-flight" };
    case "failed":
      return { kind: "failed", exitCode: Number(rest[0]) };
    default:
      return undefined;
  }
}
