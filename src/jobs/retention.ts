import { quote } from "../shells/quote.ts";

/**
 * Removes directories of jobs that were last written to before `retentionDays`, but of none that Slurm still has: it may
 * run for weeks. If Slurm does not answer, nothing is removed. A directory is renamed first: one that is half removed
 * would look like a submit that was cut off. What is left of turns of that time goes too. Prints how many there were.
 */
export function retentionCommand(jobsDirectory: string, account: string, retentionDays: number): string {
  const minutes = Math.ceil(retentionDays * 24 * 60);
  return `cd ${quote(jobsDirectory)} 2>/dev/null || exit 0
living=$(squeue --noheader --states=all --user=${quote(account)} --format=%k) || exit 1
removed=0
for d in $(find . -mindepth 1 -maxdepth 1 -type d -name '[a-z0-9]*' -mmin +${minutes}); do
  id=\${d#./}
  array=
  [ ! -s "$id/.array" ] || read -r array rest < "$id/.array"
  case "
$living
" in *"
mento:$id
"* | *"
mento:array:$array
"*) continue ;; esac
  mv "$id" ".removed.$id" 2>/dev/null && removed=$((removed + 1))
done
for d in $(find .arrays -mindepth 1 -maxdepth 1 -type d -mmin +${minutes} 2>/dev/null); do
  case "
$living
" in *"
mento:array:\${d#.arrays/}
"*) ;; *) rm -rf "$d" ;; esac
done
rm -rf .removed.*
find .seats -path '*/newest/*' -type f -mmin +${minutes} -delete 2>/dev/null
find .seats -mindepth 1 -type d -empty -mmin +${minutes} -delete 2>/dev/null
find .spool .copies -type f -mmin +${minutes} -delete 2>/dev/null
echo "mento:$removed"`;
}

/** Undefined: it did not come to its end. */
export function parseRemoved(output: string): number | undefined {
  const found = /^mento:(\d+)$/m.exec(output)?.[1];
  return found === undefined ? undefined : Number(found);
}
