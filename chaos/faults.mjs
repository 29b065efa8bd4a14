import { rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { findProgram } from "../dist/facility/packages.js";
import { endProcesses, isRunning, sendSignal, waitUntil } from "../dist/facility/processes.js";
import { startRabbitmq } from "../dist/facility/rabbitmq.js";
import { startSlurm } from "../dist/facility/slurm.js";
import { startSshd } from "../dist/facility/sshd.js";
import { placesOf, writeFileAtomically } from "../dist/facility/state.js";

/**
 * @typedef {import("./world.mjs").World} World
 * @typedef {import("./schedule.mjs").FaultKind} FaultKind
 * @typedef {import("./schedule.mjs").PlannedFault} PlannedFault
 * @typedef {import("../dist/facility/tcp-proxy.js").TcpProxy} TcpProxy
 */

/** After a server came back it is let alone for so long: else nothing would ever run between two restarts. */
const REST_MS = 5000;
const SHUTDOWN_SECONDS = 60;
const quietly = () => undefined;

/**
 * Does what a schedule says. Every fault ends by itself, healed. What cannot be done at the moment, because the same
 * part is broken already, is skipped.
 */
export class Faults {
  /** @type {Map<FaultKind, { done: number, skipped: number }>} */
  counts = new Map();
  #world;
  #say;
  #publishAgain;
  /** Servers and wires. @type {Set<string | TcpProxy>} */
  #broken = new Set();
  #brokerCrashes = false;

  /**
   * @param {World} world
   * @param {{ say: (what: string) => void, publishAgain: (share: number) => Promise<boolean> }} chaos
   *   publishAgain: one more time, a message that was published before; a number from 0 to 1 says which
   */
  constructor(world, { say, publishAgain }) {
    this.#world = world;
    this.#say = say;
    this.#publishAgain = publishAgain;
  }

  /** @param {PlannedFault} fault */
  async happen(fault) {
    this.#say(describeFault(fault));
    const isDone = await this.#do(fault);
    const count = this.counts.get(fault.kind) ?? { done: 0, skipped: 0 };
    count[isDone ? "done" : "skipped"] += 1;
    this.counts.set(fault.kind, count);
    this.#say(`${isDone ? "  over:" : "  skipped:"} ${describeFault(fault)}`);
  }

  /**
   * @param {PlannedFault} fault
   * @returns {Promise<boolean>} false: it was skipped
   */
  async #do(fault) {
    const { seconds, isCrash } = fault;
    const worker = this.#world.posts[fault.worker - 1]?.worker;
    switch (fault.kind) {
      case "kill-worker":
        return worker?.kill(seconds) ?? false;
      case "freeze-worker":
        return worker?.freeze(seconds) ?? false;
      case "restart-broker":
        return this.#restartBroker(seconds);
      case "close-connections":
        return this.#closeConnections();
      case "restart-slurmctld":
        return this.#restartSlurmctld(seconds);
      case "break-sbatch":
        return this.#breakSbatch(seconds, isCrash ? "before" : "after");
      case "stop-sshd":
        return this.#restart("sshd", "stop", seconds, () => startSshd(this.#world.state, quietly));
      case "break-ssh":
        for (const wire of this.#wiresOf({ ...fault, end: "ssh" })) wire.cut();
        return true;
      case "stall":
      case "half-open":
        return this.#spoil(fault, (wire) => wire.set(fault.kind === "stall" ? "stall" : "half-open"));
      case "delay":
        return this.#spoil(fault, (wire) => wire.set("pass", 20 + 400 * fault.share));
      case "duplicates":
        return this.#publishAgain(fault.share);
    }
  }

  /** @param {number} seconds */
  #restartBroker(seconds) {
    // By turns: what was confirmed must survive both, since quorum queues are on disk before a confirm.
    const how = this.#brokerCrashes ? "crash" : "stop";
    if (!this.#broken.has("rabbitmq")) this.#brokerCrashes = !this.#brokerCrashes;
    return this.#restart("rabbitmq", how, seconds, () => startRabbitmq(this.#world.state, quietly));
  }

  /**
   * Stopped, never crashed: slurmctld saves its jobs some seconds after it has accepted them, and forgets those if it is
   * killed meanwhile. That would be Slurm's own loss.
   *
   * @param {number} seconds
   */
  #restartSlurmctld(seconds) {
    return this.#restart("slurmctld", "stop", seconds, () => startSlurm(this.#world.state, quietly));
  }

  /**
   * `sbatch` says that the controller did not answer, before or after the job was created: the caller cannot know
   * which, and takes 150 s to find out.
   *
   * @param {number} seconds
   * @param {"before" | "after"} when
   */
  async #breakSbatch(seconds, when) {
    const standIn = join(placesOf(this.#world.dir).bin, "sbatch");
    if (this.#broken.has(standIn)) return false;
    this.#broken.add(standIn);
    const submit = when === "after" ? `${findProgram("sbatch")} "$@" > /dev/null\n` : "";
    const answer = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation";
    writeFileAtomically(standIn, `#!/bin/sh\n${submit}echo "${answer}" >&2\nexit 1\n`, 0o755);
    await sleep(seconds * 1000);
    rmSync(standIn);
    this.#broken.delete(standIn);
    return true;
  }

  /**
   * @param {string} server
   * @param {"stop" | "crash"} how
   * @param {number} seconds for which it is away
   * @param {() => Promise<void>} start
   */
  async #restart(server, how, seconds, start) {
    const { state } = this.#world;
    const identity = state.processes[server];
    if (this.#broken.has(server) || !isRunning(identity)) return false;
    this.#broken.add(server);
    const ports = JSON.stringify(state.ports);
    if (how === "stop") await endProcesses([identity], SHUTDOWN_SECONDS);
    else {
      sendSignal(identity, "SIGKILL");
      await waitUntil(() => !isRunning(identity), { seconds: SHUTDOWN_SECONDS });
    }
    await sleep(seconds * 1000);
    await start();
    if (JSON.stringify(state.ports) !== ports) {
      throw new Error(`${server} came back on another port, because somebody else took its own.`);
    }
    this.#say(`  ${server} is back`);
    setTimeout(() => this.#broken.delete(server), REST_MS).unref();
    return true;
  }

  /** As an operator does in RabbitMQ's management, which does not know of connections younger than 5 s. */
  async #closeConnections() {
    try {
      const all = /** @type {{ name: string }[]} */ (await this.#world.management("GET", "/connections"));
      for (const { name } of all) {
        await this.#world.management("DELETE", `/connections/${encodeURIComponent(name)}`);
      }
      return all.length > 0;
    } catch {
      // The broker is away.
      return false;
    }
  }

  /**
   * @param {PlannedFault} fault
   * @param {(wire: TcpProxy) => void} spoil
   */
  async #spoil(fault, spoil) {
    const wires = this.#wiresOf(fault).filter((wire) => !this.#broken.has(wire));
    if (wires.length === 0) return false;
    for (const wire of wires) {
      this.#broken.add(wire);
      spoil(wire);
    }
    await sleep(fault.seconds * 1000);
    for (const wire of wires) {
      wire.set("pass");
      this.#broken.delete(wire);
    }
    return true;
  }

  /**
   * One worker's or all workers' to the broker or to SSH, or the detector's.
   *
   * @param {PlannedFault} fault
   * @returns {TcpProxy[]}
   */
  #wiresOf({ end, everybody, worker }) {
    const { posts, detectorWire } = this.#world;
    if (end === "detector") return [detectorWire];
    return posts.filter((_, index) => everybody || index === worker - 1).map((post) => post[end]);
  }
}

/** @param {PlannedFault} fault */
export function describeFault({ kind, worker, everybody, end, share, seconds, isCrash }) {
  const who = everybody ? "all workers" : `worker ${worker}`;
  const wire = end === "detector" ? "the detector's wire" : `${end} of ${who}`;
  const time = `${seconds.toFixed(1)} s`;
  switch (kind) {
    case "kill-worker":
      return `${kind}: worker ${worker}, the next after ${time}`;
    case "freeze-worker":
      return `${kind}: worker ${worker} for ${time}`;
    case "break-ssh":
      return `${kind}: ${who}`;
    case "break-sbatch":
      return `${kind}: ${isCrash ? "before" : "after"} the job is created, for ${time}`;
    case "stall":
    case "half-open":
      return `${kind}: ${wire} for ${time}`;
    case "delay":
      return `${kind}: ${wire} by ${Math.round(20 + 400 * share)} ms for ${time}`;
    case "restart-broker":
    case "restart-slurmctld":
    case "stop-sshd":
      return `${kind}: away for ${time}`;
    default:
      return kind;
  }
}
