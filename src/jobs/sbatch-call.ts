import { AS_ACCOUNT } from "../shells/environment.ts";

/**
 * `sbatch` retries by itself: for 120 s and longer, if each try is slow or a backup controller answers (sbatch.c). It is
 * not let do so: a submit must have an end before it counts as cut off.
 */
const SBATCH = `${AS_ACCOUNT} timeout -k 5 120 sbatch`;

/**
 * A function of the shell, `ask_sbatch`: submits, sets `code`, and `id` if `sbatch` has ended well and said one. The id is
 * found by its form, that of `--parsable`, wherever it stands: a wrapper, or a plugin, may greet or tell of other jobs. If
 * there is no such line, or more than one, nobody can tell: it fails, and the job is looked for by its marker.
 */
export const ASK_SBATCH = `ask_sbatch() {
  code=0 id= ids=0 lines=$IFS
  said=$(${SBATCH} "$@") || code=$?
  IFS='
'
  set -f
  for line in $said; do
    number=\${line%%;*}
    case $number in '' | 0* | *[!0-9]*) continue ;; esac
    case \${line#"$number"} in
      '') ;;
      ';' | ';'*[!A-Za-z0-9._-]*) continue ;;
    esac
    id=$line ids=$((ids + 1))
  done
  set +f
  IFS=$lines
  [ $code = 0 ] && [ $ids = 1 ] || { id=; return 1; }
}`;

/** The exit code of an `sbatch` that says itself why it failed; any other is a signal's, `timeout`'s or a wrapper's. */
export const SBATCH_FAILED = 1;
