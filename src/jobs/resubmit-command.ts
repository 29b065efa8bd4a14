import type { ExitReason } from "../messages/job-event.ts";
import { quote, quoteAll } from "../shells/quote.ts";
import { SUBMITTED_BYTES } from "../shells/bounded-file.ts";
import { CUT_OFF_AFTER_SECONDS, functions, type JobDirectory } from "./directory.ts";
import { cancelWaiting, SQUEUE } from "../slurm/squeue.ts";

/** All that comes before it takes less: two looks of `squeue`, a `scontrol` and a `scancel`, each with its own limit. */
const SUBMIT_AGAIN_WITHIN_SECONDS = 110;

/** Its reservation was deleted before it could run, Slurm has forgotten it, or its run has failed for this. */
export type WhyAgain = ExitReason | "slurm-forgot";

export interface ResubmitRequest extends JobDirectory {
  /** Slurm's id of the job that waits for a reservation that is no more. */
  slurmJobId: string;
  sbatchArguments: readonly string[];
  reservation: string | null;
  partition: string | null;
  why: WhyAgain;
}

/**
 * Submits the script of a job again, as the same job: of one that Slurm holds because its reservation was deleted, which
 * is cancelled first, or of one that its node or another job has ended. Of several callers one can make the lock, named
 * after the Slurm job that is replaced: while it stands, that job's cancellation means nothing. A caller that died between
 * lock and answer is followed by one that finds the new job by its comment, or submits: so whoever was held up for long does
 * not submit any more. Slurm's ids begin again at its MaxJobId, and say nothing of which job is newer. Only a whole listing
 * says that the old job is gone; and of a held one, only one that never ran is replaced.
 */
export function resubmitCommand(request: ResubmitRequest, account: string): string {
  const { jobsDirectory, jobId, slurmJobId, sbatchArguments, why } = request;
  const isHeld = why === "reservation-deleted";
  return `${functions(jobsDirectory, jobId)}
old=${quote(slurmJobId)}
lines "$d/submitted" ${SUBMITTED_BYTES} || exit 1
[ "\${first%%;*}" = "$old" ] || answered
lock="$d/.resubmit.$old" own=$lock
if ! mkdir "$lock" 2>/dev/null; then
  clock
  made=$(stat -c %Y "$d") || exit 1
  own=$lock.$made
  [ $((now - made)) -ge ${CUT_OFF_AFTER_SECONDS} ] && mkdir "$own" 2>/dev/null || say in-flight
fi
${REPLACED_BEFORE}
look() {
  list=$(${SQUEUE} --array --noheader --states=all --user=${quote(account)} --format='%i %T %k') || exit 1
  state=$(printf '%s\\n' "$list" | awk -v id="$old" '$1 == id { print $2; exit }')
}
leave() { rmdir "$lock" "$lock".* 2>/dev/null; say "running $1"; }
is_ours_still() {
  clock
  locked=$(stat -c %Y "$own") && [ $((now - locked)) -lt ${SUBMIT_AGAIN_WITHIN_SECONDS} ] || return 1
  newest=$lock
  for one in "$lock".*; do [ ! -d "$one" ] || newest=$one; done
  [ "$newest" = "$own" ]
}
look
${isHeld ? CANCEL_HELD : LEAVE_ALIVE}
by_marker() {
  new=$(printf '%s\\n' "$list" | awk -v m="$m" -v r="$replaced" '
    $3 == m && $1 ~ /^[0-9]+$/ && !index(r, " " $1 " ") && $2 !~ /^CANCELLED/ { print $1; exit }')
}
by_marker
${isHeld ? '[ ! -f "$d/started.$old" ] || leave "$old"' : ""}
${STARTED_ANEW}
[ -n "$new" ] || [ ! -f "$d/.cancelled" ] || leave CANCELLED
[ -n "$new" ] || {
  is_ours_still || say in-flight
  # By the directory's time others judge whether this was cut off.
  # And from now on no submit of before can begin, should Slurm requeue it.
  touch "$d" && turn && echo "$old" > "$d/.begun.$turn" || exit 1
  ask_sbatch ${quoteAll(sbatchArguments)} "$d/run.sh" '' $((turn + 1)) && new=$id || {
    failed=$code
    look
    by_marker
  }
}
[ -n "$new" ] || say "failed $failed"
moved "$new" ${allocationLine(request)}`;
}

/** The second line of `submitted`, as a word of the shell. */
export function allocationLine({ reservation, partition, why }: ResubmitRequest): string {
  return quote(`${reservation ?? "-"} ${partition ?? "-"} ${why}`);
}

/** Sets `replaced`: Slurm's ids of the job's submits that were replaced, each between spaces. */
export const REPLACED_BEFORE = `replaced=' '
for one in "$d"/.resubmit.*; do
  one=\${one#"$d/.resubmit."}
  replaced="$replaced\${one%%.*} "
done`;
/** Unless `new` is known: the submit that has begun, and was not replaced. */
export const STARTED_ANEW = `for one in "$d"/started.[0-9]*; do
  [ -z "$new" ] && [ -f "$one" ] || break
  case $replaced in *" \${one##*.} "*) ;; *) new=\${one##*.} ;; esac
done`;

const CANCEL_HELD = `case $state in RESV_DEL_HOLD | PENDING) ${cancelWaiting('"$old"', '"$m"')}; look ;; esac
case $state in '' | CANCELLED*) ;; *) leave "$state" ;; esac`;
/** Slurm may have started it again by itself. */
const LEAVE_ALIVE = `case $state in
  PENDING | RUNNING | CONFIGURING | COMPLETING | REQUEUED | SUSPENDED | REQUEUE_HOLD | SPECIAL_EXIT) leave "$state" ;;
  CANCELLED*) leave "$state" ;;
esac`;
