import { spawn, type ChildProcess } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RABBITMQ_SERVER } from "../../src/facility/packages.ts";
import { chooseFreePorts } from "../../src/facility/ports.ts";
import { eventually } from "./eventually.ts";
import { there } from "./servers.ts";

const NODES = [0, 1, 2] as const;
type Node = (typeof NODES)[number];
const USER = "mento";
const PASSWORD = "mento";

/** Three nodes of RabbitMQ on this machine as one cluster, with an epmd of their own. */
export class RabbitmqCluster {
  readonly #dir = mkdtempSync(join(tmpdir(), "mento-cluster-"));
  readonly #ports: number[];
  readonly #servers = new Map<Node | "epmd", ChildProcess>();

  private constructor(ports: number[]) {
    this.#ports = ports;
  }

  static async start(): Promise<RabbitmqCluster> {
    const cluster = new RabbitmqCluster(await chooseFreePorts(1 + 3 * NODES.length, new Set()));
    const epmd = spawn(...there("epmd", ["-port", String(cluster.#port("epmd")), "-address", "127.0.0.1"]));
    cluster.#servers.set("epmd", epmd);
    for (const node of NODES) cluster.startNode(node);
    await cluster.isWhole();
    return cluster;
  }

  /** Resolves when all nodes are in it, and take clients. */
  async isWhole(): Promise<void> {
    await eventually(
      "the nodes have formed a cluster",
      async () => {
        const overview = (await this.#ask("/overview")) as { listeners: { protocol: string }[] } | undefined;
        const amqp = overview?.listeners.filter(({ protocol }) => protocol === "amqp");
        return amqp?.length === NODES.length ? true : undefined;
      },
      150_000,
    );
  }

  urlOf(node: Node): string {
    return `amqp://${USER}:${PASSWORD}@127.0.0.1:${this.#port(node)}`;
  }

  startNode(node: Node): void {
    const home = join(this.#dir, String(node));
    mkdirSync(home, { recursive: true });
    const lines = [
      `listeners.tcp.1 = 127.0.0.1:${this.#port(node)}`,
      "management.tcp.ip = 127.0.0.1",
      `management.tcp.port = ${this.#port(node, 1)}`,
      `default_user = ${USER}`,
      `default_pass = ${PASSWORD}`,
      "disk_free_limit.absolute = 50MB",
      "cluster_formation.peer_discovery_backend = classic_config",
      ...NODES.map((one) => `cluster_formation.classic_config.nodes.${one + 1} = ${nameOf(one)}`),
    ];
    writeFileSync(join(home, "rabbitmq.conf"), `${lines.join("\n")}\n`);
    writeFileSync(join(home, "enabled_plugins"), "[rabbitmq_management].\n");
    writeFileSync(join(home, ".erlang.cookie"), "MENTOCLUSTER", { mode: 0o600 });
    const env = {
      PATH: process.env["PATH"],
      HOME: home,
      RABBITMQ_NODENAME: nameOf(node),
      RABBITMQ_DIST_PORT: String(this.#port(node, 2)),
      RABBITMQ_MNESIA_BASE: join(home, "mnesia"),
      RABBITMQ_LOG_BASE: join(home, "log"),
      RABBITMQ_PID_FILE: join(home, "pid"),
      RABBITMQ_ENABLED_PLUGINS_FILE: join(home, "enabled_plugins"),
      RABBITMQ_CONFIG_FILE: join(home, "rabbitmq.conf"),
      RABBITMQ_CONFIG_FILES: join(home, "conf.d"),
      RABBITMQ_CONF_ENV_FILE: join(home, "rabbitmq-env.conf"),
      RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: "-kernel inet_dist_use_interface {127,0,0,1}",
      ERL_EPMD_PORT: String(this.#port("epmd")),
      ERL_EPMD_ADDRESS: "127.0.0.1",
      // The start script then becomes the server.
      RUNNING_UNDER_SYSTEMD: "true",
    };
    this.#servers.set(node, spawn(...there(RABBITMQ_SERVER, []), { env, stdio: "ignore" }));
  }

  /** Ends a node as a power cut would. */
  async killNode(node: Node): Promise<void> {
    await kill(this.#servers.get(node));
  }

  /** The node that leads a queue or stream. */
  async leaderOf(queue: string): Promise<Node | undefined> {
    const found = (await this.#ask(`/queues/%2F/${encodeURIComponent(queue)}`)) as {
      leader?: string;
      node?: string;
    };
    return NODES.find((node) => nameOf(node) === (found.leader ?? found.node));
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#servers.values()].map(kill));
    rmSync(this.#dir, { recursive: true, force: true });
  }

  #port(node: Node | "epmd", which = 0): number {
    return this.#ports[node === "epmd" ? 0 : 1 + 3 * node + which] ?? 0;
  }

  /** What the first node that answers says. */
  async #ask(path: string): Promise<unknown> {
    const authorization = `Basic ${Buffer.from(`${USER}:${PASSWORD}`).toString("base64")}`;
    for (const node of NODES) {
      try {
        const signal = AbortSignal.timeout(5_000);
        const url = `http://127.0.0.1:${this.#port(node, 1)}/api${path}`;
        const response = await fetch(url, { headers: { authorization }, signal });
        if (response.ok) return await response.json();
      } catch {
        continue;
      }
    }
    return undefined;
  }
}

function nameOf(node: Node): string {
  return `mento${node + 1}@localhost`;
}

async function kill(server: ChildProcess | undefined): Promise<void> {
  if (server === undefined || server.exitCode !== null || server.signalCode !== null) return;
  const ended = new Promise((resolve) => server.once("exit", resolve));
  server.kill("SIGKILL");
  await ended;
}
