import { writeSync } from "node:fs";
import { layoutOf, type Layout } from "./layout.ts";

/**
 * All that Mento's commands print. File names, errors, ids and logs are written by others, and a terminal acts on some
 * characters: nothing else writes to standard output or standard error, and what is written here contains none of them.
 */

/** What no line is longer than: a text without an end would push all else out of sight. */
const LONGEST_LINE = 10_000;

/**
 * Control characters (C0, DEL, C1), what turns the direction of text around, what is not seen at all (zero width, tags,
 * fillers), line separators, halves of surrogate pairs, and more than a few marks on one letter, which cover the lines
 * above it.
 */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]|(?<=\p{M}{4})\p{M}/gu;

/** Text of others with every character to be seen; newlines and tabs stay. */
export function plainText(text: string): string {
  return text.replace(UNSAFE, (character) => (/[\n\t]/.test(character) ? character : escaped(character)));
}

/** The same on one line, cut after so many characters. */
export function plainLine(text: string, longest = LONGEST_LINE): string {
  // Cut first: what is cut off is not worth a look, however long it is.
  const line = text
    .slice(0, longest + LONGEST_LINE)
    .replace(/\s+/g, " ")
    .trim();
  const shown = line.length <= longest ? line : `${line.slice(0, longest)}…`;
  return plainText(shown);
}

/** JSON that is the same to every reader, and shows nothing that a terminal acts on. */
export function plainJson(value: unknown): string {
  return escapedInJson(JSON.stringify(value));
}

/** The same of JSON text: outside of its strings there are none of these characters. */
export function escapedInJson(json: string): string {
  return json.replace(UNSAFE, (character) =>
    Array.from({ length: character.length }, (_, index) => jsonEscape(character.charCodeAt(index))).join(""),
  );
}

function jsonEscape(unit: number): string {
  return `\\u${unit.toString(16).padStart(4, "0")}`;
}

/** One line on standard output; a newline in it is shown as a space. */
export function printLine(text: string): void {
  process.stdout.write(`${lineOf(text)}\n`);
}

/** SGR, by what is to be felt. */
const COLOURS = { good: "32", busy: "34", attention: "33", bad: "31", quiet: "2" } as const;

/** A line whose beginning, so many characters of it, has a colour; none where there is no tone. */
export function printToned(text: string, tone: keyof typeof COLOURS | null, toned = text.length): void {
  if (tone === null) {
    printLine(text);
    return;
  }
  const [first, rest] = [lineOf(text.slice(0, toned)), lineOf(text.slice(toned))];
  process.stdout.write(`\x1b[${COLOURS[tone]}m${first}\x1b[0m${rest}\n`);
}

export function isTerminalHere(): boolean {
  return process.stdout.isTTY;
}

/** How standard output is laid out. */
export function layoutHere(isWide = false): Layout {
  return layoutOf(process.stdout, process.env, isWide);
}

/** What was shown goes; on a terminal only. */
export function clearScreen(): void {
  if (process.stdout.isTTY) process.stdout.write("\x1b[H\x1b[2J");
}

/** What belongs together, each on a line of its own. */
export function printLines(lines: readonly string[]): void {
  for (const line of lines) printLine(line);
}

/** A text of several lines that others have written, such as a message's body or a script. */
export function printText(text: string): void {
  process.stdout.write(`${plainText(text)}\n`);
}

export function printJson(value: unknown): void {
  process.stdout.write(`${plainJson(value)}\n`);
}

/** What a program of the user's own prints, piece by piece: its lines and tabs stay, a progress bar becomes lines. */
export function printOutput(piece: string): void {
  process.stdout.write(plainText(piece.replace(/\r\n?/g, "\n")));
}

/** Resolves when all that was printed before is written: for what is taken away once it is printed. */
export function outputTaken(): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write("", (error) => {
      if (error == null) resolve();
      else reject(error);
    });
  });
}

/** One line on standard error: what is said beside a command's result. */
export function sayLine(text: string): void {
  process.stderr.write(`${lineOf(text)}\n`);
}

/** One line of a server's log, which is its standard output. On a full disk the line is lost, and the server goes on. */
export function logLine(text: string): void {
  try {
    writeSync(1, `${new Date().toISOString()} ${lineOf(text)}\n`);
  } catch {
    // There is nowhere to say it.
  }
}

/** For commander, which ends its lines itself, and repeats arguments. */
export function writeOutput(text: string): void {
  process.stdout.write(plainText(text));
}

export function writeSaid(text: string): void {
  process.stderr.write(plainText(text));
}

/** Columns and indents stay. */
function lineOf(text: string): string {
  const line = text.replace(/[\t\n\v\f\r\u0085\u2028\u2029]+/g, " ");
  return plainText(line.length <= LONGEST_LINE ? line : `${line.slice(0, LONGEST_LINE)}…`);
}

function escaped(character: string): string {
  return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`;
}
