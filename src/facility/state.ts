import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ProcessIdentity } from "./processes.ts";

export type Part = "rabbitmq" | "slurm" | "ssh";

/** `<dir>/facility.json`: what a facility must know again when it is started the next time. */
export interface FacilityState {
  version: 1;
  dir: string;
  syncDelaySeconds: number;
  rabbitmqPassword: string;
  ports: Record<Part, number[]>;
  /** Server by server, `slurmd-max-p11-001` for example: the process that was started last. */
  processes: Record<string, ProcessIdentity>;
}

/** The Unix account that a beamtime's jobs run as. */
export interface Account {
  name: string;
  uid: number;
  gid: number;
  /** True if this facility made the account and so removes it. */
  own: boolean;
}

/** `<dir>/beamtimes/<beamline>.json`: an open beamtime. */
export interface OpenBeamtime {
  beamtimeId: string;
  beamline: string;
  /** Where the beamline's data lies, and the links `current` point to. */
  beamlinePath: string;
  corePath: string;
  /** Both only with online resources. */
  account: Account | null;
  reservation: string | null;
  /** True from the moment in which stop-beamtime wants the last files copied. */
  closing: boolean;
}

/** Every place in a facility's directory that more than one file must know. */
export function placesOf(dir: string) {
  return {
    state: join(dir, "facility.json"),
    log: join(dir, "log"),
    beamtimes: join(dir, "beamtimes"),
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
  return readJson(placesOf(dir).state) as FacilityState | undefined;
}

/** Only its owner may read the state: RabbitMQ's password is in it. */
export function writeState(state: FacilityState): void {
  writeFileAtomically(placesOf(state.dir).state, JSON.stringify(state, undefined, 2), 0o600);
}

export function readBeamtimes(dir: string): OpenBeamtime[] {
  const { beamtimes } = placesOf(dir);
  const files = readdirSync(beamtimes).filter((name) => name.endsWith(".json"));
  return files.flatMap((name) => (readJson(join(beamtimes, name)) as OpenBeamtime | undefined) ?? []);
}

export function writeBeamtime(dir: string, beamtime: OpenBeamtime): void {
  const file = join(placesOf(dir).beamtimes, `${beamtime.beamline}.json`);
  writeFileAtomically(file, JSON.stringify(beamtime, undefined, 2), 0o644);
}

export function removeBeamtime(dir: string, beamline: string): void {
  rmSync(join(placesOf(dir).beamtimes, `${beamline}.json`), { force: true });
}

/** Makes a directory with exactly this mode, whatever the umask is. */
export function makeDirectory(path: string): void {
  const before = process.umask(0o022);
  try {
    mkdirSync(path, { recursive: true, mode: 0o755 });
  } finally {
    process.umask(before);
  }
}

/** A reader sees the old text or the new one, never half of it. */
export function writeFileAtomically(file: string, text: string, mode: number): void {
  const partial = `${file}.${process.pid}.partial`;
  rmSync(partial, { force: true });
  writeFileSync(partial, text, { mode });
  renameSync(partial, file);
}

function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
