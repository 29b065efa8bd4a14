import { AS_ACCOUNT } from "../shells/environment.ts";

/**
 * `sbatch` retries by itself: for 120 s and longer, if each try is slow or a backup controller answers (sbatch.c). It is
 * not let do so: a submit must have an end before it counts as cut off.
 */
const SBATCH = `${AS_ACCOUNT} timeout -k 5 120 sbatch`;

/** The exit code of an `sbatch` that says itself why it failed; any other is a signal's, `timeout`'s or a wrapper's. */
export const SBATCH_FAILED = 1;

/** sbatch.c: the line by which it tells that a submit has failed, and why. */
export const SUBMIT_FAILED = "sbatch: error: Batch job submission failed: ";
export const SBATCH_FATAL = "sbatch: fatal: ";

/** A line behind all that `sbatch` prints, with its exit code. */
const ENDED = "mento-sbatch-ended";
/** As if it had been killed: nobody can tell what it has done. */
const ENDED_UNCLEARLY = 137;
/** Bytes: what prints more is not listened to. */
const MOST_SAID = 256 * 1024;

/**
 * Functions of the shell. `until_ended` prints what `sbatch` does until that has ended, and ends with its exit code: what
 * it has left behind may hold its outputs for longer. `ask_sbatch` submits, sets `code`, and `id` if `sbatch` has ended well and printed an id of the
 * form of `--parsable`, and nothing else but messages of its own. A wrapper, or a plugin, may greet, submit more than one
 * job, or tell of others: then nobody can tell which is ours; it fails, and the job is looked for by its comment.
 * `note_failed` makes a directory's `.failed`: empty if it is over, for `sbatch` ended by itself and said why, or nothing.
 */
export const ASK_SBATCH = `until_ended() {
  size=0
  while IFS= read -r line; do
    case $line in '${ENDED} '*) [ $size -le ${MOST_SAID} ] && exit "\${line##* }" || exit ${ENDED_UNCLEARLY} ;; esac
    size=$((size + \${#line} + 1))
    [ $size -gt ${MOST_SAID} ] || printf '%s\\n' "$line"
  done
  exit ${ENDED_UNCLEARLY}
}
ask_sbatch() {
  code=0 id= over= printed=0 lines=$IFS
  said=$({ ${SBATCH} "$@" 2>&1; printf '\\n%s %s\\n' ${ENDED} $?; } | until_ended) || code=$?
  [ -n "$said" ] || over=yes
  IFS='
'
  set -f
  for line in $said; do
    case $line in
      '${SUBMIT_FAILED}'* | '${SBATCH_FATAL}'*) over=yes; continue ;;
      'sbatch: '*) over=; continue ;;
    esac
    printed=$((printed + 1)) number=\${line%%;*}
    case $number in '' | 0* | *[!0-9]*) continue ;; esac
    case \${line#"$number"} in
      '') ;;
      ';' | ';'*[!A-Za-z0-9._-]*) continue ;;
    esac
    id=$line
  done
  set +f
  IFS=$lines
  [ "$said" = "$id" ] || printf '%s\\n' "$said" >&2
  [ $code = 0 ] && [ $printed = 1 ] && [ -n "$id" ] || {
    [ $code = ${SBATCH_FAILED} ] && [ -z "$id" ] || over=
    id=
    return 1
  }
}
note_failed() { { [ -n "$over" ] || echo "$code"; } > "$1"; }`;
