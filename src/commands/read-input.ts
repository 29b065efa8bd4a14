import { closeSync, openSync, readSync } from "node:fs";
import { Misconfigured, errorText } from "../errors.ts";

/** More than any message or configuration; a device such as /dev/zero has no end. */
const MOST_BYTES = 16 * 1024 * 1024;

/** A file that a command is given, or standard input for `-`. */
export function readInput(file: string): Buffer {
  try {
    if (file === "-") return readAll(0);
    const descriptor = openSync(file, "r");
    try {
      return readAll(descriptor);
    } finally {
      closeSync(descriptor);
    }
  } catch (cause) {
    throw new Misconfigured({
      code: "wrong-usage",
      message: `${file === "" ? "A file without a name" : file} cannot be read: ${errorText(cause)}.`,
      hint: "Name a file, or - for standard input.",
      cause,
    });
  }
}

function readAll(descriptor: number): Buffer {
  const pieces: Buffer[] = [];
  for (let total = 0; ;) {
    const piece = Buffer.alloc(65_536);
    const length = readSync(descriptor, piece, {});
    if (length === 0) return Buffer.concat(pieces);
    total += length;
    if (total > MOST_BYTES) throw new Error("it is larger than 16 MiB");
    pieces.push(piece.subarray(0, length));
  }
}
