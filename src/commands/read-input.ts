import { statSync } from "node:fs";
import { Misconfigured, errorText } from "../errors.ts";
import { readGivenFile, readUpToSync, type FileRules } from "../files/plain-file.ts";

/** More than any message or configuration. */
const INPUT: FileRules & { pipes: true } = { maxBytes: 16 * 1024 * 1024, links: "follow", pipes: true };

/** A file that a command is given, or standard input for `-`. */
export function readInput(file: string): Buffer {
  try {
    return file === "-" ? readUpToSync(0, INPUT.maxBytes) : readGivenFile(file, INPUT).bytes;
  } catch (cause) {
    throw new Misconfigured({
      code: "wrong-usage",
      message: `${file === "" ? "A file without a name" : file} cannot be read: ${errorText(cause)}.`,
      hint: "Name a file, or - for standard input.",
      cause,
    });
  }
}

/** Its permissions; none for standard input. */
export function modeOfInput(file: string): number {
  return file === "-" ? 0 : (statSync(file, { throwIfNoEntry: false })?.mode ?? 0) & 0o777;
}
