import { randomUUID } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { expect, inject } from "vitest";
import { stringify } from "yaml";
import { connectBroker, type BrokerClient } from "../../src/broker/client.ts";
import type { CloudEvent } from "../../src/messages/cloud-event.ts";
import type { JobEventData, MessageEventData } from "../../src/messages/job-event.ts";
import { eventually } from "./eventually.ts";
import type { TestBeamtime, TestFacility } from "./shared-facility.ts";
import { hearEvents } from "./hear-events.ts";
import { MAIN, run } from "./mento.ts";
import { nodeThere, there } from "./servers.ts";

export { eventually };

export const facility = inject("facility");
export const beamtime = inject("beamtime");

/** A facility with its open beamtime. */
export interface FacilityBeamtime {
  facility: TestFacility;
  beamtime: TestBeamtime;
}

const shared: FacilityBeamtime = { facility, beamtime };

export type AnyEvent = CloudEvent & {
  data: JobEventData & MessageEventData & { slurm: { jobId: string } };
};

/** A file of the detector on the beamline file system, under a name of its own. */
export function writeData(content = "data\n", name = `scan_${randomUUID().slice(0, 8)}.dat`) {
  const folder = join(facility.roots.gpfs, "current/raw");
  mkdirSync(folder, { recursive: true });
  const path = join(folder, name);
  writeFileSync(path, content);
  return { path, corePath: join(beamtime.corePath, "raw", name), bytes: Buffer.byteLength(content) };
}

/** A file that is on the core file system already: a message about it never waits. */
export function writeOnCore(
  content = "data\n",
  place = shared,
  path = join(place.beamtime.corePath, "raw", `scan_${randomUUID().slice(0, 8)}.dat`),
): string {
  writeFileSync(path, content);
  const before = Date.now() / 1000 - 60;
  utimesSync(path, before, before);
  return path;
}

/** A corner of the facility for one test file: names of its own on the broker, a configuration, workers, events. */
export class TestSite {
  readonly prefix: string;
  readonly folder = mkdtempSync(join(tmpdir(), "mento-site-"));
  readonly configFile = join(this.folder, "mento.yaml");
  readonly events: AnyEvent[] = [];
  readonly workers: TestWorker[] = [];
  readonly #place: FacilityBeamtime;
  #client: BrokerClient | undefined;

  constructor(
    triggers: object[],
    overrides: Record<string, object> = {},
    place = shared,
    prefix = `t${randomUUID().slice(0, 8)}`,
  ) {
    this.#place = place;
    this.prefix = prefix;
    const { broker, roots, slurm, ssh } = place.facility;
    const { address, port, knownHosts } = ssh;
    const config = {
      broker: {
        ...{ url: broker.url, managementUrl: broker.managementUrl, prefix: this.prefix },
        ...overrides["broker"],
      },
      worker: { reconcileSeconds: 2, ...overrides["worker"] },
      site: { ...roots, ...overrides["site"] },
      ssh: {
        knownHosts: [knownHosts],
        hosts: Object.fromEntries(slurm.nodes.map(({ name }) => [name, { address, port }])),
        ...overrides["ssh"],
      },
      ...(overrides["slurmRest"] && { slurmRest: overrides["slurmRest"] }),
      triggers,
    };
    writeFileSync(this.configFile, stringify(config));
  }

  /** A client of this site's names; the first call begins to hear all events. Needs a worker to have run. */
  async client(): Promise<BrokerClient> {
    if (this.#client === undefined) {
      this.#client = await connectBroker({ url: this.#place.facility.broker.url, prefix: this.prefix });
      await hearEvents(this.#client, this.events);
    }
    return this.#client;
  }

  async startWorker(as: WorkerAccount = {}): Promise<TestWorker> {
    const worker = new TestWorker(this.configFile, as);
    this.workers.push(worker);
    await worker.ready();
    await this.client();
    return worker;
  }

  /** The event of this type (`job.completed`) that a message caused. */
  event(type: string, causeId: string, milliseconds?: number): Promise<AnyEvent> {
    const find = () =>
      this.events.find((one) => one.type === `mento.${type}.v1` && one.data.cause.id === causeId);
    return eventually(() => `${type} of ${causeId}; ${this.#seen(causeId)}`, find, milliseconds);
  }

  /** The same of one trigger's job, where the message has led to several. */
  eventOf(type: string, causeId: string, trigger: string): Promise<AnyEvent> {
    const find = () =>
      this.eventsOf(causeId).find(
        (one) => one.type === `mento.${type}.v1` && one.data.job.trigger === trigger,
      );
    return eventually(() => `${type} of ${trigger} for ${causeId}; ${this.#seen(causeId)}`, find);
  }

  eventsOf(causeId: string): AnyEvent[] {
    return this.events.filter((one) => one.data.cause.id === causeId);
  }

  jobEventsOf(causeId: string): AnyEvent[] {
    return this.eventsOf(causeId).filter(({ type }) => type.startsWith("mento.job."));
  }

  /** The message's job completes; Slurm has had it once, and it has ended once. */
  async completesOnce(causeId: string): Promise<void> {
    const { data } = await this.event("job.completed", causeId);
    const env = { SLURM_CONF: this.#place.facility.slurm.conf };
    const { stdout } = await run("squeue", ["--noheader", "--states=all", "--format=%k"], { env });
    const jobs = stdout.split("\n").filter((comment) => comment.trim() === `mento:${data.job.id}`);
    const ends = this.jobEventsOf(causeId).filter(({ type }) => !/submitted|started/.test(type));
    expect({ jobs: jobs.length, ends: new Set(ends.map(({ id }) => id)).size }).toEqual({ jobs: 1, ends: 1 });
  }

  /** No message waits. */
  async isQuiet(): Promise<true | undefined> {
    const { link } = await this.client();
    const channel = await link.consuming.createChannel();
    const { messageCount } = await channel.checkQueue(`${this.prefix}.default.intake`);
    await channel.close();
    return messageCount === 0 ? true : undefined;
  }

  #seen(causeId: string): string {
    const types = this.eventsOf(causeId).map(({ type }) => type);
    const jobs = this.jobEventsOf(causeId).map(({ data }) => data.slurm.jobId);
    const logs = this.workers.map(({ log }) => log.slice(-5000));
    return `seen: ${types.join(", ")}; in Slurm: ${this.#inSlurm(jobs)}; the workers' logs end:\n${logs.join("\n\n")}`;
  }

  #inSlurm(jobs: readonly (string | null)[]): string {
    const ids = [...new Set(jobs.filter((id) => id !== null))];
    if (ids.length === 0) return "none";
    const env = { ...process.env, SLURM_CONF: this.#place.facility.slurm.conf };
    const options = ["--noheader", "--states=all", `--jobs=${ids.join()}`, "--format=%A %T %r %N"];
    const { stdout, stderr } = spawnSync(...there("squeue", options), {
      env,
      encoding: "utf8",
      timeout: 10_000,
    });
    return `${stdout}${stderr}`.trim();
  }

  async tearDown(): Promise<void> {
    await Promise.all(this.workers.map((worker) => worker.stop()));
    await this.#client?.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Whom a worker runs as. */
export interface WorkerAccount {
  env?: NodeJS.ProcessEnv;
  /** Its name; default: this process's own. */
  account?: string;
  /** Options of the command. */
  args?: string[];
}

/** The compiled worker, as a process of its own. */
export class TestWorker {
  readonly process: ChildProcess;
  log = "";
  readonly ended: Promise<number | null>;

  constructor(configFile: string, { env = {}, args = [], account }: WorkerAccount = {}) {
    const command = there(nodeThere(), [MAIN, "worker", "-c", configFile, ...args], { account });
    this.process = spawn(...command, { stdio: "pipe", env: { ...process.env, ...env } });
    const take = (chunk: Buffer) => (this.log += chunk.toString("utf8"));
    this.process.stdout?.on("data", take);
    this.process.stderr?.on("data", take);
    this.ended = new Promise((resolve) => this.process.on("exit", resolve));
  }

  async ready(): Promise<void> {
    await Promise.race([
      eventually(`the worker is ready`, () => (this.log.includes('"msg":"ready"') ? true : undefined)),
      this.ended.then((code) => {
        throw new Error(`the worker ended with ${code ?? "a signal"}:\n${this.log}`);
      }),
    ]);
  }

  async stop(): Promise<number | null> {
    this.process.kill("SIGTERM");
    return this.ended;
  }
}
