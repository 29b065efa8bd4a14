import { readFile, stat } from "node:fs/promises";
import { posix } from "node:path";
import { Deferred, errorText } from "../errors.ts";

/**
 * Reads beamtimes' private keys, again only when the file has changed. A key's path in the metadata file is relative
 * to that file's directory (confluence.desy.de, ASAP3, "Beamtime Metadata File"); a leading slash means the same, and
 * it never leads out of the directory.
 */
export class PrivateKeys {
  readonly #read = new Map<string, { version: string; key: Buffer }>();

  /** @throws Deferred `private-key-unreadable` */
  async read(metadataFile: string, keyPath: string): Promise<{ file: string; key: Buffer }> {
    const file = posix.join(posix.dirname(metadataFile), posix.join("/", keyPath));
    try {
      const { mtimeMs, size, ino } = await stat(file);
      const version = `${mtimeMs} ${size} ${ino}`;
      const known = this.#read.get(file);
      if (known?.version === version) return { file, key: known.key };
      const key = await readFile(file);
      this.#read.set(file, { version, key });
      return { file, key };
    } catch (cause) {
      this.#read.delete(file);
      throw new Deferred({
        code: "private-key-unreadable",
        message: `The beamtime's private key ${file} cannot be read: ${errorText(cause)}.`,
        hint: "The worker's account must be able to read it.",
        giveUpAfterSeconds: 3600,
        cause,
      });
    }
  }
}
