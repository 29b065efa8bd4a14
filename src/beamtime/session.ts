import { posix } from "node:path";
import { Deferred, Rejected } from "../errors.ts";
import { normalPath } from "../messages/path-text.ts";
import type { KeyLocation } from "./private-key.ts";
import { unreadable, type AsapoAccess, type BeamtimeMetadata } from "./metadata.ts";
import type { OnlineKey, SessionReservation } from "./online-analysis.ts";
import { MetadataFiles, namesIn, type ReadFile } from "./metadata-files.ts";
import { NotPlain } from "../files/plain-file.ts";
import { isInSession, type SessionRoots } from "./paths.ts";

/** Where the facility's file systems are mounted; at DESY `/gpfs`, `/beamline`, `/asap3`. */
export interface FileSystems {
  gpfs: string;
  beamline: string;
  core: string;
}

/** A session of a facility that writes no metadata files, as the configuration has it. */
export interface StaticSession {
  id: string;
  beamline: string;
  paths: { beamline: string; core: string; node?: string | undefined };
  account: string;
  privateKey: string;
  reservations: readonly { name?: string | undefined; partition: string; nodes: readonly string[] }[];
}

/** A beamtime or a commissioning run. */
export interface Session {
  kind: "beamtime" | "commissioning";
  /** Whether it is open at the beamline. */
  isOpen: boolean;
  id: string;
  beamline: string;
  roots: SessionRoots;
  /** null if the configuration says it all. */
  metadataFile: string | null;
  /** Local times of the facility, without a zone. */
  eventStart: string | null;
  eventEnd: string | null;
  asapo: AsapoAccess | null;
  /** null if it was started without `--online`. */
  online: SessionOnline | null;
}

/** What is needed to run jobs for a session. Each throws Deferred `no-online-resources` if the metadata file lacks it. */
export interface SessionOnline {
  readonly account: string;
  readonly privateKey: KeyLocation;
  /** Of all reservations, in the order in which they are tried; at least one. */
  readonly nodes: readonly string[];
  /** At least one. */
  readonly reservations: readonly SessionReservation[];
}

/**
 * Where files are a session's: while it is not open at the beamline, `/gpfs/current` is another's, though the names in its
 * messages are mapped by it.
 */
export function rootsOfFiles({ isOpen, roots }: Pick<Session, "isOpen" | "roots">): SessionRoots {
  return isOpen ? roots : { core: roots.core, beamline: roots.core, node: roots.core };
}

/** A session that jobs can run for. */
export type OnlineSession = Session & { online: SessionOnline };

/** How long a message without an open session waits for one: a day. */
const WAIT_FOR_SESSION_SECONDS = 24 * 3600;

/** The folder of an open session on the beamline file system, and where such sessions are on core. */
const KINDS = {
  beamtime: { view: "current", coreFolder: "data" },
  commissioning: { view: "commissioning", coreFolder: "commissioning" },
} as const;
const METADATA_NAME = /^(beamtime|commissioning)-metadata-.+\.json$/;

/** Below the core file system's root, of names that can be a folder's. */
const SESSION_FOLDER =
  /^[^/]{1,255}\/gpfs\/[^/]{1,255}\/[^/]{1,255}\/(data|commissioning)\/[^/]{1,255}(?=\/)/;

/** Finds sessions by their metadata files, and those of the configuration. */
export class Sessions {
  readonly #fileSystems: FileSystems;
  readonly #static: readonly Session[];
  readonly #files: MetadataFiles;
  /** Where sessions were found on the core file system. */
  readonly #coreFolders = new Map<string, string>();
  readonly #listCore = shared(() => listCore(this.#fileSystems.core));

  constructor(site: FileSystems & { sessions?: readonly StaticSession[] }, warn: (message: string) => void) {
    this.#fileSystems = site;
    this.#static = (site.sessions ?? []).map(fromConfiguration);
    this.#files = new MetadataFiles(warn);
  }

  /**
   * The session that data belongs to: by its id, else the open one that the paths lie in, else the one whose folder on
   * the core file system they lie in, else the one that is open at the beamline.
   *
   * @throws Rejected `unknown-beamtime`, `session-unclear`
   * @throws Deferred `no-session-open`, `metadata-unreadable`
   */
  async find(id: string | undefined, paths: readonly string[] = []): Promise<Session> {
    const { open, broken } = await this.open();
    if (id !== undefined) {
      const found = open.find((session) => session.id === id) ?? (await this.#onCore(id));
      if (found !== undefined) return found;
      throw broken ?? this.#unknown(id, open);
    }
    const around = open.find(({ roots }) => paths.some((path) => isInSession(path, roots)));
    if (around !== undefined) return around;
    const above = await this.#aboveData(paths[0]);
    if (above !== undefined) return above;
    if (broken !== undefined) throw broken;
    const [first, second] = open;
    if (first === undefined) throw this.#noneOpen();
    if (second === undefined) return first;
    const ids = open.map((session) => session.id).join(" and ");
    throw new Rejected({
      code: "session-unclear",
      message: `${ids} are open at once, and ${paths[0] ?? "the message"} lies in none of them.`,
      hint: "Send the beamtimeId, or a path inside one of them.",
    });
  }

  /** What is open, and why one of them cannot be read: that must not stop the other's messages. */
  async open(): Promise<{ open: Session[]; broken: Error | undefined }> {
    const read = await Promise.allSettled(
      this.#views().map(async (folder) => this.#requireBelowCore(await this.#fileIn(folder))),
    );
    const files = read.flatMap((one) => (one.status === "fulfilled" && one.value ? [one.value] : []));
    const broken = read.find((one) => one.status === "rejected")?.reason as Error | undefined;
    return { open: [...files.map((file) => this.#session(file, true)), ...this.#static], broken };
  }

  #fileIn(folder: string): Promise<ReadFile | undefined> {
    return this.#files.readIn(folder, (name) => METADATA_NAME.test(name));
  }

  /** A session around the core file system would have all beamtimes' data for its own. */
  #requireBelowCore(read: ReadFile | undefined): ReadFile | undefined {
    const { core } = this.#fileSystems;
    if (read === undefined || !`${core}/`.startsWith(`${read.metadata.corePath}/`)) return read;
    throw unreadable(read.file, `its corePath ${read.metadata.corePath} is not a folder below ${core}`, null);
  }

  #session({ file, metadata }: ReadFile, isOpen: boolean): Session {
    const { kind, id, beamline, corePath, online, asapo, eventStart, eventEnd } = metadata;
    const { view } = KINDS[kind];
    return {
      kind,
      isOpen,
      id,
      beamline,
      roots: {
        beamline: posix.join(this.#fileSystems.gpfs, view),
        core: corePath,
        node: posix.join(this.#fileSystems.beamline, beamline, view),
      },
      metadataFile: file,
      eventStart: eventStart ?? null,
      eventEnd: eventEnd ?? null,
      asapo: asapo ?? null,
      online: online === undefined ? null : onlineOf(file, online),
    };
  }

  #views(): string[] {
    return Object.values(KINDS).map(({ view }) => posix.join(this.#fileSystems.gpfs, view));
  }

  /** `<core>/<facility>/gpfs/<beamline>/<year>/<data|commissioning>/<id>/`, any facility, beamline and year. */
  async #onCore(id: string): Promise<Session | undefined> {
    // It becomes a folder's name.
    if (/[/\0]|^\.*$/.test(id)) return undefined;
    const known = this.#coreFolders.get(id);
    const again = known === undefined ? undefined : await this.#inCoreFolder(known);
    if (again !== undefined) return again;
    const { byId, closed } = await this.#listCore();
    for (const folder of [...(byId.get(id) ?? []), ...closed.map((one) => posix.join(one, id))]) {
      const found = await this.#inCoreFolder(folder);
      if (found === undefined) continue;
      this.#coreFolders.set(id, folder);
      return found;
    }
    return undefined;
  }

  /** The session whose folder a path on the core file system lies in. */
  async #aboveData(path: string | undefined): Promise<Session | undefined> {
    if (path === undefined) return undefined;
    const { core } = this.#fileSystems;
    const normal = normalPath(path);
    if (!normal.startsWith("/")) return undefined;
    const inside = posix.relative(core, normal);
    const [folder] = SESSION_FOLDER.exec(inside) ?? [];
    return folder === undefined ? undefined : this.#inCoreFolder(posix.join(core, folder));
  }

  /**
   * The session whose own folder this is. Its users can write below it: a file further down, or one that speaks of another
   * session or folder, is not believed.
   */
  async #inCoreFolder(folder: string): Promise<Session | undefined> {
    const found = await this.#fileIn(folder).catch(unlessClosed);
    if (found === undefined) return undefined;
    const { id, corePath } = found.metadata;
    const inside = posix.relative(this.#fileSystems.core, folder);
    const isOwn = id === posix.basename(folder) && `${corePath}/`.endsWith(`/${inside}/`);
    return isOwn ? this.#session(found, false) : undefined;
  }

  #unknown(id: string, open: readonly Session[]): Rejected {
    const others = open.map((session) => session.id).join(" and ");
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
    return new Deferred({
      code: "no-session-open",
      message: `No beamtime is open: there is no metadata file in ${this.#views().join(" or ")}.`,
      hint: "The message waits until one is started; or send it with its beamtimeId.",
      giveUpAfterSeconds: WAIT_FOR_SESSION_SECONDS,
    });
  }
}

/**
 * The session with what jobs need.
 *
 * @throws Deferred `no-online-resources`
 */
export function requireOnline(session: Session): OnlineSession {
  const { online, kind, id, metadataFile } = session;
  if (online !== null) return { ...session, online };
  throw new Deferred({
    code: "no-online-resources",
    message: `The ${kind === "beamtime" ? "beamtime" : "commissioning run"} ${id} was started without online resources: ${metadataFile ?? "the configuration"} has no onlineAnalysis.`,
    hint: "Have it started with --online; the message waits.",
    giveUpAfterSeconds: WAIT_FOR_SESSION_SECONDS,
  });
}

/**
 * A key's path is relative to the metadata file's directory (confluence.desy.de, ASAP3, "Beamtime Metadata File"); a
 * leading slash means the same, and it never leads out of the directory.
 */
function onlineOf(file: string, online: NonNullable<BeamtimeMetadata["online"]>): SessionOnline {
  const folder = posix.dirname(file);
  const lacks = (name: OnlineKey) => lackingKey(file, name, online.failure[name] ?? "is missing");
  return {
    get account() {
      return required(online.account, lacks, "userAccount");
    },
    get privateKey() {
      const path = required(online.privateKeyPath, lacks, "sshPrivateKeyPath");
      return { file: posix.join(folder, posix.join("/", path)), within: folder };
    },
    get nodes() {
      return required(online.nodes, lacks, "reservedNodes");
    },
    get reservations() {
      return required(online.reservations, lacks, "slurmReservation");
    },
  };
}

function required<T>(value: T | null, lacks: (name: OnlineKey) => Deferred, name: OnlineKey): T {
  if (value === null) throw lacks(name);
  return value;
}

function lackingKey(file: string, name: OnlineKey, what: string): Deferred {
  return new Deferred({
    code: "no-online-resources",
    message: `${name} in the onlineAnalysis of ${file} ${what}.`,
    hint: "Messages that need it wait; ask the experts who started the beamtime.",
    giveUpAfterSeconds: WAIT_FOR_SESSION_SECONDS,
  });
}

function fromConfiguration(session: StaticSession): Session {
  const { id, beamline, paths, account, privateKey, reservations } = session;
  return {
    kind: "beamtime",
    isOpen: true,
    id,
    beamline,
    roots: { beamline: paths.beamline, core: paths.core, node: paths.node ?? paths.core },
    metadataFile: null,
    eventStart: null,
    eventEnd: null,
    asapo: null,
    online: {
      account,
      privateKey: { file: privateKey, within: null },
      nodes: [...new Set(reservations.flatMap(({ nodes }) => nodes))],
      reservations: reservations.map(({ name, partition, nodes }) => ({
        name: name ?? null,
        partition,
        nodes: [...nodes],
      })),
    },
  };
}

/** All sessions' folders, as they are called; and the folders of sessions whose names are too many, or not to be seen. */
async function listCore(core: string): Promise<{ byId: Map<string, string[]>; closed: string[] }> {
  const facilities = await subfolders([core]);
  if (facilities.length === 0) throw coreMissing(core);
  const beamlines = await subfolders(facilities.map((folder) => posix.join(folder, "gpfs")));
  const years = await subfolders(beamlines);
  const parents = years.flatMap((year) =>
    Object.values(KINDS).map(({ coreFolder }) => posix.join(year, coreFolder)),
  );
  const byId = new Map<string, string[]>();
  const closed: string[] = [];
  await Promise.all(
    parents.map(async (parent) => {
      const names = await namesIn(parent).catch(unlessTooMany).catch(unlessClosed);
      if (names === undefined) closed.push(parent);
      for (const name of names ?? []) byId.set(name, [...(byId.get(name) ?? []), posix.join(parent, name)]);
    }),
  );
  return { byId, closed };
}

/** Done once for all who ask before it begins: a flood of questions is answered by a few, and none by an old one. */
function shared<T>(work: () => Promise<T>): () => Promise<T> {
  let current: Promise<unknown> = Promise.resolve();
  let next: Promise<T> | undefined;
  return () => {
    next ??= current
      .catch(() => undefined)
      .then(() => {
        current = next ?? current;
        next = undefined;
        return work();
      });
    return next;
  };
}

async function subfolders(folders: readonly string[]): Promise<string[]> {
  const lists = await Promise.all(
    folders.map(async (folder) => {
      const names = (await namesIn(folder).catch(unlessClosed)) ?? [];
      return names.map((name) => posix.join(folder, name));
    }),
  );
  return lists.flat();
}

function unlessTooMany(error: unknown): undefined {
  if (error instanceof Deferred && error.cause instanceof NotPlain) return undefined;
  throw error;
}

/** Other facilities' and beamlines' folders may be closed to this account: what it may not see is not here. */
function unlessClosed(error: unknown): undefined {
  const cause: unknown = error instanceof Deferred ? error.cause : undefined;
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
  if (code === "EACCES" || code === "EPERM") return undefined;
  throw error;
}

function coreMissing(core: string): Deferred {
  return new Deferred({
    code: "metadata-unreadable",
    message: `The core file system is not there: ${core} is empty or missing, so no session can be found by its id.`,
    hint: "Mount it on this host, or correct site.core; the message waits.",
    giveUpAfterSeconds: WAIT_FOR_SESSION_SECONDS,
  });
}
