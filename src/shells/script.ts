import { randomBytes } from "node:crypto";
import { OWN_ENVIRONMENT } from "./environment.ts";

/** A word that nobody can have foreseen. */
export function newMark(): string {
  return `mento-${randomBytes(8).toString("hex")}`;
}

/**
 * A script as a shell is given it: between marks of our own on both outputs, so that what start files, a login shell or
 * the end of a session print is no answer; in an environment that is ours; and as a function, for a script whose end was
 * cut off with the connection must not run in part. Where both outputs are one, the marks of stderr are around those of
 * stdout.
 */
export function framed(script: string, mark: string): string {
  const print = (word: string) => `printf '%s\\n' ${word}`;
  const ends = `${print(endOf(mark))}; ${print(endOf(mark))} >&2`;
  return `mento() {
trap '${ends.replaceAll("'", `'\\''`)}' EXIT
${OWN_ENVIRONMENT}
echo; echo >&2
${print(`${mark}-begins`)} >&2
${print(`${mark}-begins`)}
${script}
}
mento
`;
}

/** The line that such a script prints last, on both outputs. */
export function endOf(mark: string): string {
  return `${mark}-ends`;
}

/** What such a script has printed itself. */
export interface Framed {
  output: Buffer;
  /** It came to its end: whatever is missing in its output, it did not print. */
  isWhole: boolean;
}

export function readFramed(output: Buffer, mark: string): Framed {
  const begins = `\n${mark}-begins\n`;
  const at = output.lastIndexOf(begins);
  if (at < 0) return { output: Buffer.alloc(0), isWhole: false };
  const rest = output.subarray(at + begins.length);
  const end = rest.indexOf(`${endOf(mark)}\n`);
  return end < 0 ? { output: rest, isWhole: false } : { output: rest.subarray(0, end), isWhole: true };
}
