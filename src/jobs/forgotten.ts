import { quote, quoteAll } from "../shells/quote.ts";
import { CUT_OFF_AFTER_SECONDS, functions, SBATCH, slotLine, type ResubmitRequest } from "./directory.ts";
import { SQUEUE } from "./squeue.ts";

/** Slurm drops a job MinJobAge after its end: a look must come so much earlier to show that it was never there. */
const BEFORE_DROPPED_SECONDS = 30;
/** Clocks that tell whole seconds, of two hosts. */
const CLOCKS_DIFFER_SECONDS = 2;
/** From its claim to its `sbatch` a caller needs no longer; whoever was held up does not submit any more. */
const SUBMIT_WITHIN_SECONDS = 20;

/**
 * Submits a job again that Slurm has accepted and forgotten: a controller that is killed loses what it has not written
 * down yet, the last 5 seconds (slurmctld, save_state). It is taken for forgotten only if the controller has started after
 * it had answered `sbatch`, does not list the job, and would still list it had it ended meanwhile (MinJobAge).
 *
 * Slurm gives the lost id to the next job, perhaps to this one: so nothing is told by ids. Which of the job's submits may
 * run is decided by `.begun.<n>`, which the script of the submit makes, empty, when it begins, and whoever replaces that
 * submit makes, not empty, before: only one of them can. Should the script of a replaced submit come after all, it does nothing.
 * A caller that died in between is followed by one that finds its job by the marker, or replaces it in turn.
 */
export function forgottenCommand(request: ResubmitRequest, account: string): string {
  const { jobsDirectory, jobId, slurmJobId, sbatchArguments } = request;
  return `${functions(jobsDirectory, jobId)}
old=${quote(slurmJobId)}
read -r id < "$d/submitted" || exit 1
[ "\${id%%;*}" = "$old" ] || answered
[ ! -f "$d/.cancelled" ] || say 'running CANCELLED'
config=$(SLURM_TIME_FORMAT=%s timeout -k 5 20 scontrol show config) || exit 1
of() { printf '%s\\n' "$config" | sed -n "s/^$1[ =]*\\([0-9][0-9]*\\).*/\\1/p"; }
now_there=$(of 'Configuration data as of') boot=$(of BOOT_TIME) keeps=$(of MinJobAge)
clock
list=$(${SQUEUE} --array --noheader --states=all --user=${quote(account)} --format='%i|%k|%Z') || exit 1
[ ! -s "$d/.array" ] || read -r array index < "$d/.array"
new=$(found)
[ "$new" != "$old" ] || say 'running KNOWN'
[ -z "$new" ] || moved "$new" ${slotLine(request)}
at=$(stat -c %Y "$d/submitted") || exit 1
turn
if [ $turn -gt 0 ] && claimed=$(stat -c %Y "$d/.begun.$((turn - 1))") && [ $claimed -gt $at ]; then
  # Another has replaced it, and has no answer yet, or died.
  [ $((now - claimed)) -ge ${CUT_OFF_AFTER_SECONDS} ] || say in-flight
  at=$claimed boot=$now_there
fi
at_there=$((at + now_there - now))
[ $boot -ge $((at_there - ${CLOCKS_DIFFER_SECONDS})) ] || say 'running BOOT'
[ $keeps = 0 ] || [ $((now_there - at_there)) -lt $((keeps - ${BEFORE_DROPPED_SECONDS})) ] || say 'running AGE'
echo "$old" > "$d/.replaced.$$" && ln "$d/.replaced.$$" "$d/.begun.$turn" 2>/dev/null
is_replaced=$?
rm -f "$d/.replaced.$$"
[ $is_replaced = 0 ] || say 'running BEGUN'
clock
claimed=$(stat -c %Y "$d/.begun.$turn") && [ $((now - claimed)) -lt ${SUBMIT_WITHIN_SECONDS} ] || say in-flight
new=$(${SBATCH} ${quoteAll(sbatchArguments)} "$d/run.sh" '' $((turn + 1))) || say "failed $?"
moved "$new" ${slotLine(request)}`;
}
