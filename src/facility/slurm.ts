import { randomBytes } from "node:crypto";
import { lookup } from "node:dns/promises";
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { hostname, userInfo } from "node:os";
import { join } from "node:path";
import { expandHostlist } from "../slurm/hostlist.ts";
import { NODES, PARTITION } from "./nodes.ts";
import { ownedProcesses } from "./owned-processes.ts";
import type { Say } from "./packages.ts";
import { run, runChecked, secondsSince } from "./processes.ts";
import { isServerRunning, startOnFreePorts, startServer, waitForServers } from "./server.ts";
import {
  makeTokenKey,
  restAnswers,
  restUrl,
  SLURMRESTD,
  startSlurmrestd,
  tokenSettings,
} from "./slurmrestd.ts";
import { type FacilityState, makeDirectory, placesOf, writeFileAtomically } from "./state.ts";

/** One for slurmctld, one for each node's slurmd, one for slurmrestd. */
export const SLURM_PORTS = 1 + NODES.length + 1;
export const SLURM_SERVERS = ["munged", "slurmctld", ...NODES.map(({ name }) => serverOf(name)), SLURMRESTD];

const CPUS_PER_NODE = 8;
/** In MB, and only said: so much that a job without --mem, which has its CPUs' share of it, is as good as unlimited. */
const MEMORY_PER_NODE = 64_000;

function serverOf(node: string): string {
  return `slurmd-${node}`;
}

export function describeSlurm(state: FacilityState) {
  const nodes = NODES.map(({ name, features, partition }, index) => {
    return { name, features, partition, port: state.ports.slurm[index + 1] ?? 0 };
  });
  return { conf: placesOf(state.dir).slurmConf, restUrl: restUrl(state), partition: PARTITION, nodes };
}

/** How every Slurm client finds this cluster. */
export function slurmEnvironment(dir: string): Record<string, string> {
  return { SLURM_CONF: placesOf(dir).slurmConf };
}

/** munged, slurmctld, a slurmd for each node, and slurmrestd. */
export async function startSlurm(state: FacilityState, say: Say): Promise<void> {
  if (SLURM_SERVERS.every((name) => isServerRunning(state, name))) return;
  const started = performance.now();
  say("starting Slurm …");
  await startMunge(state);
  const [, ...slurmServers] = SLURM_SERVERS;
  if (slurmServers.some((name) => isServerRunning(state, name))) await startMissing(state);
  else {
    await startOnFreePorts(state, { part: "slurm", servers: slurmServers }, say, () => startMissing(state));
  }
  say(`Slurm is ready after ${secondsSince(started)} s`);
}

async function startMunge(state: FacilityState): Promise<void> {
  if (isServerRunning(state, "munged")) return;
  const directory = mungeDirectory(state.dir);
  makeDirectory(directory);
  const inDirectory = (name: string) => join(directory, name);
  const key = inDirectory("munge.key");
  if (!existsSync(key)) writeFileSync(key, randomBytes(128), { mode: 0o400 });
  // Left by a munged that was killed; a new one does not always dare to replace it.
  rmSync(inDirectory("munge.socket"), { force: true });

  const args = [
    "--foreground",
    // It warns of a directory that others may write to further up, such as /tmp, and then ends.
    "--force",
    `--key-file=${key}`,
    `--socket=${inDirectory("munge.socket")}`,
    `--pid-file=${inDirectory("munged.pid")}`,
    `--log-file=${inDirectory("munged.log")}`,
    `--seed-file=${inDirectory("munged.seed")}`,
  ];
  await startServer(state, { name: "munged", program: "munged", args });
  await waitForServers(state, ["munged"], 20, () => existsSync(inDirectory("munge.socket")));
}

function mungeDirectory(dir: string): string {
  return join(dir, "munge");
}

async function startMissing(state: FacilityState): Promise<void> {
  const spool = join(state.dir, "slurm");
  for (const { name } of NODES) makeDirectory(join(spool, name));
  makeDirectory(join(spool, "ctld"));
  makeTokenKey(state.dir);
  writeFileAtomically(placesOf(state.dir).slurmConf, slurmConf(state, await slurmHost()), 0o644);

  const env = slurmEnvironment(state.dir);
  const hasStopped = !SLURM_SERVERS.slice(1).some((name) => isServerRunning(state, name));
  const haveRebooted = hasStopped && ownedProcesses(state).strays.length === 0;
  if (!isServerRunning(state, "slurmctld")) {
    // -i: a state file that a kill left half-written must not keep the controller from starting.
    await startServer(state, { name: "slurmctld", program: "slurmctld", args: ["-D", "-i"], env });
  }
  const failed = haveRebooted ? await failRunningJobs(state, env) : [];
  for (const { name } of NODES) {
    if (isServerRunning(state, serverOf(name))) continue;
    await startServer(state, { name: serverOf(name), program: "slurmd", args: ["-D", "-N", name], env });
  }
  // Refused of those that have come back by themselves.
  for (const name of failed) {
    await run("scontrol", ["update", `NodeName=${name}`, "State=RESUME"], { timeoutSeconds: 15, env });
  }
  await startSlurmrestd(state);
  const [, ...names] = SLURM_SERVERS;
  await waitForServers(state, names, 60, async () => (await restAnswers(state)) && allNodesUp(state.dir));
}

/**
 * Of a node that has failed, and comes back within seconds, Slurm finds only half an hour later that its jobs are not there
 * (slurmctld, MAX_REG_FREQUENCY). Before the nodes are back, since what has waited begins then. Returns the nodes' names.
 */
async function failRunningJobs(state: FacilityState, env: Record<string, string>): Promise<string[]> {
  const options = { timeoutSeconds: 15, env };
  const ask = ["--noheader", "--states=RUNNING,COMPLETING", "--format=%N"];
  let said = "";
  await waitForServers(state, ["slurmctld"], 60, async () => {
    const { exitCode, stdout } = await run("squeue", ask, options);
    said = stdout;
    return exitCode === 0;
  });
  const nodes = new Set(said.split("\n").flatMap((line) => expandHostlist(line)));
  for (const name of nodes) {
    await runChecked("scontrol", ["update", `NodeName=${name}`, "State=DOWN", "Reason=failed"], options);
  }
  return [...nodes];
}

interface SlurmHost {
  /** The account that all of Slurm runs as. */
  user: string;
  address: string;
}

/** With NoInAddrAny Slurm listens where this machine's name leads: to loopback, or to a container's own address. */
async function slurmHost(): Promise<SlurmHost> {
  const { address } = await lookup(hostname(), 4).catch(() => ({ address: "127.0.0.1" }));
  return { user: userInfo().username, address };
}

/** The cluster's whole configuration, as slurm.conf. */
export function slurmConf(state: FacilityState, { user, address }: SlurmHost): string {
  const spool = join(state.dir, "slurm");
  const log = placesOf(state.dir).log;
  const [controllerPort = 0, ...nodePorts] = state.ports.slurm;
  const settings = [
    "ClusterName=mento",
    `SlurmctldHost=localhost(${address})`,
    `SlurmctldPort=${controllerPort}`,
    "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny",
    `SlurmUser=${user}`,
    `SlurmdUser=${user}`,
    "AuthType=auth/munge",
    `AuthInfo=socket=${join(mungeDirectory(state.dir), "munge.socket")}`,
    ...tokenSettings(state.dir),
    "CredType=cred/munge",
    `StateSaveLocation=${join(spool, "ctld")}`,
    `SlurmdSpoolDir=${join(spool, "%n")}`,
    `SlurmctldPidFile=${join(spool, "slurmctld.pid")}`,
    `SlurmdPidFile=${join(spool, "slurmd-%n.pid")}`,
    // Steps write here too, which is how `down` recognises them.
    `SlurmdLogFile=${join(log, "slurmd-%n.steps.log")}`,
    "ProctrackType=proctrack/linuxproc",
    "TaskPlugin=task/none",
    "SelectType=select/cons_tres",
    // A job that takes more memory than its --mem is killed, within two seconds and without cgroups.
    "SelectTypeParameters=CR_Core_Memory",
    `DefMemPerCPU=${MEMORY_PER_NODE / CPUS_PER_NODE}`,
    "JobAcctGatherType=jobacct_gather/linux",
    "JobAcctGatherFrequency=task=2",
    "JobAcctGatherParams=OverMemoryKill",
    "AccountingStorageType=accounting_storage/none",
    "MpiDefault=none",
    "MailProg=/bin/true",
    "PropagateResourceLimits=NONE",
    "ReturnToService=2",
    "KillWait=2",
    "MinJobAge=300",
    // Else nodes that have more CPUs than this machine are drained.
    "SlurmdParameters=config_overrides",
    "SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0",
  ];
  const nodes = NODES.map(({ name, features }, index) => {
    const where = `NodeName=${name} NodeHostname=localhost NodeAddr=${address} Port=${nodePorts[index] ?? 0}`;
    const size = `CPUs=${CPUS_PER_NODE} RealMemory=${MEMORY_PER_NODE}`;
    return `${where} ${size} Feature=${features.join(",")} State=UNKNOWN`;
  });
  const partitions = [...new Set(NODES.map(({ partition }) => partition))].map((partition) => {
    const names = NODES.filter((node) => node.partition === partition).map(({ name }) => name);
    const isDefault = partition === PARTITION ? "YES" : "NO";
    return `PartitionName=${partition} Nodes=${names.join(",")} Default=${isDefault} DefaultTime=01:00:00 MaxTime=INFINITE State=UP`;
  });
  return `${[...settings, ...nodes, ...partitions].join("\n")}\n`;
}

async function allNodesUp(dir: string): Promise<boolean> {
  const output = await run("sinfo", ["--noheader", "--Node", "--format=%N %T"], {
    timeoutSeconds: 15,
    env: slurmEnvironment(dir),
  });
  return output.exitCode === 0 && areAllNodesUp(output.stdout);
}

/** Whether every node can run jobs, from what `sinfo` prints. A `*` behind a state: the node does not answer. */
export function areAllNodesUp(sinfo: string): boolean {
  const lines = sinfo.trim().split("\n");
  const up = lines.filter((line) => /^\S+ (idle|mixed|allocated|completing|reserved|planned)$/.test(line));
  return up.length === NODES.length;
}
