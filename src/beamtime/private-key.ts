import { readFile } from "node:fs/promises";
import { posix } from "node:path";
import { Deferred, errorText } from "../errors.ts";

/**
 * The beamtime's private key. Its path in the metadata file is relative to that file's directory (FS-EC,
 * "Beamtime Metadata File"); a leading slash means the same, and it never leads out of the directory.
 *
 * @throws Deferred `private-key-unreadable`
 */
export async function readPrivateKey(
  metadataFile: string,
  keyPath: string,
): Promise<{ file: string; key: Buffer }> {
  const directory = posix.dirname(metadataFile);
  const file = posix.join(directory, posix.join("/", keyPath));
  try {
    return { file, key: await readFile(file) };
  } catch (cause) {
    throw new Deferred({
      code: "private-key-unreadable",
      message: `The beamtime's private key ${file} cannot be read: ${errorText(cause)}.`,
      hint: "The worker's account must be able to read it.",
      giveUpAfterSeconds: 3600,
      cause,
    });
  }
}
