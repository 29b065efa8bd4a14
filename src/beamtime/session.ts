import { readFile, readdir, stat } from "node:fs/promises";
import { posix } from "node:path";
import { Deferred, Rejected, errorText } from "../errors.ts";
import { parseMetadata, unreadable, type BeamtimeMetadata, type OnlineResources } from "./metadata.ts";
import type { SessionRoots } from "./paths.ts";

/** Where the facility's file systems are mounted; at DESY `/gpfs`, `/beamline`, `/asap3`. */
export interface FileSystems {
  gpfs: string;
  beamline: string;
  core: string;
}

/** A beamtime, with what is needed to run jobs for it. */
export interface Session {
  /** Whether it is the one that is open at the beamline. */
  isOpen: boolean;
  id: string;
  beamline: string;
  roots: SessionRoots;
  metadataFile: string;
  online: OnlineResources;
}

/** How long a message without an open beamtime waits for one: a day. */
const WAIT_FOR_SESSION_SECONDS = 24 * 3600;

/**
 * Finds sessions by their metadata files. A file is read again whenever its modification time or size changes; one
 * that is broken meanwhile leaves the last good facts standing.
 */
export class Sessions {
  readonly #fileSystems: FileSystems;
  readonly #warn: (message: string) => void;
  readonly #read = new Map<string, { version: string; metadata: BeamtimeMetadata }>();
  readonly #warned = new Map<string, string>();
  /** Where beamtimes were found on the core file system. */
  readonly #coreFiles = new Map<string, string>();

  constructor(fileSystems: FileSystems, warn: (message: string) => void) {
    this.#fileSystems = fileSystems;
    this.#warn = warn;
  }

  /**
   * The session that a message belongs to: by its id, else the one that is open at the beamline.
   *
   * @throws Rejected `unknown-beamtime`
   * @throws Deferred `no-session-open`, `no-online-resources`, `metadata-unreadable`
   */
  async find(beamtimeId: string | undefined): Promise<Session> {
    const open = await this.#openAtBeamline();
    if (open !== undefined && (beamtimeId === undefined || open.metadata.id === beamtimeId)) {
      return this.#session(open, true);
    }
    if (beamtimeId === undefined) {
      throw new Deferred({
        code: "no-session-open",
        message: `No beamtime is open: there is no metadata file in ${posix.join(this.#fileSystems.gpfs, "current")}.`,
        hint: "The message waits until a beamtime is started; or send it with its beamtimeId.",
        giveUpAfterSeconds: WAIT_FOR_SESSION_SECONDS,
      });
    }
    const onCore = await this.#onCore(beamtimeId);
    if (onCore !== undefined) return this.#session(onCore, false);
    throw new Rejected({
      code: "unknown-beamtime",
      message:
        `There is no beamtime ${beamtimeId}: ` +
        (open === undefined ? "none is open" : `${open.metadata.id} is open`) +
        ` at the beamline, and the core file system (${this.#fileSystems.core}) has none of this id.`,
      hint: "Check the beamtimeId; leave it out to mean the beamtime that is open.",
    });
  }

  #session({ metadata, file: metadataFile }: ReadFile, isOpen: boolean): Session {
    const { id, beamline, corePath, online } = metadata;
    if (online === undefined) {
      throw new Deferred({
        code: "no-online-resources",
        message: `The beamtime ${id} was started without online resources: ${metadataFile} has no onlineAnalysis.`,
        hint: "Have it started with --online; the message waits.",
        giveUpAfterSeconds: WAIT_FOR_SESSION_SECONDS,
      });
    }
    const roots = {
      beamline: posix.join(this.#fileSystems.gpfs, "current"),
      core: corePath.replace(/\/+$/, ""),
      node: posix.join(this.#fileSystems.beamline, beamline, "current"),
    };
    return { isOpen, id, beamline, roots, metadataFile, online };
  }

  async #openAtBeamline(): Promise<ReadFile | undefined> {
    return this.#readIn(posix.join(this.#fileSystems.gpfs, "current"), (name) =>
      /^beamtime-metadata-.+\.json$/.test(name),
    );
  }

  /** `<core>/<facility>/gpfs/<beamline>/<year>/data/<id>/`, any facility, beamline and year. */
  async #onCore(id: string): Promise<ReadFile | undefined> {
    const known = this.#coreFiles.get(id);
    const again = known === undefined ? undefined : await this.#readFile(known);
    if (again !== undefined) return again;
    let folders = [this.#fileSystems.core];
    for (const step of [undefined, "gpfs", undefined, undefined, posix.join("data", id)]) {
      folders = step === undefined ? await subfolders(folders) : folders.map((one) => posix.join(one, step));
    }
    for (const folder of folders) {
      const found = await this.#readIn(folder, (name) => name === `beamtime-metadata-${id}.json`);
      if (found === undefined) continue;
      this.#coreFiles.set(id, found.file);
      return found;
    }
    return undefined;
  }

  async #readIn(folder: string, isWanted: (name: string) => boolean): Promise<ReadFile | undefined> {
    const names = await listFolder(folder);
    const fitting = names.filter(isWanted).sort();
    const [first, second] = fitting;
    if (first === undefined) return undefined;
    if (second !== undefined) {
      const both = fitting.join(" and ");
      throw unreadable(folder, `there are several (${both}); which one holds is unclear`, undefined);
    }
    return this.#readFile(posix.join(folder, first));
  }

  async #readFile(file: string): Promise<ReadFile | undefined> {
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
      if (isMissing(error)) return undefined;
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

interface ReadFile {
  file: string;
  metadata: BeamtimeMetadata;
}

/** Other facilities' and beamlines' folders may be closed to this account: what it may not see is not here. */
async function subfolders(folders: readonly string[]): Promise<string[]> {
  const lists = await Promise.all(
    folders.map(async (folder) =>
      (await listFolder(folder).catch(() => [])).map((name) => posix.join(folder, name)),
    ),
  );
  return lists.flat();
}

async function listFolder(folder: string): Promise<string[]> {
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
