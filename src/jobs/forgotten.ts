import { quote, quoteAll } from "../shells/quote.ts";
import { SUBMITTED_BYTES } from "../shells/bounded-file.ts";
import { ACCEPTED_FUNCTION } from "./cancel-request.ts";
import { CUT_OFF_AFTER_SECONDS, functions } from "./directory.ts";
import { REPLACED_BEFORE, allocationLine, STARTED_ANEW, type ResubmitRequest } from "./resubmit-command.ts";
import { SQUEUE } from "../slurm/squeue.ts";

/** Slurm drops a job MinJobAge after its end: a look must come so much earlier to show that it was never there. */
const BEFORE_DROPPED_SECONDS = 30;
/** Clocks that tell whole seconds, of two hosts. */
const CLOCKS_DIFFER_SECONDS = 2;
/** From its claim to its `sbatch` a caller needs no longer; whoever was held up does not submit any more. */
const SUBMIT_WITHIN_SECONDS = 20;

/**
 * Submits a job again that Slurm has accepted and forgotten: a controller that is killed loses what it has not written
 * down yet, the last 5 seconds (slurmctld, save_state). It is taken for forgotten only if the controller has started since
 * its script was written, does not list the job, and would still list it had it ended meanwhile (MinJobAge).
 *
 * Slurm gives the lost id to the next job, perhaps to this one: so nothing is told by ids alone. Which of the job's submits
 * may run is decided by `.begun.<n>`, which the script of the submit makes, empty, when it begins, and whoever replaces
 * that submit makes, not empty, before: only one of them can. Should the script of a replaced submit come after all, it does
 * nothing. A caller that died in between is followed by one that finds its job by the job comment, or replaces it in turn.
 */
export function forgottenCommand(request: ResubmitRequest, account: string): string {
  const { jobsDirectory, jobId, slurmJobId, sbatchArguments } = request;
  return `${functions(jobsDirectory, jobId)}
${ACCEPTED_FUNCTION}
old=${quote(slurmJobId)}
lines "$d/submitted" ${SUBMITTED_BYTES} || exit 1
[ "\${first%%;*}" = "$old" ] || answered
[ ! -d "$d/.resubmit.$old" ] || say in-flight
at=$(stat -c %Y "$d/submitted") && made=$(stat -c %Y "$d/run.sh") || exit 1
turn
is_claimed=
if [ $turn -gt 0 ]; then
  made=$(stat -c %Y "$d/.begun.$((turn - 1))") || exit 1
  # Another has replaced it, and has no answer yet, or has died.
  [ ! "$d/.begun.$((turn - 1))" -nt "$d/submitted" ] || is_claimed=yes
fi
clock
before=$now
config=$(SLURM_TIME_FORMAT=%s timeout -k 5 20 scontrol show config) || exit 1
look() {
  list=$(${SQUEUE} --all --array --noheader --states=all --user=${quote(account)} --format='%i|%T|%k|%Z') || exit 1
}
by_marker() {
  new=$(printf '%s\\n' "$list" | awk -F'|' -v m="$m" -v r="$replaced" '
    $3 == m && $1 ~ /^[0-9]+$/ && !index(r, " " $1 " ") && $2 !~ /^CANCELLED/ { print $1; exit }')
}
look
clock
# A number and what it counts: a date, where something takes the format away, would be its year.
of() { printf '%s\\n' "$config" | sed -n "s/^$1[ =]*\\([0-9][0-9]*\\)\\( .*\\)\\{0,1\\}$/\\1/p"; }
there=$(of 'Configuration data as of') boot=$(of BOOT_TIME) keeps=$(of MinJobAge)
[ -n "$there" ] && [ -n "$boot" ] && [ -n "$keeps" ] || exit 1
read_array
is_known=$(printf '%s\\n' "$list" | awk -F'|' -v id="$old" -v m="$m" -v d="$d" -v am="mento:array:$array" -v ad="$arrays/$array" '
  $1 == id && ($3 == m || $4 == d || $3 == am || $4 == ad) { print "yes" }')
[ -z "$is_known" ] || say 'running KNOWN'
if [ -n "$is_claimed" ]; then
  ${REPLACED_BEFORE}
  by_marker
  ${STARTED_ANEW}
  [ -z "$new" ] || moved "$new" ${allocationLine(request)}
  [ $((now - made)) -ge ${CUT_OFF_AFTER_SECONDS} ] || say in-flight
else
  [ $boot -ge $((made + there - before - ${CLOCKS_DIFFER_SECONDS})) ] || say 'running BOOT'
  [ $keeps = 0 ] || [ $((now - at)) -lt $((keeps - ${BEFORE_DROPPED_SECONDS})) ] || say 'running AGE'
fi
[ ! -f "$d/started.$old" ] || say 'running BEGUN'
replace "$old" || say 'running BEGUN'
if [ -f "$d/.cancelled" ]; then
  # Nothing of it can begin any more.
  accepted "$d"
  say 'running CANCELLED'
fi
clock
claimed=$(stat -c %Y "$d/.begun.$turn") && [ $((now - claimed)) -lt ${SUBMIT_WITHIN_SECONDS} ] || say in-flight
ask_sbatch ${quoteAll(sbatchArguments)} "$d/run.sh" '' $((turn + 1)) && new=$id || {
  failed=$code
  ${REPLACED_BEFORE}
  look
  by_marker
  [ -n "$new" ] || say "failed $failed"
}
[ ! -s "$d/.begun.$((turn + 1))" ] || say in-flight
moved "$new" ${allocationLine(request)}`;
}
