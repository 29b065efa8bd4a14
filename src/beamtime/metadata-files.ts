import { readFile, readdir, stat } from "node:fs/promises";
import { posix } from "node:path";
import { Deferred, errorText } from "../errors.ts";
import { parseMetadata, unreadable, type BeamtimeMetadata } from "./metadata.ts";

/** A metadata file and what it says. */
export interface ReadFile {
  file: string;
  metadata: BeamtimeMetadata;
}

/**
 * Reads metadata files, each again whenever its modification time, size or inode changes. One that is broken meanwhile
 * leaves the last good facts standing, with one warning.
 */
export class MetadataFiles {
  readonly #warn: (message: string) => void;
  readonly #read = new Map<string, { version: string; metadata: BeamtimeMetadata }>();
  readonly #warned = new Map<string, string>();

  constructor(warn: (message: string) => void) {
    this.#warn = warn;
  }

  /**
   * The one metadata file in a folder; undefined if there is none.
   *
   * @throws Deferred `metadata-unreadable`
   */
  async readIn(folder: string, isWanted: (name: string) => boolean): Promise<ReadFile | undefined> {
    const fitting = (await listFolder(folder)).filter(isWanted).sort();
    const [first, second] = fitting;
    if (first === undefined) return undefined;
    if (second !== undefined) {
      const all = fitting.join(" and ");
      throw unreadable(folder, `there are several (${all}); which one holds is unclear`, undefined);
    }
    return this.read(posix.join(folder, first));
  }

  /** @throws Deferred `metadata-unreadable` for a file that was never good */
  async read(file: string): Promise<ReadFile | undefined> {
    const known = this.#read.get(file);
    try {
      const { mtimeMs, size, ino } = await stat(file);
      const version = `${mtimeMs} ${size} ${ino}`;
      if (known?.version === version) return { file, metadata: known.metadata };
      const metadata = parseMetadata(await readFile(file, "utf8"), file);
      this.#read.set(file, { version, metadata });
      this.#warned.delete(file);
      return { file, metadata };
    } catch (error) {
      if (isMissing(error)) {
        this.#read.delete(file);
        return undefined;
      }
      const broken = error instanceof Deferred ? error : unreadable(file, errorText(error), error);
      if (known === undefined) throw broken;
      if (this.#warned.get(file) !== broken.message) {
        this.#warned.set(file, broken.message);
        this.#warn(`${broken.message} The facts read before go on being used.`);
      }
      return { file, metadata: known.metadata };
    }
  }
}

/** The names in a folder; none if it is not there. */
export async function listFolder(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (isMissing(error)) return [];
    throw unreadable(folder, errorText(error), error);
  }
}

function isMissing(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return code === "ENOENT" || code === "ENOTDIR";
}
