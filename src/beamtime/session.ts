import { posix } from "node:path";
import { Deferred, Rejected } from "../errors.ts";
import type { OnlineResources } from "./metadata.ts";
import { listFolder, MetadataFiles, type ReadFile } from "./metadata-files.ts";
import { isInSession, type SessionRoots } from "./paths.ts";

/** Where the facility's file systems are mounted; at DESY `/gpfs`, `/beamline`, `/asap3`. */
export interface FileSystems {
  gpfs: string;
  beamline: string;
  core: string;
}

/** A beamtime or a commissioning run, with what is needed to run jobs for it. */
export interface Session {
  kind: "beamtime" | "commissioning";
  /** Whether it is open at the beamline. */
  isOpen: boolean;
  id: string;
  beamline: string;
  roots: SessionRoots;
  metadataFile: string;
  online: OnlineResources;
}

/** How long a message without an open session waits for one: a day. */
const WAIT_FOR_SESSION_SECONDS = 24 * 3600;

/** The folder of an open session on the beamline file system, and where such sessions are on core. */
const KINDS = {
  beamtime: { view: "current", coreFolder: "data" },
  commissioning: { view: "commissioning", coreFolder: "commissioning" },
} as const;
const METADATA_NAME = /^(beamtime|commissioning)-metadata-.+\.json$/;

/** Finds sessions by their metadata files. */
export class Sessions {
  readonly #fileSystems: FileSystems;
  readonly #files: MetadataFiles;
  /** Where sessions were found on the core file system. */
  readonly #coreFiles = new Map<string, string>();

  constructor(fileSystems: FileSystems, warn: (message: string) => void) {
    this.#fileSystems = fileSystems;
    this.#files = new MetadataFiles(warn);
  }

  /**
   * The session that data belongs to: by its id, else the open one that the paths lie in, else the one whose folder on
   * the core file system they lie in, else the one that is open at the beamline.
   *
   * @throws Rejected `unknown-beamtime`, `session-unclear`
   * @throws Deferred `no-session-open`, `no-online-resources`, `metadata-unreadable`
   */
  async find(id: string | undefined, paths: readonly string[] = []): Promise<Session> {
    const { open, broken } = await this.#openAtBeamline();
    if (id !== undefined) {
      const found = open.find(({ metadata }) => metadata.id === id);
      if (found !== undefined) return this.#session(found, true);
      const onCore = await this.#onCore(id);
      if (onCore !== undefined) return this.#session(onCore, false);
      throw broken ?? this.#unknown(id, open);
    }
    const around = open.find((one) => paths.some((path) => isInSession(path, this.#rootsOf(one))));
    if (around !== undefined) return this.#session(around, true);
    const above = await this.#aboveData(paths[0]);
    if (above !== undefined) return this.#session(above, false);
    if (broken !== undefined) throw broken;
    const [first, second] = open;
    if (first === undefined) throw this.#noneOpen();
    if (second === undefined) return this.#session(first, true);
    throw new Rejected({
      code: "session-unclear",
      message: `Both ${first.metadata.id} and ${second.metadata.id} are open, and ${paths[0] ?? "the message"} lies in neither.`,
      hint: "Send the beamtimeId, or a path inside one of the two.",
    });
  }

  #session(read: ReadFile, isOpen: boolean): Session {
    const { metadata, file } = read;
    const { kind, id, beamline, online } = metadata;
    if (online === undefined) {
      throw new Deferred({
        code: "no-online-resources",
        message: `The ${sessionWord(kind)} ${id} was started without online resources: ${file} has no onlineAnalysis.`,
        hint: "Have it started with --online; the message waits.",
        giveUpAfterSeconds: WAIT_FOR_SESSION_SECONDS,
      });
    }
    return { kind, isOpen, id, beamline, roots: this.#rootsOf(read), metadataFile: file, online };
  }

  #rootsOf({ metadata }: ReadFile): SessionRoots {
    const { view } = KINDS[metadata.kind];
    return {
      beamline: posix.join(this.#fileSystems.gpfs, view),
      core: metadata.corePath,
      node: posix.join(this.#fileSystems.beamline, metadata.beamline, view),
    };
  }

  /** What is open, and why one of the two cannot be read: that must not stop the other's messages. */
  async #openAtBeamline(): Promise<{ open: ReadFile[]; broken: Error | undefined }> {
    const folders = Object.values(KINDS).map(({ view }) => posix.join(this.#fileSystems.gpfs, view));
    const read = await Promise.allSettled(
      folders.map((folder) => this.#files.readIn(folder, (name) => METADATA_NAME.test(name))),
    );
    const open = read.flatMap((one) => (one.status === "fulfilled" && one.value ? [one.value] : []));
    const broken = read.find((one) => one.status === "rejected")?.reason as Error | undefined;
    return { open, broken };
  }

  /** `<core>/<facility>/gpfs/<beamline>/<year>/<data|commissioning>/<id>/`, any facility, beamline and year. */
  async #onCore(id: string): Promise<ReadFile | undefined> {
    const known = this.#coreFiles.get(id);
    const again = known === undefined ? undefined : await this.#files.read(known);
    if (again !== undefined) return again;
    const facilities = await subfolders([this.#fileSystems.core]);
    const beamlines = await subfolders(facilities.map((folder) => posix.join(folder, "gpfs")));
    const years = await subfolders(beamlines);
    for (const year of years) {
      for (const { coreFolder } of Object.values(KINDS)) {
        const found = await this.#files.readIn(
          posix.join(year, coreFolder, id),
          (name) => METADATA_NAME.test(name) && name.endsWith(`-metadata-${id}.json`),
        );
        if (found === undefined) continue;
        this.#coreFiles.set(id, found.file);
        return found;
      }
    }
    return undefined;
  }

  /** The first folder above a path on the core file system that has a metadata file. */
  async #aboveData(path: string | undefined): Promise<ReadFile | undefined> {
    if (path === undefined) return undefined;
    const { core } = this.#fileSystems;
    let folder = posix.dirname(posix.normalize(path));
    while (folder.startsWith(`${core}/`)) {
      const found = await this.#files.readIn(folder, (name) => METADATA_NAME.test(name));
      if (found !== undefined) return found;
      folder = posix.dirname(folder);
    }
    return undefined;
  }

  #unknown(id: string, open: readonly ReadFile[]): Rejected {
    const others = open.map(({ metadata }) => metadata.id).join(" and ");
    return new Rejected({
      code: "unknown-beamtime",
      message:
        `There is no beamtime or commissioning run ${id}: ` +
        (others === "" ? "none is open" : `${others} is open`) +
        ` at the beamline, and the core file system (${this.#fileSystems.core}) has none of this id.`,
      hint: "Check the beamtimeId; leave it out to mean the one that is open.",
    });
  }

  #noneOpen(): Deferred {
    const views = Object.values(KINDS).map(({ view }) => posix.join(this.#fileSystems.gpfs, view));
    return new Deferred({
      code: "no-session-open",
      message: `No beamtime is open: there is no metadata file in ${views.join(" or ")}.`,
      hint: "The message waits until one is started; or send it with its beamtimeId.",
      giveUpAfterSeconds: WAIT_FOR_SESSION_SECONDS,
    });
  }
}

function sessionWord(kind: Session["kind"]): string {
  return kind === "beamtime" ? "beamtime" : "commissioning run";
}

/** Other facilities' and beamlines' folders may be closed to this account: what it may not see is not here. */
async function subfolders(folders: readonly string[]): Promise<string[]> {
  const lists = await Promise.all(
    folders.map(async (folder) => {
      const names = await listFolder(folder).catch(() => []);
      return names.map((name) => posix.join(folder, name));
    }),
  );
  return lists.flat();
}
