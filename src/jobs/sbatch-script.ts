import { quote } from "../shells/quote.ts";
import { flagMeant, isOwnedFlag } from "../triggers/slurm-flags.ts";
import { READ_SECONDS, within } from "./bounded-file.ts";
import { shellWords } from "./shell-words.ts";

/** What a user's own sbatch script asks for, in the order of its lines: long names; null: an option without a value. */
export type SbatchOptions = readonly (readonly [name: string, value: string | null])[];

/** Enough for every `#SBATCH` line: sbatch reads them until the first command. */
export const HEAD_BYTES = 32 * 1024;

/** The beginning of a file, or nothing if it cannot be read. */
export function headCommand(program: string): string {
  return `${within(READ_SECONDS, `head -c ${HEAD_BYTES} -- ${quote(program)} 2>/dev/null`)} || :`;
}

/** sbatch(1). */
const LONG_NAMES: Record<string, string> = {
  ...{ A: "account", a: "array", B: "extra-node-info", b: "begin", C: "constraint", c: "cpus-per-task" },
  ...{
    D: "chdir",
    d: "dependency",
    e: "error",
    F: "nodefile",
    G: "gpus",
    H: "hold",
    i: "input",
    J: "job-name",
  },
  ...{
    k: "no-kill",
    L: "licenses",
    M: "clusters",
    m: "distribution",
    N: "nodes",
    n: "ntasks",
    O: "overcommit",
  },
  ...{ o: "output", p: "partition", Q: "quiet", q: "qos", S: "core-spec", s: "oversubscribe", t: "time" },
  ...{ v: "verbose", W: "wait", w: "nodelist", x: "exclude" },
};
const WITHOUT_VALUE = new Set(["hold", "no-kill", "overcommit", "oversubscribe", "quiet", "verbose", "wait"]);

/**
 * The options of a script's `#SBATCH` lines, which end with its first command; undefined if it is no such script: it has
 * no `#!`, or no such line.
 */
export function sbatchOptions(head: string): SbatchOptions | undefined {
  if (!head.startsWith("#!")) return undefined;
  const options: [string, string | null][] = [];
  let isScript = false;
  for (const line of head.split("\n")) {
    if (line.trim() !== "" && !line.startsWith("#")) break;
    if (!/^#SBATCH\s/.test(line)) continue;
    isScript = true;
    options.push(...optionsOf(wordsOf(line.slice("#SBATCH".length))));
  }
  return isScript ? options : undefined;
}

/** A line that sbatch will not understand either is left for its own words. */
function wordsOf(line: string): string[] {
  try {
    return shellWords(line, true);
  } catch {
    return line.trim().split(/\s+/);
  }
}

function optionsOf(words: readonly string[]): [string, string | null][] {
  const options: [string, string | null][] = [];
  for (let at = 0; at < words.length; at++) {
    const word = words[at] ?? "";
    const next = words[at + 1];
    const [, long, equals, value = ""] = /^--([\w-]+)(=)?(.*)$/s.exec(word) ?? [];
    const [, short, rest = ""] = /^-(\w)(.*)$/s.exec(word) ?? [];
    const given = long ?? (short === undefined ? undefined : (LONG_NAMES[short] ?? short));
    const name = long === undefined ? given : (flagMeant(long) ?? long);
    if (name === undefined) continue;
    if (equals !== undefined) options.push([name, value]);
    else if (rest !== "") options.push([name, rest]);
    else if (next !== undefined && !next.startsWith("-") && !WITHOUT_VALUE.has(name)) {
      options.push([name, next]);
      at += 1;
    } else options.push([name, null]);
  }
  return options;
}

/** The lines that go into the run script: what Mento does not say itself. */
export function directiveLines(options: SbatchOptions): string[] {
  return options
    .filter(([name]) => !isOwnedFlag(name))
    .map(([name, value]) => `#SBATCH --${name}${value === null ? "" : `=${doubleQuoted(value)}`}`);
}

/** sbatch knows both quotes and backslashes. */
function doubleQuoted(value: string): string {
  return /^[\w.,:@%+/=[\]&|*-]*$/.test(value) ? value : `"${value.replace(/["\\]/g, "\\$&")}"`;
}
