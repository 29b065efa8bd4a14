import { posix } from "node:path";
import { Deferred, errorText } from "../errors.ts";
import {
  isMissing,
  listFolder,
  NotPlain,
  readIfChanged,
  textOf,
  type FileRules,
} from "../files/plain-file.ts";
import { parseMetadata, unreadable, type BeamtimeMetadata } from "./metadata.ts";

/** A metadata file and what it says. */
export interface ReadFile {
  file: string;
  metadata: BeamtimeMetadata;
}

/**
 * Real ones have some kB. Users write beside them, and a message that does not parse quotes its text: through a link they
 * would be shown a file that only this account may read.
 */
const METADATA: FileRules = { maxBytes: 1024 * 1024, links: "refuse" };

/** A session's own folder has some ten names; its data is in folders below. */
const MOST_NAMES = 10_000;
/** A folder with more is not listed again before. */
const LIST_AGAIN_AFTER_MS = 60_000;

/**
 * Reads metadata files, each again whenever its modification time, size or inode changes. One that is broken meanwhile
 * leaves the last good facts standing, with one warning.
 */
export class MetadataFiles {
  readonly #warn: (message: string) => void;
  readonly #read = new Map<string, { version: string; metadata: BeamtimeMetadata }>();
  readonly #warned = new Map<string, string>();
  /** By folder: the file that was the one, and why the folder could not be listed since. */
  readonly #lastIn = new Map<string, string>();
  readonly #overfull = new Map<string, { until: number; why: Deferred }>();

  constructor(warn: (message: string) => void) {
    this.#warn = warn;
  }

  /**
   * The one metadata file in a folder; undefined if there is none.
   *
   * @throws Deferred `metadata-unreadable`
   */
  async readIn(folder: string, isWanted: (name: string) => boolean): Promise<ReadFile | undefined> {
    let fitting: string[];
    try {
      fitting = (await this.#list(folder)).filter(isWanted).sort();
    } catch (error) {
      const last = this.#lastIn.get(folder);
      if (last === undefined) throw error;
      this.#warnOnce(folder, `${errorText(error)} The file that was there goes on being used: ${last}.`);
      return this.read(last);
    }
    const [first, second] = fitting;
    if (first === undefined) {
      this.#lastIn.delete(folder);
      return undefined;
    }
    if (second !== undefined) {
      const all = fitting.slice(0, 5).join(" and ");
      throw unreadable(folder, `there are several (${all}); which one holds is unclear`, undefined);
    }
    const file = posix.join(folder, first);
    const read = await this.read(file);
    if (read !== undefined) this.#lastIn.set(folder, file);
    return read;
  }

  /** @throws Deferred `metadata-unreadable` for a file that was never good */
  async read(file: string): Promise<ReadFile | undefined> {
    const known = this.#read.get(file);
    try {
      const read = await readIfChanged(file, METADATA, known?.version);
      if (known !== undefined && read === "unchanged") return { file, metadata: known.metadata };
      if (read === "unchanged") throw new Error("a file that was never read is unchanged");
      const metadata = parseMetadata(textOf(read.bytes), file);
      this.#read.set(file, { version: read.version, metadata });
      this.#warned.delete(file);
      return { file, metadata };
    } catch (error) {
      if (isMissing(error)) {
        this.#read.delete(file);
        return undefined;
      }
      const broken = error instanceof Deferred ? error : unreadable(file, errorText(error), error);
      if (known === undefined) throw broken;
      this.#warnOnce(file, `${broken.message} The facts read before go on being used.`);
      return { file, metadata: known.metadata };
    }
  }

  async #list(folder: string): Promise<string[]> {
    const overfull = this.#overfull.get(folder);
    if (overfull !== undefined && Date.now() < overfull.until) throw overfull.why;
    try {
      const names = await namesIn(folder);
      this.#overfull.delete(folder);
      return names;
    } catch (error) {
      if (error instanceof Deferred && error.cause instanceof NotPlain) {
        this.#overfull.set(folder, { until: Date.now() + LIST_AGAIN_AFTER_MS, why: error });
      }
      throw error;
    }
  }

  #warnOnce(about: string, text: string): void {
    if (this.#warned.get(about) === text) return;
    this.#warned.set(about, text);
    this.#warn(text);
  }
}

/**
 * The names in a folder; none if it is not there.
 *
 * @throws Deferred `metadata-unreadable`
 */
export async function namesIn(folder: string): Promise<string[]> {
  try {
    return await listFolder(folder, MOST_NAMES);
  } catch (error) {
    throw unreadable(folder, errorText(error), error);
  }
}
