import { quote } from "../shells/quote.ts";
import { BOUNDED_FILE, SUBMITTED_BYTES, within } from "../shells/bounded-file.ts";
import { ENDED_BYTES } from "./record-schema.ts";

/**
 * How many jobs of a trigger may be unfinished is kept by permits, folders beside the job directories. A job's permit is taken
 * in the remote call that submits it, by renaming a folder that holds the job's name to the permit's: that replaces an empty
 * folder, and fails for one that is not, in one step, for all workers and nodes. So a permit always says whose it is, and
 * only the file of that name is removed to free it. It is free when its job has left a record of its end, or when the
 * tracker has found that it has ended without one; and after a while, if it was never submitted.
 *
 *     <jobs>/.permits/<semaphore>/1/<job id>       the permits of a semaphore, from 1 to its limit
 *     <jobs>/.permits/<semaphore>/newest/<order>   the newest message that has had a permit; holds the message's id, as JSON
 */
export interface Permits {
  /** Whose jobs are counted together; a job needs a permit of each. */
  semaphores: readonly Semaphore[];
  /** Only a message that is newer than all that have had a permit of the first semaphore may take one. */
  newest: Newest | null;
}

export interface Semaphore {
  name: string;
  limit: number;
  of: "trigger" | "session";
}

export interface Newest {
  /** Texts in the order of the messages, all of one length; each ends with `-<job id>`. */
  order: string;
  messageId: string;
}

/** A permit whose job's directory was never made, or is gone, is free after so long. */
const ORPHANED_MINUTES = 5;
/** One whose job has a directory, but is not submitted, is free so long after the last try; or sooner, if that has failed. */
const UNSUBMITTED_MINUTES = 60;
const FAILED_MINUTES = 3;
/** A job that was stopped may be submitted again: only when its record is so old nobody will. */
const STOPPED_MINUTES = 60;
/** A permit has one name in it. The account can make any number, which must not keep others from their turn. */
const NAMES_LOOKED_AT = 20;
const LOOK_SECONDS = 20;
const MESSAGE_ID_BYTES = 16 * 1024;
/** In the record of a run that was stopped, by its script or with it. */
const STOPPED = "stoppedBy=.+|code=(137|143)";

/**
 * Shell that takes the job's permits, or says why it cannot; needs `say`. What it says is `busy trigger`, `busy session` or
 * `superseded <the newer message's id as JSON>`.
 */
export function takePermits(jobsDirectory: string, jobId: string, { semaphores, newest }: Permits): string {
  const first = semaphores[0]?.name ?? "";
  return `${permitFunctions(jobsDirectory, jobId)}
${newest === null ? "" : outdated(first, newest.order, `leave_permits ${quoteNames(semaphores)}`)}
${semaphores.map(({ name, limit, of }) => `take ${quote(name)} ${limit} || { leave_permits ${quoteNames(semaphores)}; say 'busy ${of}'; }`).join("\n")}
${newest === null ? "" : markNewest(first, newest, semaphores)}`;
}

/** Says the same, or `none` if there is room; takes none. */
export function roomCommand(jobsDirectory: string, jobId: string, { semaphores, newest }: Permits): string {
  const script = `say() { printf 'mento:%s\\n' "$1"; exit 0; }
${permitFunctions(jobsDirectory, jobId)}
[ ! -d "$jobs/$job" ] || say none
${newest === null ? "" : outdated(semaphores[0]?.name ?? "", newest.order, ":")}
${semaphores.map(({ name, limit, of }) => `room ${quote(name)} ${limit} || say 'busy ${of}'`).join("\n")}
say none`;
  return within(LOOK_SECONDS, script);
}

/** Frees the permits of a job that has ended. */
export function leaveCommand(jobsDirectory: string, jobId: string, semaphores: readonly string[]): string {
  return within(
    LOOK_SECONDS,
    `${permitFunctions(jobsDirectory, jobId)}
leave_permits ${semaphores.map(quote).join(" ")}`,
  );
}

/**
 * Of the jobs of messages that were overtaken, prints those that are there all the same: a submit was under way. The permits
 * that others had taken are free.
 */
export function overtakenCommand(
  jobsDirectory: string,
  jobIds: readonly string[],
  semaphore: string,
): string {
  const script = `jobs=${quote(jobsDirectory)}
for job in ${jobIds.map(quote).join(" ")}; do
  if [ -d "$jobs/$job" ]; then
    echo "mento-job $job"
  else
    for one in "$jobs/.permits/"${quote(semaphore)}/*/"$job"; do [ ! -e "$one" ] || rm -f "$one"; done
  fi
done
echo mento-end`;
  return within(LOOK_SECONDS, script);
}

/** undefined: the answer is not whole. */
export function parseOvertaken(output: string): Set<string> | undefined {
  if (!/^mento-end$/m.test(output)) return undefined;
  return new Set([...output.matchAll(/^mento-job (\S+)$/gm)].map(([, id = ""]) => id));
}

function quoteNames(semaphores: readonly Semaphore[]): string {
  return semaphores.map(({ name }) => quote(name)).join(" ");
}

/** `room` sets `permit` to a free one; it is `own` if the job has one already. */
function permitFunctions(jobsDirectory: string, jobId: string): string {
  return `jobs=${quote(jobsDirectory)} job=${quote(jobId)} permits=${quote(`${jobsDirectory}/.permits`)}
${BOUNDED_FILE}
is_older() { [ -n "$(find "$1" -maxdepth 0 -mmin +"$2" 2>/dev/null)" ]; }
is_over() {
  [ -d "$jobs/$1" ] || { is_older "$2" ${ORPHANED_MINUTES}; return; }
  if lines "$jobs/$1/submitted" ${SUBMITTED_BYTES}; then
    run=$jobs/$1/ended.\${first%%;*}
    is_plain "$run" && { ! content "$run" ${ENDED_BYTES} | grep -qzxE '${STOPPED}' || is_older "$run" ${STOPPED_MINUTES}; }
  elif [ -f "$jobs/$1/.failed" ]; then is_older "$2" ${FAILED_MINUTES}
  else is_older "$2" ${UNSUBMITTED_MINUTES}
  fi
}
room() {
  permit= number=1
  while [ $number -le "$2" ]; do
    names=0
    for one in "$permits/$1/$number"/*; do
      names=$((names + 1))
      [ $names -le ${NAMES_LOOKED_AT} ] || break
      [ "\${one##*/}" != "$job" ] || { permit=own; return 0; }
      if [ ! -e "$one" ]; then permit=\${permit:-$number}
      elif is_over "\${one##*/}" "$one"; then rm -f "$one"; permit=\${permit:-$number}
      fi
    done
    number=$((number + 1))
  done
  [ -n "$permit" ]
}
take() {
  room "$1" "$2" || return 1
  [ "$permit" != own ] || { touch -c "$one"; return 0; }
  new=$permits/.new.$job.$$
  mkdir -p "$permits/$1" "$new" && : > "$new/$job" || exit 1
  mv -fT "$new" "$permits/$1/$permit" 2>/dev/null || { rm -rf "$new"; return 1; }
}
leave_permits() {
  for semaphore; do
    for one in "$permits/$semaphore"/*/"$job"; do [ ! -e "$one" ] || rm -f "$one"; done
  done
}`;
}

/** A submit that was cut off may have left a permit: `first` is done before it is said that there is none to be had. */
function outdated(semaphore: string, order: string, first: string): string {
  return `newest=$permits/${quote(semaphore)}/newest order=${quote(order)}
outdated() {
  last=
  for one in "$newest"/*; do last=\${one##*/}; done
  # Also of the same message, if it came twice.
  [ "\${last##*-}" != "$job" ] && [ "$last" \\> "$order" ] || return 1
  by='""'
  ! lines "$newest/$last" ${MESSAGE_ID_BYTES} || by=$first
}
! outdated || { ${first}; say "superseded $by"; }`;
}

/** Names come from a pattern in their order, the newest last; a newer one may be there by now. */
function markNewest(semaphore: string, { messageId }: Newest, semaphores: readonly Semaphore[]): string {
  return `mkdir -p "$newest" && printf '%s\\n' ${quote(JSON.stringify(messageId))} > "$newest/$order" || exit 1
! outdated || { leave_permits ${quoteNames(semaphores)}; say "superseded $by"; }
keep_last() {
  names=0
  while [ $# -gt 1 ] && [ $names -lt ${NAMES_LOOKED_AT} ]; do rm -f "$1"; shift; names=$((names + 1)); done
}
keep_last "$newest"/*`;
}
