import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { RABBITMQ_SERVER, type Say } from "./packages.ts";
import { secondsSince } from "./processes.ts";
import { isServerRunning, startOnFreePorts, startServer, waitForServers } from "./server.ts";
import { type FacilityState, makeDirectory, writeFileAtomically } from "./state.ts";

export const RABBITMQ_PORTS = 4;
const USER = "mento";
const NODE_NAME = "mento@localhost";

export function describeBroker(state: FacilityState) {
  const [port = 0, managementPort = 0] = state.ports.rabbitmq;
  return {
    url: `amqp://${USER}:${state.rabbitmqPassword}@127.0.0.1:${port}`,
    managementUrl: `http://127.0.0.1:${managementPort}`,
    host: "127.0.0.1",
    port,
    managementPort,
    user: USER,
    password: state.rabbitmqPassword,
    vhost: "/",
    nodeName: NODE_NAME,
  };
}

/** A RabbitMQ node with management, and an epmd of its own, so that no other facility depends on ours. */
export async function startRabbitmq(state: FacilityState, say: Say): Promise<void> {
  if (isServerRunning(state, "epmd") && isServerRunning(state, "rabbitmq")) return;
  const started = performance.now();
  say("starting RabbitMQ …");
  if (isServerRunning(state, "rabbitmq")) {
    // A node that lost its epmd is invisible to Erlang's tools only; it registers again with the new one.
    await startEpmd(state, state.ports.rabbitmq);
    return;
  }
  await startOnFreePorts(state, { part: "rabbitmq", servers: ["rabbitmq", "epmd"] }, say, async (ports) => {
    await startEpmd(state, ports);
    await startNode(state, ports);
  });
  say(`RabbitMQ is ready after ${secondsSince(started)} s`);
}

async function startEpmd(state: FacilityState, ports: readonly number[]): Promise<void> {
  const args = ["-port", String(ports[3]), "-address", "127.0.0.1"];
  await startServer(state, { name: "epmd", program: "epmd", args });
}

async function startNode(state: FacilityState, ports: readonly number[]): Promise<void> {
  const home = join(state.dir, "rabbitmq");
  makeDirectory(home);
  // It has all messages and events.
  chmodSync(home, 0o700);
  const [port, managementPort, distributionPort, epmdPort] = ports;
  const configuration = [
    `listeners.tcp.1 = 127.0.0.1:${port}`,
    "management.tcp.ip = 127.0.0.1",
    `management.tcp.port = ${managementPort}`,
    `default_user = ${USER}`,
    `default_pass = ${state.rabbitmqPassword}`,
    // Else RabbitMQ blocks every publisher on a disk with little room.
    "disk_free_limit.absolute = 50MB",
  ];
  writeFileAtomically(join(home, "rabbitmq.conf"), `${configuration.join("\n")}\n`, 0o600);
  writeFileSync(join(home, "enabled_plugins"), "[rabbitmq_management].\n");

  await startServer(state, {
    name: "rabbitmq",
    program: RABBITMQ_SERVER,
    args: [],
    env: {
      HOME: home,
      RABBITMQ_NODENAME: NODE_NAME,
      RABBITMQ_NODE_PORT: String(port),
      RABBITMQ_DIST_PORT: String(distributionPort),
      RABBITMQ_MNESIA_BASE: join(home, "mnesia"),
      RABBITMQ_LOG_BASE: join(home, "log"),
      RABBITMQ_LOGS: "-",
      RABBITMQ_PID_FILE: join(home, "pid"),
      RABBITMQ_ENABLED_PLUGINS_FILE: join(home, "enabled_plugins"),
      RABBITMQ_CONFIG_FILE: join(home, "rabbitmq.conf"),
      // None of the machine's own configuration in /etc/rabbitmq.
      RABBITMQ_CONFIG_FILES: join(home, "conf.d"),
      RABBITMQ_CONF_ENV_FILE: join(home, "rabbitmq-env.conf"),
      // An idle broker must not spin, as Erlang does by itself: Slurm and the jobs run beside it.
      RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS:
        "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none",
      ERL_EPMD_PORT: String(epmdPort),
      ERL_EPMD_ADDRESS: "127.0.0.1",
      // The start script then becomes the server instead of waiting for it, so that its pid is the server's.
      RUNNING_UNDER_SYSTEMD: "true",
    },
  });
  await waitForServers(state, ["rabbitmq"], 90, () => answers(state));
}

/** The management answers some time before the node takes clients, so its own list of listeners counts. */
async function answers(state: FacilityState): Promise<boolean> {
  const { managementUrl, user, password, port } = describeBroker(state);
  const authorization = `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;
  try {
    const signal = AbortSignal.timeout(5000);
    const response = await fetch(`${managementUrl}/api/overview`, { headers: { authorization }, signal });
    const overview = (await response.json()) as { listeners?: { protocol: string; port: number }[] };
    return overview.listeners?.some((each) => each.protocol === "amqp" && each.port === port) === true;
  } catch {
    return false;
  }
}
