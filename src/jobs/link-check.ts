import { posix } from "node:path";
import { quote } from "../shells/quote.ts";

/** What a job on the worker's host is given: it runs as the worker's account, which may read more than its beamtime. */
export interface DataHere {
  /** Of data, and of results of the job before; what is not there is no harm. */
  paths: readonly string[];
  /** Arguments, variables and input in which paths begin: each cut where one does, without what stands before the first. */
  texts: readonly (readonly string[])[];
  /** No path may lead out of all of these, also by symbolic links. */
  folders: readonly string[];
  /** Nor to one of these, by whatever name; to a copy of one; nor to a folder that one lies in. */
  secrets: readonly string[];
}

/** All that {@link linkCheck} may answer about, by its index. */
export function checkedHere({ paths, texts }: DataHere): string[] {
  return [...paths, ...texts.map((pieces) => pieces.join("").slice(0, 1024))];
}

/** The check of one job may take so long; on a busy host it is tried again. */
const MOST_SECONDS = 20;
/** So many names are looked at in a job's texts, and down so many folders: some seconds' work. */
const MOST_NAMES = 20_000;
const MOST_FOLDERS = 64;

/**
 * Shell that answers `outside <index> <real path>`, or `too-long <index>`, or goes on. It needs `say`. A master's data files
 * are looked at with it, for its reader opens them: those that are called like it, and like what it is a link to.
 *
 * What a program takes for a path in a text only it knows: `--in=A,B`, `FILE::/entry`, `FILE[0]`. So whatever there is
 * must be allowed whose name is in the text from where a path begins, to its end, or to any character that is no letter,
 * digit or `_`.
 */
export function linkCheck({ paths, texts, folders, secrets }: DataHere): string {
  const known = folders.map(
    (folder, at) => `folder${at}=/dev/null; ! cd -P ${quote(folder)} 2>/dev/null || folder${at}=\${PWD%/}`,
  );
  const patterns = folders.map((_, at) => `"$folder${at}"/*`);
  const checks = paths.map((path, index) => {
    const { dir, base } = /(^|\/)\.\.?\/?$/.test(path) ? { dir: path, base: "" } : posix.parse(path);
    if (!path.startsWith("/")) return `say ${quote(`outside ${index} ${path.replaceAll("\n", " ")}`)}`;
    return `index=${index}; ! enter ${quote(dir)} || entry ${quote(base)}`;
  });
  const inTexts = texts.map((pieces, at) => {
    const assigned = pieces.map((piece, number) => `p${number}=${quote(piece).replaceAll("\r", `'"$cr"'`)}`);
    return `index=${paths.length + at} end=${pieces.length}\n${assigned.join("\n")}\ntext`;
  });
  // Of a text with one, `sbatch` would say that the script has DOS line breaks.
  return `LC_ALL=C names=0 entries=0 files=0 seen=/ clean= begun=$(date +%s) cr=$(printf '\\r')
procs=:$(awk '$3 == "proc" { printf "%s:", $2 }' /proc/mounts)
${known.join("\n")}
is_inside() { case $1/ in ${patterns.length === 0 ? "''" : patterns.join(" | ")}) ;; *) return 1 ;; esac; }
outside() { say "outside $index $(printf %s "$real" | tr '\\n' ' ')"; }
# Whether a name leads through /proc: its links lead each process elsewhere, to where it works or what it has open.
through_proc() {
  to_go=$1 at= hops=0
  while [ -n "$to_go" ]; do
    step=\${to_go%%/*}
    case $to_go in */*) to_go=\${to_go#*/} ;; *) to_go= ;; esac
    case $step in '' | .) continue ;; ..) at=\${at%/*}; continue ;; esac
    at=$at/$step
    case $procs in *":$at:"*) return 0 ;; esac
    [ -L "$at" ] || continue
    hops=$((hops + 1))
    [ $hops -le 40 ] || return 0
    target=$(readlink -n -- "$at" && printf .) || exit 1
    target=\${target%.}
    case $target in /*) at= ;; *) at=\${at%/*} ;; esac
    to_go=$target/$to_go
  done
  return 1
}
not_by_proc() { ! through_proc "$1" || { real=$at; outside; }; }
# Neighbours lie in one folder.
enter() {
  [ "$1" = "$clean" ] || not_by_proc "$1"
  clean=$1
  cd -P "$1" 2>/dev/null
}
one_entry() {
  entries=$((entries + 1))
  [ $((entries % 64)) != 0 ] || [ $(($(date +%s) - begun)) -le ${MOST_SECONDS} ] || {
    echo "the look at what the job is told took over ${MOST_SECONDS} s" >&2
    exit 1
  }
}
# Later, with the secrets.
compare() { [ ! -f "$1" ] || { eval "file$files=\\$1 index$files=\\$index"; files=$((files + 1)); }; }
# What is called so in this folder; whatever it is not there is no harm.
entry() {
  [ -e "./$1" ] || [ -L "./$1" ] || return 0
  real=$PWD/$1
  case $seen in *"//$real//"*) return 0 ;; esac
  seen=$seen/$real//
  one_entry
  # A name may end with a newline.
  case $1 in
    . | ..) real=$(cd -P "./$1" && pwd) || return 0 ;;
    *) [ ! -L "./$1" ] || { not_by_proc "$PWD/$1"; real=$(readlink -m "./$1" && printf .) || exit 1; real=\${real%??}; } ;;
  esac
  is_inside "$real" || outside
  compare "$real"
  for secret in ${secrets.map(quote).join(" ")}; do
    [ ! "$real" -ef "$secret" ] || outside
    [ ! -d "$real" ] || case $(readlink -m "$secret") in "\${real%/}"/*) outside ;; esac
  done
  case $1 in *_master.h5 | *_master.hdf5 | *_master.nxs) ;; *) return 0 ;; esac
  folder=$PWD named=$1 led=$real
  data_files "$named"
  [ "$led" = "$folder/$named" ] || ! cd -P "\${led%/*}" 2>/dev/null || data_files "\${led##*/}"
  cd "$folder" || exit 1
}
# There may be thousands: where those lead that are links, two processes tell. None has a newline in its name.
data_files() {
  count=0
  for f in "./\${1%_master.*}"_data_*; do
    one_entry
    if [ -L "$f" ]; then count=$((count + 1)); else compare "$PWD/\${f#./}"; fi
    for secret in ${secrets.map(quote).join(" ")}; do
      [ ! "$f" -ef "$secret" ] || { real=$PWD/\${f#./}; outside; }
    done
  done
  [ $count -gt 0 ] || return 0
  targets=$(linked "$1" | xargs -0 readlink --) && led_to=$(linked "$1" | xargs -0 readlink -m --) || exit 1
  while IFS= read -r target; do
    one_entry
    count=$((count - 1))
    case $target in /*) ;; *) target=$PWD/$target ;; esac
    [ "\${target%/*}" = "$clean" ] || not_by_proc "\${target%/*}"
    clean=\${target%/*}
    [ ! -L "$target" ] || not_by_proc "$target"
  done <<mento-links
$targets
mento-links
  [ $count = 0 ] || { real=$PWD; outside; }
  while IFS= read -r real; do
    is_inside "$real" || outside
    compare "$real"
  done <<mento-links
$led_to
mento-links
}
each_file() {
  nth=0
  while [ $nth -lt $files ]; do
    eval "printf '%s\\\\0' \\"\\$file$nth\\""
    nth=$((nth + 1))
  done
}
# A few processes for all of them. One may be no file any more, but a pipe: then it would be waited for.
no_copies() {
  [ $files -gt 0 ] && [ -f "$1" ] && [ -s "$1" ] || return 0
  size=$(stat -L -c %s -- "$1") || exit 1
  copies=$(each_file | timeout -s KILL ${MOST_SECONDS} xargs -0 sh -c '
size=$1c secret=$2
shift 2
exec find "$@" -prune -type f -size "$size" -exec cmp -s "{}" "$secret" ";" -print' sh "$size" "$1" 2>/dev/null; printf ' %s' $?)
  case \${copies##* } in
    # Some of the files may be gone meanwhile.
    0 | 123) ;;
    124 | 137) echo "the look for copies of a key among what the job is told took over ${MOST_SECONDS} s" >&2; exit 1 ;;
    *) echo "the look for copies of a key among what the job is told failed" >&2; exit 1 ;;
  esac
  real=\${copies% *}
  [ -n "$real" ] || return 0
  real=\${real%%
*} nth=0
  while [ $nth -lt $files ]; do
    eval "[ \\"\\$file$nth\\" != \\"\\$real\\" ] || index=\\$index$nth"
    nth=$((nth + 1))
  done
  outside
}
linked() { for f in "./\${1%_master.*}"_data_*; do [ ! -L "$f" ] || printf '%s\\0' "$f"; done; }
text() {
  begin=0
  while [ $begin -lt $end ]; do
    walk $begin
    begin=$((begin + 1))
  done
}
# Down the folders that the text names from this piece on, as far as there are any. Each piece begins with a slash.
walk() {
  cd / || exit 1
  piece=$1 folders=0
  while [ $piece -lt $end ]; do
    eval "rest=\\$p$piece"
    piece=$((piece + 1))
    down || return 0
  done
}
down() {
  rest=\${rest#"\${rest%%[!/]*}"}
  while [ -n "$rest" ]; do
    name=\${rest%%/*}
    [ \${#name} -le 255 ] || { rest= name=$(printf %.256s "$name"); }
    rest=\${rest#"$name"} rest=\${rest#"\${rest%%[!/]*}"}
    beyond=:
    ! is_inside "$PWD" || { beyond=outside; shorter "$name"; }
    one_more
    [ -n "$rest" ] && [ -d "./$name" ] || entry "$name"
    [ ! -L "./$name" ] || not_by_proc "$PWD/$name"
    cd -P "./$name" 2>/dev/null || return
    folders=$((folders + 1)) real=$PWD
    [ $folders -le ${MOST_FOLDERS} ] || say "too-long $index"
    is_inside "$real" || $beyond
  done
}
shorter() {
  cut=$1
  while case $cut in *[!A-Za-z0-9_]*) ;; *) false ;; esac; do
    cut=\${cut%[!A-Za-z0-9_]*}
    one_more
    [ -z "$cut" ] || entry "$cut"
  done
}
one_more() { names=$((names + 1)); [ $names -le ${MOST_NAMES} ] || say "too-long $index"; }
${checks.join("\n")}
${inTexts.join("\n")}
for secret in ${secrets.map(quote).join(" ")}; do no_copies "$secret"; done
:`;
}
