import { randomBytes } from "node:crypto";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { errorText, Misconfigured, Unavailable } from "../errors.ts";
import { ownAccounts, removeAccount, restoreAccount } from "./accounts.ts";
import { existingDirectory, noFacility, prepareDirectory } from "./directory.ts";
import { withLock } from "./lock.ts";
import { ownedProcesses } from "./owned-processes.ts";
import { installFacilityPackages, type Say } from "./packages.ts";
import { chooseFreePorts } from "./ports.ts";
import { endProcesses, isRunning } from "./processes.ts";
import { cancelJobs } from "./queue.ts";
import { describeBroker, RABBITMQ_PORTS, startRabbitmq } from "./rabbitmq.ts";
import { listReservations, type SlurmReservation } from "./reservations.ts";
import { isServerRunning } from "./server.ts";
import { describeSlurm, SLURM_PORTS, SLURM_SERVERS, startSlurm } from "./slurm.ts";
import { restPort, SLURMRESTD } from "./slurmrestd.ts";
import { describeSshd, SSH_PORTS, startSshd } from "./sshd.ts";
import {
  type FacilityState,
  type OpenSession,
  placesOf,
  readSessions,
  readState,
  type Serving,
  STATE_VERSION,
  writeSession,
  writeState,
} from "./state.ts";
import { startMirror, stopMirror } from "./start-mirror.ts";

function serversOf({ hasBroker }: FacilityState): string[] {
  const broker = hasBroker === false ? [] : ["epmd", "rabbitmq"];
  return [...broker, ...SLURM_SERVERS, "sshd", "mirror"];
}

export interface UpOptions {
  /** Keeps the present delay if not given, at first 0. */
  syncDelaySeconds?: number;
  /** Of a new facility, as is `serving`; one that is there stays as it was made. */
  hasBroker: boolean;
  serving?: Serving;
  mayInstall: boolean;
}

/** Every endpoint and path of a facility: what `mento facility up --json` prints. */
export type FacilityDescription = Awaited<ReturnType<typeof describe>>;

/** Starts whatever of the facility is not running, and waits until all of it is ready. */
export async function up(directory: string, options: UpOptions, say: Say): Promise<FacilityDescription> {
  const hasBroker = options.hasBroker && readState(resolve(directory))?.hasBroker !== false;
  await installFacilityPackages(say, { hasBroker, mayInstall: options.mayInstall });
  const dir = prepareDirectory(directory);
  return withLock(dir, async () => {
    const state = readState(dir) ?? (await newState(dir, options));
    requirePresentVersion(state);
    const delay = options.syncDelaySeconds ?? state.syncDelaySeconds;
    if (delay !== state.syncDelaySeconds) await stopMirror(state);
    state.syncDelaySeconds = delay;
    writeState(state);
    // Slurm drops a reservation whose account does not exist when it starts.
    for (const session of readSessions(dir)) await restoreAccountOf(dir, session);
    await allOf([
      ...(state.hasBroker === false ? [] : [startRabbitmq(state, say)]),
      startSlurm(state, say),
      startSshd(state, say),
      startMirror(state, say),
    ]);
    return describe(state);
  });
}

/**
 * Resolves when `stop` aborts, after having ended every process. Jobs are not cancelled: to Slurm, when it is up again,
 * their nodes have failed.
 *
 * @throws Unavailable `facility-not-up`: a server has ended by itself
 */
export async function stay(directory: string, stop: AbortSignal, say: Say): Promise<void> {
  const dir = existingDirectory(directory);
  try {
    while (!stop.aborted) {
      const missing = partsOf(requireState(dir)).filter(({ running }) => !running);
      const names = missing.map(({ name }) => name);
      if (names.length > 0) throw notRunning(dir, names);
      await sleep(1000, undefined, { signal: stop }).catch(() => undefined);
    }
  } finally {
    await down(dir, { cancelsJobs: false }, say);
  }
}

/** Ends every process of the facility and removes its accounts. Data, ports and open sessions stay as they are. */
export async function down(
  directory: string,
  { cancelsJobs }: { cancelsJobs: boolean },
  say: Say,
): Promise<void> {
  const dir = existingDirectory(directory);
  await withLock(dir, async () => {
    const state = requireState(dir);
    if (cancelsJobs && isServerRunning(state, "slurmctld")) {
      say("cancelling jobs …");
      // A controller that does not answer is ended all the same.
      await cancelJobs(dir, () => true).catch((error: unknown) => say(errorText(error)));
    }
    // First: it must not see its nodes and jobs end.
    if (!cancelsJobs) await endProcesses([state.processes["slurmctld"]].filter(isRunning), 20);
    const { servers, strays } = ownedProcesses(state);
    if (servers.length > 0) say("stopping all servers …");
    await Promise.all([endProcesses(servers, 20), endProcesses(strays, 2)]);
    // Sessions of sshd, which live on when it ends, and what was started while the others were ending.
    await endProcesses(ownedProcesses(state).strays, 2);
    for (const { name } of ownAccounts(dir)) await removeAccount(dir, name);
  });
}

export interface FacilityStatus {
  dir: string;
  running: boolean;
  parts: PartStatus[];
  /** Beamtimes and commissioning runs that are open, and beamtimes that are pre-started. */
  sessions: OpenSession[];
  /** As Slurm has them, whoever made them; null if it does not answer. */
  reservations: SlurmReservation[] | null;
}

interface PartStatus {
  name: string;
  running: boolean;
  pid: number | null;
  port: number | null;
}

/** Which servers run, what is open, and what is reserved. */
export async function status(directory: string): Promise<FacilityStatus> {
  const dir = existingDirectory(directory);
  const state = requireState(dir);
  requirePresentVersion(state);
  const parts = partsOf(state);
  const reservations = isServerRunning(state, "slurmctld")
    ? await listReservations(dir).catch(() => null)
    : null;
  const running = parts.every((part) => part.running);
  return { dir, running, parts, sessions: readSessions(dir), reservations };
}

/** The facility in this directory, with all that start-beamtime needs of it. */
export function runningFacility(directory: string): FacilityState {
  const state = requireState(existingDirectory(directory));
  requirePresentVersion(state);
  const missing = partsOf(state).filter(({ running }) => !running);
  if (missing.length > 0) {
    throw notRunning(
      state.dir,
      missing.map(({ name }) => name),
    );
  }
  return state;
}

function partsOf(state: FacilityState): PartStatus[] {
  const ports = portsOfServers(state);
  return serversOf(state).map((name) => {
    const identity = state.processes[name];
    const running = isRunning(identity);
    return { name, running, pid: running ? identity.pid : null, port: ports[name] ?? null };
  });
}

async function describe(state: FacilityState) {
  const { gpfs, beamline, core } = placesOf(state.dir);
  return {
    dir: state.dir,
    broker: state.hasBroker === false ? null : describeBroker(state),
    slurm: describeSlurm(state),
    ssh: await describeSshd(state),
    roots: { gpfs, beamline, core },
    sync: { delaySeconds: state.syncDelaySeconds },
    pids: Object.fromEntries(serversOf(state).map((name) => [name, state.processes[name]?.pid ?? null])),
  };
}

function portsOfServers(state: FacilityState): Record<string, number> {
  const { nodes } = describeSlurm(state);
  const [rabbitmq = 0, , , epmd = 0] = state.ports.rabbitmq;
  const slurmds = nodes.map(({ name, port }): [string, number] => [`slurmd-${name}`, port]);
  return {
    rabbitmq,
    epmd,
    slurmctld: state.ports.slurm[0] ?? 0,
    ...Object.fromEntries(slurmds),
    [SLURMRESTD]: restPort(state),
    sshd: state.ports.ssh[0] ?? 0,
  };
}

async function newState(dir: string, { hasBroker, serving }: UpOptions): Promise<FacilityState> {
  const count = RABBITMQ_PORTS + SLURM_PORTS + SSH_PORTS;
  const ports = await chooseFreePorts(count, new Set());
  // slurmrestd's is the last of Slurm's.
  if (serving) ports.splice(-SSH_PORTS - 1, 1 + SSH_PORTS, serving.restPort, serving.sshPort);
  return {
    version: STATE_VERSION,
    dir,
    syncDelaySeconds: 0,
    ...(!hasBroker && { hasBroker }),
    ...(serving && { serving }),
    rabbitmqPassword: randomBytes(16).toString("hex"),
    ports: {
      rabbitmq: ports.slice(0, RABBITMQ_PORTS),
      slurm: ports.slice(RABBITMQ_PORTS, RABBITMQ_PORTS + SLURM_PORTS),
      ssh: ports.slice(-SSH_PORTS),
    },
    processes: {},
  };
}

async function restoreAccountOf(dir: string, session: OpenSession): Promise<void> {
  if (session.account === null) return;
  const account = await restoreAccount(dir, session.account);
  writeSession(dir, { ...session, account });
}

/** Waits for all of them even if one fails, so that nothing goes on behind the caller's back. */
async function allOf(parts: readonly Promise<void>[]): Promise<void> {
  const results = await Promise.allSettled(parts);
  const failed = results.find((result) => result.status === "rejected");
  if (failed !== undefined) throw failed.reason;
}

function notRunning(dir: string, servers: readonly string[]): Unavailable {
  return new Unavailable({
    code: "facility-not-up",
    message: `The facility in ${dir} is not running: ${servers.join(", ")}.`,
    hint: `Start what is missing with: mento facility up --dir ${dir}`,
  });
}

function requireState(dir: string): FacilityState {
  const state = readState(dir);
  if (state === undefined) throw noFacility(dir);
  return state;
}

/** `down` works all the same, for the processes are on record as ever. */
function requirePresentVersion({ version, dir }: { version: number; dir: string }): void {
  if (version === STATE_VERSION) return;
  throw new Misconfigured({
    code: "wrong-usage",
    message: `The facility in ${dir} is one of another version of Mento.`,
    hint: `Take another directory, or end it with mento facility down --dir ${dir} and remove it.`,
  });
}
