import { chmodSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { stringify } from "yaml";
import { down, runningFacility, up } from "../dist/facility/facility.js";
import { ownedProcesses } from "../dist/facility/owned-processes.js";
import { startBeamtime } from "../dist/facility/start-beamtime.js";
import { TcpProxy } from "../dist/facility/tcp-proxy.js";
import { topologyFor, WAIT_SECONDS } from "../dist/broker/topology.js";
import { Detector } from "./detector.mjs";
import { Worker } from "./worker.mjs";

const READY_SECONDS = 60;
const NAMES = topologyFor("mento", "default");
/** Where a message or a job's record can still be. */
export const QUEUES = [
  NAMES.intakeQueue,
  NAMES.jobsQueue,
  ...WAIT_SECONDS.map((one) => NAMES.waitQueue(one)),
];

/**
 * @typedef {import("../dist/facility/facility.js").FacilityDescription} Facility
 * @typedef {{ worker: Worker, broker: TcpProxy, ssh: TcpProxy }} Post a worker's place, with the wires that it has
 */

/** A facility with an open beamtime, workers and a detector, each on wires of its own. */
export class World {
  /** With the facility's directory, its logs, and those of the workers. */
  dir;
  /** Empty until the facility is up. @type {Facility} */
  facility = /** @type {any} */ (undefined);
  /** What the facility's own functions start and stop servers by. @type {import("../dist/facility/state.js").FacilityState} */
  state = /** @type {any} */ (undefined);
  /** @type {Post[]} */
  posts = [];
  /** @type {Detector} */
  detector = /** @type {any} */ (undefined);
  /** @type {TcpProxy} */
  detectorWire = /** @type {any} */ (undefined);
  #say;
  #corePath = "";

  /** @param {(step: string) => void} say */
  constructor(say) {
    // Not below TMPDIR: Slurm's sockets allow only a short path.
    this.dir = mkdtempSync("/tmp/chaos-");
    // The beamtime's account must be able to go through it.
    chmodSync(this.dir, 0o755);
    this.#say = say;
    mkdirSync(this.logs);
    mkdirSync(this.ledger);
    // Jobs write into it, under the beamtime's account.
    chmodSync(this.ledger, 0o1777);
  }

  get logs() {
    return join(this.dir, "chaos-logs");
  }

  get broker() {
    const { broker } = this.facility;
    if (broker === null) throw new Error("the facility has no broker");
    return broker;
  }

  get ledger() {
    return join(this.dir, "ledger");
  }

  /**
   * @param {number} workers
   * @param {AbortSignal} stop
   */
  async open(workers, stop) {
    this.facility = await up(this.dir, { hasBroker: true, mayInstall: true }, this.#say);
    this.state = runningFacility(this.dir);
    const beamtime = await startBeamtime(
      this.dir,
      { beamtimeId: "11010000", beamline: "p11" },
      { online: true, resources: "dedicated", nodes: "2" },
      () => undefined,
    );
    this.#corePath = beamtime.corePath;
    this.detectorWire = await TcpProxy.to(this.broker.port);
    this.detector = new Detector(this.#brokerUrl(this.detectorWire), stop);
    const script = this.#writeScript();
    for (let number = 1; number <= workers; number++) this.posts.push(await this.#makePost(number, script));
    for (const { worker } of this.posts) worker.start();
    for (const { worker } of this.posts) await worker.becomesReady(READY_SECONDS);
  }

  /**
   * The message about a file that is there: written long ago, of the size that the message says.
   *
   * @param {import("./schedule.mjs").PlannedMessage} planned
   * @returns {import("mento").DataReady}
   */
  messageOf({ id, technique, seconds }) {
    const path = join(this.#corePath, "raw", `${id}.dat`);
    writeFileSync(path, `${id}\n`);
    const before = Date.now() / 1000 - 3600;
    utimesSync(path, before, before);
    return { path, bytes: id.length + 1, technique, parameters: { seconds } };
  }

  /**
   * Of RabbitMQ's management, as an operator uses it.
   *
   * @param {"GET" | "DELETE"} method
   * @param {string} path
   */
  async management(method, path) {
    const { managementUrl, user, password } = this.broker;
    const authorization = `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;
    const signal = AbortSignal.timeout(5000);
    const response = await fetch(`${managementUrl}/api${path}`, {
      method,
      headers: { authorization },
      signal,
    });
    return method === "GET" ? await response.json() : undefined;
  }

  /** How many messages the queues hold, also those under way; as RabbitMQ counted them up to 5 s ago. */
  async inQueues() {
    const queues = /** @type {{ name: string, messages?: number }[]} */ (
      await this.management("GET", "/queues/%2F")
    );
    return queues
      .filter(({ name }) => QUEUES.includes(name))
      .reduce((sum, { messages = 0 }) => sum + messages, 0);
  }

  /** What neither a worker nor the library may do. */
  get mistakes() {
    return [...this.posts.flatMap(({ worker }) => worker.mistakes), ...new Set(this.detector?.mistakes)];
  }

  async stopWorkers() {
    await Promise.all(this.posts.map(({ worker }) => worker.stop()));
  }

  /** Ends everything; the directory stays. Gives the processes that are left all the same. */
  async close() {
    await this.stopWorkers();
    await this.detector?.close();
    for (const { broker, ssh } of this.posts) {
      await broker.close();
      await ssh.close();
    }
    await this.detectorWire?.close();
    if (this.facility === undefined) {
      // It came up in part, or not at all.
      await down(this.dir, { cancelsJobs: true }, this.#say).catch(() => undefined);
      return [];
    }
    await down(this.dir, { cancelsJobs: true }, this.#say);
    await sleep(200);
    const { servers, strays } = ownedProcesses(this.state);
    return [...servers, ...strays].map(({ pid }) => pid);
  }

  remove() {
    rmSync(this.dir, { recursive: true, force: true });
  }

  /** @param {TcpProxy} wire */
  #brokerUrl(wire) {
    const { user, password } = this.broker;
    return `amqp://${user}:${password}@127.0.0.1:${wire.port}`;
  }

  /**
   * @param {number} number
   * @param {string} script
   * @returns {Promise<Post>}
   */
  async #makePost(number, script) {
    const { roots, slurm, ssh } = this.facility;
    const wires = { broker: await TcpProxy.to(this.broker.port), ssh: await TcpProxy.to(ssh.port) };
    const nodes = slurm.nodes.map(({ name }) => name);
    const config = {
      broker: { url: this.#brokerUrl(wires.broker) },
      worker: { reconcileSeconds: 5 },
      site: roots,
      ssh: {
        hosts: Object.fromEntries(
          nodes.map((name) => [name, { address: "127.0.0.1", port: wires.ssh.port }]),
        ),
        hostKeys: Object.fromEntries(nodes.map((name) => [name, [ssh.hostKeyFingerprint]])),
      },
      triggers: [
        { name: "quick", on: { technique: "quick" }, run: [script, "0", "0"] },
        { name: "nap", on: { technique: "nap" }, run: [script, "{{ parameters.seconds }}", "0"] },
        { name: "wrong", on: { technique: "wrong" }, run: [script, "0", "3"] },
      ],
    };
    const configFile = join(this.dir, `worker-${number}.yaml`);
    writeFileSync(configFile, stringify(config), { mode: 0o600 });
    // Copies of keys that a killed worker leaves behind go with the directory.
    const runtime = join(this.dir, `runtime-${number}`);
    mkdirSync(runtime, { mode: 0o700 });
    const worker = new Worker(`worker ${number}`, {
      configFile,
      logFile: join(this.logs, `worker-${number}.log`),
      environment: { XDG_RUNTIME_DIR: runtime },
    });
    return { worker, ...wires };
  }

  /** What the jobs run: `program SECONDS EXIT-CODE`. */
  #writeScript() {
    const script = join(this.dir, "program.sh");
    const text = `#!/bin/sh
echo "$MENTO_JOB_ID $SLURM_JOB_ID $(date +%s.%N)" >> ${this.ledger}/"$MENTO_JOB_ID.$SLURM_JOB_ID"
sleep "$1"
exit "$2"
`;
    writeFileSync(script, text, { mode: 0o755 });
    chmodSync(script, 0o755);
    return script;
  }
}
