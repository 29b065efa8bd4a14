import { posix } from "node:path";
import { quote } from "../shells/quote.ts";

/** The data of a job, as it must be before the job starts: judged by the node's shell, for the job reads it there. */
export interface DataWanted {
  /** The session's folder on the core file system: no path, and no symbolic link in it, may lead out. */
  root: string;
  /** On the core file system. */
  paths: readonly string[];
  /** The size of each, if the message told. Without, the data must look the same twice. */
  bytes: readonly number[] | undefined;
  /** Whether an HDF5 master's data files must be there too. */
  companions: boolean;
  /** What an earlier look saw of data of unknown size: if it is the same again, the data is whole. */
  seenBefore: string | undefined;
  /** It has looked the same twice. */
  isSettled: boolean;
}

/** Data of unknown size that was last written so long ago needs no second look. */
const SETTLED_SECONDS = 10;

/** A master is read through, and may be anything of any size. */
const GREP_SECONDS = 60;
/** Of so many data files a master may tell. */
const MOST_COMPANIONS = 100_000;

const MASTER = /^(.*)_master\.(h5|hdf5|nxs)$/;

/**
 * Shell that says why the data cannot be taken yet, or goes on if it can. It needs `say`, which answers and ends:
 *
 * - `missing <index> -`: not listed in its folder, or not to be reached
 * - `missing <index> <bytes>`: there, but of another size
 * - `companion <index> <name>`: a data file of a master is not there
 * - `outside <index> <real path>`: a symbolic link leads out of the session
 * - `changing <look>`: of unknown size, written lately, and not seen before as it is now; two looks that saw the same
 *   sizes and times are the same
 *
 * A folder is listed by a pattern that only one name fits: a listing is right where a file's own attributes are still
 * cached (snakemake#39, batchtools#85), and costs no process.
 */
export function dataCheck(data: DataWanted): string {
  const checks = data.paths.flatMap((path, index) => checkOne(data, path, index));
  return [
    `cd -P ${quote(data.root)} 2>/dev/null && root=\${PWD%/} || say 'missing 0 -'`,
    FUNCTIONS,
    ...checks,
    ...(data.isSettled ? [] : [lookTwice(data.seenBefore ?? "")]),
  ].join("\n");
}

/** The arguments of the shell become the files of unknown size. */
const FUNCTIONS = `set --
inside() { case $2/ in "$root"/*) ;; *) say "outside $1 $(printf %s "$2" | tr '\\n' ' ')" ;; esac; }
file() {
  [ -e "./$2" ] || say "$3"
  [ ! -L "./$2" ] || inside "$1" "$(readlink -f "./$2")"
}`;

function lookTwice(before: string): string {
  return `[ $# = 0 ] || {
  look=$(find -L "$@" -maxdepth 0 -newermt '${SETTLED_SECONDS} seconds ago' -printf '%s:%T@,') || say 'missing 0 -'
  [ -z "$look" ] || {
    look=$(printf %s "$look" | sha256sum) look=\${look%% *}
    [ -n "$look" ] && [ "$look" = ${quote(before)} ] || say "changing $look"
  }
}`;
}

function checkOne(data: DataWanted, path: string, index: number): string[] {
  const { dir, base } = posix.parse(path);
  const missing = `missing ${index} -`;
  const size = data.bytes?.[index];
  const stem = data.companions ? MASTER.exec(base)?.[1] : undefined;
  return [
    `cd -P ${quote(dir)} 2>/dev/null || say '${missing}'`,
    `inside ${index} "$PWD"`,
    ...listed(base, missing),
    `file ${index} ${quote(base)} '${missing}'`,
    size === undefined
      ? `set -- "$@" "$PWD/"${quote(base)}`
      : `n=$(stat -Lc %s ${quote(`./${base}`)}) || n=-; [ "$n" = ${size} ] || say "missing ${index} $n"`,
    ...(stem === undefined ? [] : [companionsOf(base, stem, index)]),
  ];
}

/** A name without a letter or digit has no such pattern. */
function listed(name: string, missing: string): string[] {
  const at = name.search(/[A-Za-z0-9]/);
  if (at < 0) return [];
  const pattern = `./${quote(name.slice(0, at))}[${name.charAt(at)}]${quote(name.slice(at + 1))}`;
  return [`for f in ${pattern}; do [ "$f" = ${quote(`./${name}`)} ] || say '${missing}'; done`];
}

/**
 * An Eiger's master links to its data files by their names, which stand in it as plain text; a master that names none
 * has those that are listed beside it, at least one.
 */
function companionsOf(base: string, stem: string, index: number): string {
  const literal = stem.replace(/[.^$*+?()[\]{}|\\]/g, String.raw`\$&`);
  const pattern = quote(`${literal}_data_[0-9]+\\.(h5|hdf5|nxs)`);
  const none = quote(`companion ${index} ${stem}_data_*`);
  return `[ -f ${quote(`./${base}`)} ] || say 'missing ${index} -'
names=$(LC_ALL=C timeout ${GREP_SECONDS} grep -aoE -e ${pattern} ${quote(`./${base}`)} | head -n ${MOST_COMPANIONS} | sort -u)
listing=$(ls -1 | LC_ALL=C grep -xE -e ${pattern}) || say ${none}
while IFS= read -r name; do
  printf '%s\\n' "$listing" | grep -qxF -e "$name" || say "companion ${index} $name"
  file ${index} "$name" "companion ${index} $name"
  set -- "$@" "$PWD/$name"
done <<mento-names
\${names:-$listing}
mento-names`;
}
