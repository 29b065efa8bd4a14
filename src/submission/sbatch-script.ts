import { quote } from "../shells/quote.ts";
import { NOT_FROM_SCRIPT } from "../slurm/slurm-flags.ts";
import { READ_SECONDS, within } from "../shells/bounded-file.ts";
import { optionsOf, type SbatchOption } from "../slurm/sbatch-options.ts";
import { slurmSeconds } from "../slurm/slurm-time.ts";

/** What a user's own sbatch script asks for. */
export interface SbatchScript {
  /** In the order of its lines. */
  options: readonly SbatchOption[];
  /** Lines of other batch systems, which sbatch translates and Mento does not. */
  foreign: readonly string[];
  /** Why it is not submitted, and what helps. */
  mistake: { what: string; hint: string } | null;
}

/** Slurm takes no larger script (max_script_size). */
export const MOST_BYTES = 4 * 1024 * 1024;
/** Of its directives in all, in characters: each option is held against others, and goes into the run script. */
const MOST_IN_DIRECTIVES = 64 * 1024;

/** A program, if it may be a script with directives; else nothing. */
export function readCommand(program: string): string {
  const read = `head -c ${MOST_BYTES} -- ${quote(program)} 2>/dev/null`;
  const look = `${read} | LC_ALL=C grep -aqE '^#(SBATCH|SLURM|PBS|BSUB)'`;
  return `${within(READ_SECONDS, `${look} && ${read}`)} || :`;
}

/** A script as sbatch reads it (sbatch's opt.c of 22.05.8 and 24.11.5); undefined if it has no directives. */
export function readScript(text: string): SbatchScript | undefined {
  const words: string[] = [];
  const foreign: string[] = [];
  let hasDirectives = false;
  let mistake = formMistake(text);
  let length = 0;
  for (const [at, line] of text
    .replace(/^\uFEFF/, "")
    .split("\n")
    .entries()) {
    const [, directive] = /^#(?:SBATCH|SLURM)(.*)$/s.exec(line) ?? [];
    const isForeign = /^#(PBS|BSUB)[ \t]/.test(line);
    if (directive !== undefined || isForeign) length += line.length;
    if (length > MOST_IN_DIRECTIVES) {
      mistake ??= tooLong(at + 1);
      break;
    }
    if (directive === undefined) {
      if (isForeign) foreign.push(line.trim());
      // An indented comment is one, and an indented directive no directive.
      if (!/^[ \t\v\f\r]*(#|$)/.test(line)) break;
      continue;
    }
    hasDirectives = true;
    if (new RegExp(`^${SPACE}*${SEPARATOR}`, "i").test(directive)) mistake ??= hetjob(at + 1);
    const read = wordsOf(directive);
    if (typeof read === "string") mistake ??= unreadable(at + 1, read);
    else words.push(...read);
  }
  return hasDirectives || foreign.length > 0 || length > 0
    ? { options: optionsOf(words), foreign, mistake }
    : undefined;
}

const SPACE = String.raw`[ \t\v\f\r]`;
const SEPARATOR = String.raw`(packjob|hetjob)(?=[ \t\v\f\r]|$)`;

type Mistake = SbatchScript["mistake"];

function formMistake(text: string): Mistake {
  if (text.startsWith("\uFEFF")) {
    const what = "begins with a byte order mark (BOM), so that its first line is no #! for anybody";
    return { what, hint: "Save it as UTF-8 without BOM: sed -i '1s/^\\xEF\\xBB\\xBF//' FILE." };
  }
  if (!text.startsWith("#!")) {
    const hint = "Begin it with the path of its interpreter, such as #!/bin/bash.";
    return { what: "does not begin with #!, as sbatch wants it", hint };
  }
  if (text.includes("\0")) {
    return { what: "holds a NUL byte, which sbatch does not take", hint: "Remove it: it is no text." };
  }
  if (text.includes("\r\n")) {
    const what = "has DOS line breaks (\\r\\n), which sbatch and the shell do not take";
    return { what, hint: "Convert it: dos2unix FILE, or sed -i 's/\\r$//' FILE." };
  }
  return null;
}

function tooLong(line: number): Mistake {
  return {
    what: `has directives of more than ${MOST_IN_DIRECTIVES} characters (up to line ${line})`,
    hint: "Leave out those that say the same again.",
  };
}

function hetjob(line: number): Mistake {
  return {
    what: `asks for a heterogeneous job (line ${line}: hetjob), of which Mento would run one component alone`,
    hint: "Run it as a job of one kind; or submit it with sbatch from a program that Mento runs, outside Mento's watch.",
  };
}

function unreadable(line: number, what: string): Mistake {
  return {
    what: `has a directive that sbatch cannot read (line ${line}: ${what})`,
    hint: "Correct the line.",
  };
}

/**
 * The words of a directive, or why sbatch ends at it: get_argument() of opt.c. A backslash before a blank is as in 24.11;
 * 22.05 ends the word there, and then refuses the script.
 */
function wordsOf(line: string): string[] | string {
  const words: string[] = [];
  const isSpace = (char: string | undefined) => char !== undefined && /[ \t\v\f\r]/.test(char);
  let at = 0;
  for (;;) {
    while (isSpace(line[at])) at += 1;
    // sbatch blanks it where it stands, and then finds no more words.
    if (new RegExp(`^${SEPARATOR}`, "i").test(line.slice(at))) return words;
    if (line[at] === ":") return "unexpected :";
    let word: string | undefined;
    let quoted: string | undefined;
    for (; at < line.length && (quoted !== undefined || !isSpace(line[at])); at++) {
      let char = line[at] ?? "";
      if (char === "\\") {
        if (at + 1 === line.length) continue;
        char = line[at + 1] ?? "";
        if (quoted === undefined && char !== " " && isSpace(char)) continue;
        at += 1;
      } else if (char === quoted) {
        quoted = undefined;
        continue;
      } else if (quoted === undefined && (char === '"' || char === "'")) {
        quoted = char;
        continue;
      } else if (quoted === undefined && char === "#") break;
      word = (word ?? "") + char;
    }
    if (quoted !== undefined) return `a ${quoted} without its other half`;
    // An empty word ends the line too.
    if (word === undefined) return words;
    words.push(word);
    if (line[at] === "#") return words;
  }
}

/** The value that counts of an option: the last one. */
export function valueOf(script: SbatchScript | null, name: string): string | undefined {
  return script?.options.findLast((option) => option.name === name)?.value ?? undefined;
}

/** Of several that exclude each other sbatch takes one, or none. */
const INSTEAD_OF: readonly (readonly string[])[] = [
  ["mem", "mem-per-cpu", "mem-per-gpu"],
  ["exclusive", "oversubscribe"],
  ["ntasks-per-node", "tasks-per-node"],
];

export interface CarriedOver {
  /** The `#SBATCH` lines that go into the run script. */
  lines: string[];
  /** For a person: what the script says in vain, and what may surprise. */
  notes: string[];
}

/** What becomes of a script's directives, beside the arguments that `sbatch` is given: they win. */
export function carriedOver({ options, foreign }: SbatchScript, args: readonly string[]): CarriedOver {
  const lines: string[] = [];
  const notes: string[] = [];
  for (const option of options) {
    const { name, value } = option;
    const isLine = name === null || !(name in NOT_FROM_SCRIPT);
    const arg = name === null ? undefined : argumentInstead(name, args);
    if (isLine && arg === undefined) lines.push(`#SBATCH ${written(option)}`);
    const isSaid = arg !== undefined && isSame(option, arg);
    const why = isSaid ? undefined : reason(name, arg, isLine);
    const effect = isLine && arg === undefined ? DEPS[name ?? ""] : undefined;
    if (why !== undefined) notes.push(`${shown(option)} is left out: ${why}`);
    else if (effect !== undefined && value !== "now") notes.push(`${shown(option)}: ${effect}`);
  }
  notes.push(...foreign.map((line) => `${line} is left out: Mento reads #SBATCH lines alone`));
  return { lines, notes };
}

const DEPS: Record<string, string> = {
  hold: "the job waits until somebody releases it (scontrol release)",
  begin: "the job waits until then",
};

function reason(name: string | null, arg: string | undefined, isLine: boolean): string | undefined {
  const instead = arg === undefined ? undefined : `sbatch is given ${arg}`;
  return isLine ? instead : NOT_FROM_SCRIPT[name ?? ""];
}

function argumentInstead(name: string, args: readonly string[]): string | undefined {
  const names = INSTEAD_OF.find((group) => group.includes(name)) ?? [name];
  return args.find((arg) => names.some((one) => arg === `--${one}` || arg.startsWith(`--${one}=`)));
}

function isSame({ name, value }: SbatchOption, arg: string): boolean {
  if (value === null) return arg === `--${name ?? ""}`;
  if (arg === `--${name ?? ""}=${value}`) return true;
  const [, time = ""] = /^--time=(.*)$/.exec(arg) ?? [];
  const seconds = slurmSeconds(value);
  return name === "time" && seconds !== undefined && seconds === slurmSeconds(time);
}

function shown({ name, value }: SbatchOption): string {
  return name === null ? (value ?? "") : `--${name}${value === null ? "" : `=${value}`}`;
}

/** As sbatch reads it; a word that is not known may look like a separator. */
function written({ name, value }: SbatchOption): string {
  if (name === null) return doubleQuoted(value ?? "");
  const isPlain = /^[\w.,:@%+/=[\]&|*-]*$/.test(value ?? "");
  return `--${name}${value === null ? "" : `=${isPlain ? value : doubleQuoted(value)}`}`;
}

function doubleQuoted(value: string): string {
  return `"${value.replace(/["\\]/g, "\\$&")}"`;
}
