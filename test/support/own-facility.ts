import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inject } from "vitest";
import { eventually } from "./eventually.ts";
import { fakeTime } from "./fake-time.ts";
import type { TestBeamtime, TestFacility } from "./shared-facility.ts";
import { mento, run } from "./mento.ts";
import { there } from "./servers.ts";

const RABBITMQCTL = "/usr/lib/rabbitmq/bin/rabbitmqctl";

interface Wanted {
  /** Its own can be hurt. The shared one spares the machine a RabbitMQ. */
  broker?: "own" | "shared";
  /** Of the beamtime's reservation; default: all of the beamline's. */
  nodes?: number;
}

/** A facility with an open beamtime that nobody else uses: its servers can be hurt. */
export class OwnFacility {
  readonly facility: TestFacility;
  readonly beamtime: TestBeamtime;
  readonly #clocks: (() => Promise<void>)[] = [];

  private constructor(facility: TestFacility, beamtime: TestBeamtime) {
    this.facility = facility;
    this.beamtime = beamtime;
  }

  static async start({ broker = "shared", nodes }: Wanted = {}): Promise<OwnFacility> {
    const dir = mkdtempSync(join(tmpdir(), "mento-own-"));
    chmodSync(dir, 0o755);
    const isShared = broker === "shared";
    const up = await mento("facility", "up", "--dir", dir, "--json", ...(isShared ? ["--no-broker"] : []));
    const facility = JSON.parse(up.stdout) as TestFacility;
    if (isShared) facility.broker = inject("facility").broker;
    const open = ["--beamtimeId", "11010099", "--beamline", "p11", "--online", "--resources", "dedicated"];
    if (nodes !== undefined) open.push("--nodes", String(nodes));
    const started = await mento("facility", "start-beamtime", "--dir", dir, ...open, "--json");
    return new OwnFacility(facility, JSON.parse(started.stdout) as TestBeamtime);
  }

  async tearDown(): Promise<void> {
    // One that still starts would write into folders that are gone, and leave a dump.
    await Promise.all(this.#clocks.map((end) => end()));
    await mento("facility", "down", "--dir", this.facility.dir);
    rmSync(this.facility.dir, { recursive: true, force: true });
  }

  /** Operates the broker: `rabbitmqctl …`. */
  async rabbitmqctl(...args: string[]): Promise<string> {
    const env = {
      HOME: join(this.facility.dir, "rabbitmq"),
      RABBITMQ_NODENAME: this.facility.broker.nodeName,
      ERL_EPMD_PORT: String(this.#state().ports.rabbitmq[3]),
    };
    const { code, stdout, stderr } = await run(RABBITMQCTL, args, { env, cwd: this.facility.dir });
    if (code !== 0) throw new Error(`rabbitmqctl ${args.join(" ")}: ${stderr}${stdout}`);
    return stdout;
  }

  /** Ends RabbitMQ's server with a signal. */
  async endBroker(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    const pid = this.pidOf("rabbitmq");
    process.kill(pid, signal);
    await eventually("RabbitMQ has ended", () => {
      const state = statOf(pid);
      return state === undefined || state === "Z" ? true : undefined;
    });
  }

  async startBroker(): Promise<void> {
    await this.startMissing();
  }

  /** Starts every server that has ended. */
  async startMissing(): Promise<void> {
    await mento("facility", "up", "--dir", this.facility.dir);
  }

  /** Starts a server again, as it was, whose clock is `+10m` ahead, or `-10m` behind. */
  async setClock(server: string, offset: string): Promise<void> {
    const pid = this.pidOf(server);
    const [program = "", ...args] = wordsOf(pid, "cmdline");
    const env: NodeJS.ProcessEnv = fakeTime(offset);
    for (const one of wordsOf(pid, "environ"))
      env[one.slice(0, one.indexOf("="))] ??= one.slice(one.indexOf("=") + 1);
    const cwd = readlinkSync(`/proc/${pid}/cwd`);
    process.kill(pid, "SIGTERM");
    await eventually(`${server} has ended`, () => {
      const state = statOf(pid);
      return state === undefined || state === "Z" ? true : undefined;
    });
    const child = spawn(...there(program, args, { cwd }), { env, stdio: "ignore" });
    await once(child, "spawn");
    const ended = once(child, "exit");
    this.#clocks.push(async () => {
      child.kill();
      await ended;
    });
  }

  /** The process of a server, such as `slurmctld`, as it was started last. */
  pidOf(server: string): number {
    const pid = this.#state().processes[server]?.pid;
    if (pid === undefined) throw new Error(`the facility has no ${server}`);
    return pid;
  }

  /** RabbitMQ's management, as an operator uses it; what it says on a queue, for example. */
  async management(method: "GET" | "DELETE", path: string): Promise<unknown> {
    const { managementUrl, user, password } = this.facility.broker;
    const authorization = `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;
    const response = await fetch(`${managementUrl}/api${path}`, { method, headers: { authorization } });
    return method === "GET" && response.ok ? response.json() : undefined;
  }

  #state() {
    return JSON.parse(readFileSync(join(this.facility.dir, "facility.json"), "utf8")) as {
      ports: { rabbitmq: number[] };
      processes: Partial<Record<string, { pid: number }>>;
    };
  }
}

/** The words of a process's command or environment. */
function wordsOf(pid: number, file: "cmdline" | "environ"): string[] {
  return readFileSync(`/proc/${pid}/${file}`, "utf8").split("\0").slice(0, -1);
}

/** `S`, `R`, `Z` …; undefined if there is no such process. */
function statOf(pid: number): string | undefined {
  try {
    return /\) (\S)/.exec(readFileSync(`/proc/${pid}/stat`, "utf8"))?.[1];
  } catch {
    return undefined;
  }
}
