import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { inject } from "vitest";
import { engineVersion } from "../../scripts/containers/engine.mjs";
import { buildFacility } from "../../scripts/containers/images.mjs";

/**
 * Where RabbitMQ, Slurm, munge and sshd are, with the beamtimes' accounts: on this machine; or in a container that has
 * its network, its processes, the project's directory and /tmp, by the container's first process and its Node.
 */
export type Servers = { kind: "debian" } | { kind: "container"; pid: number; node: string };

let servers: Servers | undefined;

/**
 * For the global setup, which tells the tests. MENTO_TEST_SERVERS says which: `containers` or `debian`; else this machine's
 * if MENTO_TEST_FACILITY names a facility here; else containers if a Docker engine answers and may be used, and Debian's
 * packages on this machine if not.
 */
export async function findServers(): Promise<{ servers: Servers; stop: () => void }> {
  const wanted = process.env["MENTO_TEST_SERVERS"];
  const isGiven = process.env["MENTO_TEST_FACILITY"] !== undefined;
  const areHere = wanted === "debian" || (wanted !== "containers" && (isGiven || !hasEngine()));
  if (areHere) return { servers: (servers = { kind: "debian" }), stop: () => undefined };
  const say = (step: string) => console.error(`test servers: ${step}`);
  const folder = mkdtempSync(join(tmpdir(), "mento-image-"));
  const image = process.env["MENTO_TEST_IMAGE"] ?? (await buildFacility(say, join(folder, "log")));
  rmSync(folder, { recursive: true, force: true });
  // Its reaper comes from a registry, which may be out of reach; container.ts removes what was left behind.
  process.env["TESTCONTAINERS_RYUK_DISABLED"] = "true";
  const { startContainer } = await import("./container.ts");
  const { pid, stop } = await startContainer(image);
  servers = { kind: "container", pid, node: "node" };
  // The Node of this run, if the container has it: one below the project or the temporary files.
  const look = ["-c", '[ -x "$0" ] && echo "$0" || command -v node', process.execPath];
  servers = { ...servers, node: execFileSync(...there("/bin/sh", look), { encoding: "utf8" }).trim() };
  return { servers, stop };
}

/** Root alone may start programs in a container from outside. */
function hasEngine(): boolean {
  return process.getuid?.() === 0 && engineVersion() !== undefined;
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
