import { quote } from "../shells/quote.ts";
import { BOUNDED_FILE, SUBMITTED_BYTES, within } from "../shells/bounded-file.ts";
import { ENDED_BYTES } from "./record-schema.ts";

/**
 * How many jobs of a trigger may be unfinished is kept by seats, folders beside the job directories. A job's seat is taken
 * in the remote call that submits it, by renaming a folder that holds the job's name to the seat's: that replaces an empty
 * folder, and fails for one that is not, in one step, for all workers and nodes. So a seat always says whose it is, and
 * only the file of that name is removed to free it. It is free when its job has left a record of its end, or when the
 * tracker has found that it has ended without one; and after a while, if it was never submitted.
 *
 *     <jobs>/.seats/<row>/1/<job id>       the seats of a row, from 1 to its limit
 *     <jobs>/.seats/<row>/newest/<order>   the newest message that has had a seat; holds the message's id, as JSON
 */
export interface Seats {
  /** Whose jobs are counted together; a job needs a seat of each. */
  rows: readonly Row[];
  /** Only a message that is newer than all that have had a seat of the first row may take one. */
  newest: Newest | null;
}

export interface Row {
  name: string;
  limit: number;
  of: "trigger" | "session";
}

export interface Newest {
  /** Texts in the order of the messages, all of one length; each ends with `-<job id>`. */
  order: string;
  messageId: string;
}

/** A seat whose job's directory was never made, or is gone, is free after so long. */
const ORPHANED_MINUTES = 5;
/** One whose job has a directory, but is not submitted, is free so long after the last try; or sooner, if that has failed. */
const UNSUBMITTED_MINUTES = 60;
const FAILED_MINUTES = 3;
/** A job that was stopped may be submitted again: only when its record is so old nobody will. */
const STOPPED_MINUTES = 60;
/** A seat has one name in it. The account can make any number, which must not keep others from their turn. */
const NAMES_LOOKED_AT = 20;
const LOOK_SECONDS = 20;
const MESSAGE_ID_BYTES = 16 * 1024;
/** In the record of a run that was stopped, by its script or with it. */
const STOPPED = "stoppedBy=.+|code=(137|143)";

/**
 * Shell that takes the job's seats, or says why it cannot; needs `say`. What it says is `busy trigger`, `busy session` or
 * `superseded <the newer message's id as JSON>`.
 */
export function takeSeats(jobsDirectory: string, jobId: string, { rows, newest }: Seats): string {
  const first = rows[0]?.name ?? "";
  return `${seatFunctions(jobsDirectory, jobId)}
${newest === null ? "" : outdated(first, newest.order, `leave_seats ${quoteNames(rows)}`)}
${rows.map(({ name, limit, of }) => `take ${quote(name)} ${limit} || { leave_seats ${quoteNames(rows)}; say 'busy ${of}'; }`).join("\n")}
${newest === null ? "" : markNewest(first, newest, rows)}`;
}

/** Says the same, or `none` if there is room; takes none. */
export function roomCommand(jobsDirectory: string, jobId: string, { rows, newest }: Seats): string {
  const script = `say() { printf 'mento:%s\\n' "$1"; exit 0; }
${seatFunctions(jobsDirectory, jobId)}
[ ! -d "$jobs/$job" ] || say none
${newest === null ? "" : outdated(rows[0]?.name ?? "", newest.order, ":")}
${rows.map(({ name, limit, of }) => `room ${quote(name)} ${limit} || say 'busy ${of}'`).join("\n")}
say none`;
  return within(LOOK_SECONDS, script);
}

/** Frees the seats of a job that has ended. */
export function leaveCommand(jobsDirectory: string, jobId: string, rows: readonly string[]): string {
  return within(
    LOOK_SECONDS,
    `${seatFunctions(jobsDirectory, jobId)}
leave_seats ${rows.map(quote).join(" ")}`,
  );
}

/**
 * Of the jobs of messages that were overtaken, prints those that are there all the same: a submit was under way. The seats
 * that others had taken are free.
 */
export function overtakenCommand(jobsDirectory: string, jobIds: readonly string[], row: string): string {
  return `jobs=${quote(jobsDirectory)}
for job in ${jobIds.map(quote).join(" ")}; do
  if [ -d "$jobs/$job" ]; then
    echo "mento-job $job"
  else
    for one in "$jobs/.seats/"${quote(row)}/*/"$job"; do [ ! -e "$one" ] || rm -f "$one"; done
  fi
done
echo mento-end`;
}

/** undefined: the answer is not whole. */
export function parseOvertaken(output: string): Set<string> | undefined {
  if (!/^mento-end$/m.test(output)) return undefined;
  return new Set([...output.matchAll(/^mento-job (\S+)$/gm)].map(([, id = ""]) => id));
}

function quoteNames(rows: readonly Row[]): string {
  return rows.map(({ name }) => quote(name)).join(" ");
}

/** `room` sets `seat` to a free one; it is `own` if the job has one already. */
function seatFunctions(jobsDirectory: string, jobId: string): string {
  return `jobs=${quote(jobsDirectory)} job=${quote(jobId)} seats=${quote(`${jobsDirectory}/.seats`)}
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
  seat= number=1
  while [ $number -le "$2" ]; do
    names=0
    for one in "$seats/$1/$number"/*; do
      names=$((names + 1))
      [ $names -le ${NAMES_LOOKED_AT} ] || break
      [ "\${one##*/}" != "$job" ] || { seat=own; return 0; }
      if [ ! -e "$one" ]; then seat=\${seat:-$number}
      elif is_over "\${one##*/}" "$one"; then rm -f "$one"; seat=\${seat:-$number}
      fi
    done
    number=$((number + 1))
  done
  [ -n "$seat" ]
}
take() {
  room "$1" "$2" || return 1
  [ "$seat" != own ] || { touch -c "$one"; return 0; }
  new=$seats/.new.$job.$$
  mkdir -p "$seats/$1" "$new" && : > "$new/$job" || exit 1
  mv -fT "$new" "$seats/$1/$seat" 2>/dev/null || { rm -rf "$new"; return 1; }
}
leave_seats() {
  for row; do
    for one in "$seats/$row"/*/"$job"; do [ ! -e "$one" ] || rm -f "$one"; done
  done
}`;
}

/** A submit that was cut off may have left a seat: `first` is done before it is said that there is none to be had. */
function outdated(row: string, order: string, first: string): string {
  return `newest=$seats/${quote(row)}/newest order=${quote(order)}
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
function markNewest(row: string, { messageId }: Newest, rows: readonly Row[]): string {
  return `mkdir -p "$newest" && printf '%s\\n' ${quote(JSON.stringify(messageId))} > "$newest/$order" || exit 1
! outdated || { leave_seats ${quoteNames(rows)}; say "superseded $by"; }
keep_last() {
  names=0
  while [ $# -gt 1 ] && [ $names -lt ${NAMES_LOOKED_AT} ]; do rm -f "$1"; shift; names=$((names + 1)); done
}
keep_last "$newest"/*`;
}
