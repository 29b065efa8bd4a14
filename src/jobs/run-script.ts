import { quote, quoteAll } from "../shells/quote.ts";

export interface RunScript {
  jobId: string;
  /** The job directory on the core file system. */
  directory: string;
  /** Where the script rings when it has written a record. */
  spool: string;
  /** The program and its arguments, literal. */
  argv: readonly string[];
  resultsDirectory: string;
  /** Kept in the script's second line, so that the directory says what was asked. */
  request: unknown;
}

/** An event is a message of at most 1 MiB. */
const MAX_RESULTS = 1000;

export const REQUEST_PREFIX = "# mento-request: ";

/**
 * The script that runs on the node. It records start and end in the job directory by write-then-rename, rings in
 * the spool, and hands exit code and signals through. The records' names end with Slurm's job id: somebody who submits
 * the script again by hand makes records of their own. A job that Slurm starts again replaces its own. A record is a list of `key=value` fields, each ended by NUL, so
 * that any path is safe in it. Results are the files in the results folder that are newer than the script.
 */
export function runScript(job: RunScript): string {
  return `#!/bin/sh
${REQUEST_PREFIX}${JSON.stringify(job.request)}
directory=${quote(job.directory)}
spool=${quote(job.spool)}
results=${quote(job.resultsDirectory)}
job=${quote(job.jobId)}
run=\${SLURM_JOB_ID:-by-hand}

now() { date -u +%Y-%m-%dT%H:%M:%S.%3NZ; }
field() { printf '%s=%s\\0' "$1" "$2"; }
record() {
  cat > "$directory/.$1.$run" && mv -f "$directory/.$1.$run" "$directory/$1.$run" || return
  # Without the bell the record is found all the same, but later.
  { : > "$spool/$job.$1"; } 2>/dev/null
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
count_kills
kills_before=$kills

mkdir -p "$results"
rm -f "$directory/ended.$run"
# In whole seconds: a file system's clock is too coarse to tell a quick program's files from our own.
submitted=$(($(stat -c %Y "$directory/run.sh") - 1))
{
  field at "$(now)"
  field node "\${SLURMD_NODENAME:-$(hostname)}"
  field restart "\${SLURM_RESTART_COUNT:-0}"
} | record started

export MENTO_JOB_ID="$job" MENTO_RESULTS_DIR="$results"
exec ${quoteAll(job.argv)} &
child=$!
wait "$child"
code=$?
while kill -0 "$child" 2>/dev/null; do
  wait "$child"
  code=$?
done
child=
count_kills

{
  field at "$(now)"
  field code "$code"
  field stoppedBy "$stopped_by"
  [ "$kills" = "$kills_before" ] || field outOfMemory yes
  [ "$code" = 0 ] || field log "$(tail -c 600 "$directory/job.log" 2>/dev/null)"
  find "$results" -type f -newermt "@$submitted" -printf 'result=%s %p\\0' 2>/dev/null | head -z -n ${MAX_RESULTS}
} | record ended

trap - TERM HUP USR1 USR2
[ "$code" -le 128 ] || kill -s "$((code - 128))" $$ 2>/dev/null
exit "$code"
`;
}

/** The fields of a record that the run script wrote, in order; a key may come more than once. */
export function parseRecord(bytes: Uint8Array): [key: string, value: string][] {
  const text = new TextDecoder().decode(bytes);
  return text
    .split("\0")
    .slice(0, -1)
    .map((field) => {
      const at = field.indexOf("=");
      return [field.slice(0, at), field.slice(at + 1)];
    });
}
