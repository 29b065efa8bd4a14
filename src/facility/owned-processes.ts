import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { basename } from "node:path";
import { ownAccounts } from "./accounts.ts";
import { identify, isRunning, type ProcessIdentity, processStatus } from "./processes.ts";
import { type FacilityState, placesOf } from "./state.ts";

/** Programs that leave the session and the parent that started them, but keep the facility's log open. */
const WANDERERS = new Set(["slurmstepd", "sshd", "slurmd", "slurmctld", "munged", "beam.smp", "epmd"]);

/**
 * Every process that exists because of this facility and of nothing else: the servers on record, the steps and
 * sessions they left behind, whatever runs under an account of ours, the jobs of our cluster, and all their children.
 */
export function ownedProcesses(state: FacilityState): ProcessIdentity[] {
  const owned = new Set(
    Object.values(state.processes)
      .filter(isRunning)
      .map(({ pid }) => pid),
  );
  const accounts = new Set(ownAccounts(state.dir).map(({ uid }) => uid));
  const pids = allPids();
  for (const pid of pids) {
    if (isWanderer(pid, placesOf(state.dir).log) || isJob(pid, state.dir) || accounts.has(userOf(pid))) {
      owned.add(pid);
    }
  }
  addChildren(owned, pids);
  owned.delete(process.pid);
  return [...owned].map(identify).filter((identity) => identity !== undefined);
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

function addChildren(owned: Set<number>, pids: readonly number[]): void {
  const parents = new Map(pids.map((pid) => [pid, processStatus(pid)?.parent ?? 0]));
  for (let before = -1; owned.size !== before;) {
    before = owned.size;
    for (const [pid, parent] of parents) if (owned.has(parent)) owned.add(pid);
  }
}

/** Processes come and go while they are looked at, and others' cannot be read at all. */
function read<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
