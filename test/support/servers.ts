import { execFileSync, spawnSync } from "node:child_process";
import { userInfo } from "node:os";
import { fileURLToPath } from "node:url";
import { inject } from "vitest";

/**
 * Where RabbitMQ, Slurm, munge and sshd are, with the beamtimes' accounts: on this machine; or in a container that has
 * its network, its processes, the project's directory and /tmp, by the container's first process and its Node.
 */
export type Servers = { kind: "debian" } | { kind: "container"; pid: number; node: string };

let servers: Servers | undefined;

/** For the global setup, which tells the tests: the container whose first process MENTO_TEST_CONTAINER_PID is, else this machine. */
export function findServers(): Servers {
  const pid = process.env["MENTO_TEST_CONTAINER_PID"];
  if (pid === undefined) return (servers = { kind: "debian" });
  servers = { kind: "container", pid: Number(pid), node: "node" };
  const seen = 'test -d "/proc/$0" && test -f "$1" && command -v node';
  const files = ["-c", seen, String(process.pid), fileURLToPath(import.meta.url)];
  const { stdout, stderr, status } = spawnSync(...there("/bin/sh", files), { encoding: "utf8" });
  if (status !== 0) {
    throw new Error(
      `The container must have Node, and this machine's processes, /tmp and project: ${stderr}`,
    );
  }
  return (servers = { ...servers, node: stdout.trim() });
}

function known(): Servers {
  return (servers ??= inject("servers") ?? { kind: "debian" });
}

interface As {
  /** The name of a Unix account there. */
  account?: string | undefined;
  cwd?: string | undefined;
}

/**
 * The command to spawn for a program that is to run where the servers are. Its process is a child like any other, with
 * the pid, the environment, the pipes and the signals that it is given here.
 */
export function there(
  program: string,
  args: readonly string[],
  { account, cwd = process.cwd() }: As = {},
): [string, string[]] {
  const isOther = account !== undefined && account !== userInfo().username;
  const become = isOther ? ["setpriv", `--reuid=${account}`, `--regid=${account}`, "--clear-groups"] : [];
  const where = known();
  const enter =
    where.kind === "container"
      ? ["/usr/bin/nsenter", `--target=${where.pid}`, "--mount", "--", "/usr/bin/env", `--chdir=${cwd}`]
      : [];
  const [first = "", ...rest] = [...enter, ...become, program, ...args];
  return [first, rest];
}

/** Node as it is called there. */
export function nodeThere(): string {
  const where = known();
  return where.kind === "container" ? where.node : process.execPath;
}

/** Asks a facility's Slurm: what one of its programs prints. */
export function askSlurm({ slurm }: { slurm: { conf: string } }, program: string, ...args: string[]): string {
  const env = { ...process.env, SLURM_CONF: slurm.conf };
  return execFileSync(...there(program, args), { encoding: "utf8", env });
}
