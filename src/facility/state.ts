import {
  closeSync,
  existsSync,
  fchmodSync,
  fchownSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { errorText, type Misconfigured } from "../errors.ts";
import { readGivenFile, textOf } from "../files/plain-file.ts";
import type { Resources } from "./nodes.ts";
import type { ProcessIdentity } from "./processes.ts";
import { wrongUsage } from "./wrong-usage.ts";

export type Part = "rabbitmq" | "slurm" | "ssh";

/** Another number: the directory is one of an earlier Mento, with other nodes, ports or files. */
export const STATE_VERSION = 3;

/** `<dir>/facility.json`: what a facility must know again when it is started the next time. */
export interface FacilityState {
  version: typeof STATE_VERSION;
  dir: string;
  syncDelaySeconds: number;
  /** False: another RabbitMQ is used. */
  hasBroker?: false;
  /** For workers elsewhere; missing: everything is for this machine alone. */
  serving?: Serving;
  rabbitmqPassword: string;
  ports: Record<Part, number[]>;
  /** Server by server, `slurmd-max-p11-001` for example: the process that was started last. */
  processes: Record<string, ProcessIdentity>;
}

/** How workers on other hosts, or in other containers, reach sshd and slurmrestd. */
export interface Serving {
  /** Where both listen. */
  address: string;
  sshPort: number;
  restPort: number;
  /** Who may read the sessions' private keys on both file systems; null: who runs the facility. */
  workerUid: number | null;
}

/** Where sshd and slurmrestd are reached from this machine. */
export function reachedAt({ serving }: FacilityState): string {
  const { address = "127.0.0.1" } = serving ?? {};
  return address === "0.0.0.0" ? "127.0.0.1" : address;
}

/** The Unix account that a session's jobs run as. */
export interface Account {
  name: string;
  uid: number;
  gid: number;
  /** True if this facility made the account and so removes it. */
  own: boolean;
}

/** A reservation of a session, as the metadata file names it. */
export interface Reservation {
  name: string;
  partition: string;
  nodes: string[];
}

/** `--resources`, `--feature` and `--nodes`; null: not given. */
export interface AskedResources {
  resources: Resources;
  feature: string | null;
  nodes: string | null;
}

/** `<dir>/sessions/<id>.json`: a beamtime or commissioning run that is open, or a beamtime that is pre-started. */
export interface OpenSession {
  kind: "beamtime" | "commissioning";
  id: string;
  beamline: string;
  /** A commissioning run's. */
  tag: string | null;
  proposalType: string;
  asapo: boolean;
  archive: boolean;
  asked: AskedResources;
  corePath: string;
  /** Where the beamline's data lies, and what its links point to; null as long as it is only pre-started. */
  beamlinePath: string | null;
  /** Only with online resources. */
  account: Account | null;
  reservations: Reservation[];
  /** The pre-start's, if jobs were still in it at the start. */
  leftReservations: string[];
  /** True from the moment in which stopping wants the last files copied: only that is left to be done. */
  closing: boolean;
  /** The command that waits for it, if it still runs. */
  closedBy?: ProcessIdentity;
}

/** Every place in a facility's directory that more than one file must know. */
export function placesOf(dir: string) {
  return {
    state: join(dir, "facility.json"),
    log: join(dir, "log"),
    sessions: join(dir, "sessions"),
    secrets: join(dir, "secrets"),
    /** Programs in here stand in for the system's on every node: to rehearse an `sbatch` that fails. */
    bin: join(dir, "bin"),
    mirror: join(dir, "mirror"),
    slurmConf: join(dir, "slurm", "slurm.conf"),
    authorizedKeys: join(dir, "ssh", "authorized_keys"),
    knownHosts: join(dir, "ssh", "known_hosts"),
    homes: join(dir, "home"),
    gpfs: join(dir, "gpfs"),
    beamline: join(dir, "beamline"),
    core: join(dir, "asap3"),
  };
}

export function readState(dir: string): FacilityState | undefined {
  const { state: file } = placesOf(dir);
  const read = readJson(file);
  if (read === undefined || isState(read)) return read;
  throw notOurs(file, "it has not what a facility's has");
}

/** Who may write it is trusted with the facility; this tells only another file, or one that is damaged. */
function isState(value: unknown): value is FacilityState {
  const { dir, ports, processes } = (value ?? {}) as Partial<Record<keyof FacilityState, unknown>>;
  const isObject = (part: unknown) => typeof part === "object" && part !== null;
  return typeof dir === "string" && isObject(ports) && isObject(processes);
}

function notOurs(file: string, why: string): Misconfigured {
  return wrongUsage(
    `${file} cannot be used: ${why}.`,
    "Name the directory that `mento facility up` was given; a facility that is damaged is made anew in another.",
  );
}

/** Only its owner may read the state: RabbitMQ's password is in it. */
export function writeState(state: FacilityState): void {
  writeFileAtomically(placesOf(state.dir).state, JSON.stringify(state, undefined, 2), 0o600);
}

export function readSessions(dir: string): OpenSession[] {
  const { sessions } = placesOf(dir);
  const files = readdirSync(sessions).filter((name) => name.endsWith(".json"));
  return files.flatMap((name) => (readJson(join(sessions, name)) as OpenSession | undefined) ?? []);
}

export function writeSession(dir: string, session: OpenSession): void {
  const file = join(placesOf(dir).sessions, `${session.id}.json`);
  writeFileAtomically(file, JSON.stringify(session, undefined, 2), 0o644);
}

export function removeSession(dir: string, id: string): void {
  rmSync(join(placesOf(dir).sessions, `${id}.json`), { force: true });
}

/** Makes a directory with exactly this mode, whatever the umask is. */
export function makeDirectory(path: string): void {
  const before = process.umask(0o022);
  try {
    makeWithParents(path);
  } finally {
    process.umask(before);
  }
}

/** Node's own `recursive` never ends below /proc, where nothing can be made. */
function makeWithParents(path: string): void {
  try {
    mkdirSync(path, { mode: 0o755 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST" && statSync(path).isDirectory()) return;
    if (code !== "ENOENT" || existsSync(dirname(path))) throw error;
    makeWithParents(dirname(path));
    mkdirSync(path, { mode: 0o755 });
  }
}

/**
 * A reader sees the old text or the new one, never half of it. The umask has no say in the mode. Mode and owner are set
 * on what is open: in a directory that others may write in, the name can lead elsewhere a moment later.
 */
export function writeFileAtomically(
  file: string,
  text: string | Uint8Array,
  mode: number,
  owner?: { uid: number; gid?: number },
): void {
  const partial = `${file}.${process.pid}.partial`;
  rmSync(partial, { force: true });
  // Never through a link that somebody else put there.
  const fd = openSync(partial, "wx", mode);
  try {
    writeFileSync(fd, text);
    fchmodSync(fd, mode);
    if (owner !== undefined) fchownSync(fd, owner.uid, owner.gid ?? -1);
  } finally {
    closeSync(fd);
  }
  renameSync(partial, file);
}

/** One of the facility's own files, if it is one. */
export function readText(file: string): string {
  return textOf(readGivenFile(file, { maxBytes: 16 * 1024 * 1024, links: "follow" }).bytes);
}

function readJson(file: string): unknown {
  try {
    return JSON.parse(readText(file));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw notOurs(file, errorText(error));
  }
}
