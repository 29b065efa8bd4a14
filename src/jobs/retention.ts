import { quote } from "../shells/quote.ts";
import { BOUNDED_FILE, SUBMITTED_BYTES, within } from "../shells/bounded-file.ts";
import { IS_RUNNING } from "./process.ts";
import { SQUEUE } from "../slurm/squeue.ts";

/** Less than whoever calls waits. */
const REMOVE_SECONDS = 1700;

/** Whose jobs they are: an account's in Slurm, or those of this host, which knows its own processes. */
export type Whose = { account: string } | { host: string };

/**
 * Removes directories of jobs that were last written to before `retentionDays`, but of none that may still run, for weeks:
 * Slurm has it, or it is a process without an end on another host. If Slurm does not answer, nothing is removed. A directory
 * is renamed first: one that is half removed would look like a submit that was cut off. What is left of turns of that time
 * goes too. Prints how many there were.
 */
export function retentionCommand(jobsDirectory: string, whose: Whose, retentionDays: number): string {
  const minutes = Math.ceil(retentionDays * 24 * 60);
  const living =
    "account" in whose
      ? `living=$(${SQUEUE} --noheader --states=all --user=${quote(whose.account)} --format=%k) || exit 1`
      : "living=";
  return within(
    REMOVE_SECONDS,
    `${BOUNDED_FILE}
${IS_RUNNING}
cd ${quote(jobsDirectory)} 2>/dev/null || exit 0
${living}
may_be_a_process() {
  lines "$1/submitted" ${SUBMITTED_BYTES}
  run=$first
  case $run in *";"*) ;; *) return 1 ;; esac
  [ ! -f "$1/ended.\${run%%;*}" ] || return 1
  [ "\${run#*;}" != ${quote("host" in whose ? whose.host : "")} ] || is_running "\${run%%;*}" ${quote(jobsDirectory)}/"$1"
}
old=$(find . -ignore_readdir_race -mindepth 1 -maxdepth 1 -type d -name '[a-z0-9]*' ! -name '*[!A-Za-z0-9_-]*' -mmin +${minutes}) || exit 1
removed=0
failed=
for d in $old; do
  id=\${d#./}
  lines "$id/.array" ${SUBMITTED_BYTES}
  array=\${first%% *}
  case "
$living
" in *"
mento:$id
"* | *"
mento:array:$array
"*) continue ;; esac
  ! may_be_a_process "$id" || continue
  if mv "$id" ".removed.$id"; then removed=$((removed + 1))
  elif [ -d "$id" ]; then failed=yes
  fi
done
for d in $(find .arrays -mindepth 1 -maxdepth 1 -type d -mmin +${minutes} 2>/dev/null); do
  case "
$living
" in *"
mento:array:\${d#.arrays/}
"*) ;; *) rm -rf "$d" ;; esac
done
# By find: there may be more than the arguments of one command.
find . -ignore_readdir_race -mindepth 1 -maxdepth 1 -name '.removed.*' -exec rm -rf {} + || failed=yes
find .permits -path '*/newest/*' -type f -mmin +${minutes} -delete 2>/dev/null
find .permits -mindepth 1 -type d -empty -mmin +${minutes} -delete 2>/dev/null
find .spool .copies -type f -mmin +${minutes} -delete 2>/dev/null
[ -z "$failed" ] || exit 1
echo "mento:$removed"`,
  );
}

/** Undefined: it did not come to its end. */
export function parseRemoved(output: string): number | undefined {
  const found = /^mento:(\d+)$/m.exec(output)?.[1];
  return found === undefined ? undefined : Number(found);
}
