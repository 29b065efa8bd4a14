import { readFileSync } from "node:fs";
import { Misconfigured, errorText } from "../errors.ts";

/** A file that a command is given, or standard input for `-`. */
export function readInput(file: string): Buffer {
  try {
    return readFileSync(file === "-" ? 0 : file);
  } catch (cause) {
    throw new Misconfigured({
      code: "wrong-usage",
      message: `${file} cannot be read: ${errorText(cause)}.`,
      hint: "Name a file, or - for standard input.",
      cause,
    });
  }
}
