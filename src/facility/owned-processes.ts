import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { basename } from "node:path";
import { ownAccounts } from "./accounts.ts";
import { identify, isRunning, type ProcessIdentity, processStatus } from "./processes.ts";
import { type FacilityState, placesOf } from "./state.ts";

/** Programs that leave the session and the parent that started them, but keep the facility's log open. */
const WANDERERS = new Set([
  ...["slurmstepd", "slurmd", "slurmctld", "munged", "beam.smp", "epmd"],
  // A session is another program since OpenSSH 9.8, and its login a third since 10.0.
  ...["sshd", "sshd-session", "sshd-auth"],
]);

interface OwnedProcesses {
  /** The servers on record. Most take their children with them. */
  servers: ProcessIdentity[];
  /** Steps and jobs, and sessions that outlived their server. */
  strays: ProcessIdentity[];
}

/**
 * Every process that exists because of this facility and of nothing else: the servers on record, the steps and
 * sessions they left behind, whatever runs under an account of ours, the jobs of our cluster, and all their children.
 */
export function ownedProcesses(state: FacilityState): OwnedProcesses {
  const pids = allPids();
  const servers = Object.values(state.processes).filter(isRunning);
  const ofServers = withChildren(
    servers.map(({ pid }) => pid),
    pids,
  );
  const accounts = new Set(ownAccounts(state.dir).map(({ uid }) => uid));
  const found = pids.filter((pid) => {
    return isWanderer(pid, placesOf(state.dir).log) || isJob(pid, state.dir) || accounts.has(userOf(pid));
  });
  const strays = [...withChildren(found, pids)].filter((pid) => !ofServers.has(pid) && pid !== process.pid);
  return { servers, strays: strays.map(identify).filter((identity) => identity !== undefined) };
}

function allPids(): number[] {
  return readdirSync("/proc").map(Number).filter(Number.isInteger);
}

function isWanderer(pid: number, log: string): boolean {
  const program = read(() => readlinkSync(`/proc/${pid}/exe`));
  if (program === undefined || !WANDERERS.has(programName(program))) return false;
  const open = read(() => readdirSync(`/proc/${pid}/fd`)) ?? [];
  return open.some((fd) => read(() => readlinkSync(`/proc/${pid}/fd/${fd}`))?.startsWith(`${log}/`));
}

/** Debian's Slurm programs end in `-wlm`; a program that was upgraded while it ran shows as `… (deleted)`. */
function programName(path: string): string {
  return (basename(path).split(" ")[0] ?? "").replace(/-wlm$/, "");
}

/** A process that a job of our cluster started, even if it has left its step since. */
function isJob(pid: number, dir: string): boolean {
  const environment = read(() => readFileSync(`/proc/${pid}/environ`, "utf8"))?.split("\0") ?? [];
  return (
    environment.includes(`SLURM_CONF=${placesOf(dir).slurmConf}`) &&
    environment.some((variable) => variable.startsWith("SLURM_JOB_ID="))
  );
}

function userOf(pid: number): number {
  return read(() => statSync(`/proc/${pid}`).uid) ?? -1;
}

function withChildren(roots: readonly number[], pids: readonly number[]): Set<number> {
  const parents = new Map(pids.map((pid) => [pid, processStatus(pid)?.parent ?? 0]));
  const tree = new Set(roots);
  for (let before = -1; tree.size !== before;) {
    before = tree.size;
    for (const [pid, parent] of parents) if (tree.has(parent)) tree.add(pid);
  }
  return tree;
}

/** Processes come and go while they are looked at, and others' cannot be read at all. */
function read<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
