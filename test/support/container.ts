import { readdirSync, readlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import { GenericContainer } from "testcontainers";
import { ask } from "../../scripts/containers/run.mjs";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");
/** The process that a container was started for: once that has ended, nobody needs the container. */
const OWNER = "mento.test.owner";

class HostContainer extends GenericContainer {
  /** Programs in it have this machine's process ids, and are children of whoever starts them. */
  withHostProcesses(): this {
    this.hostConfig.PidMode = "host";
    return this;
  }
}

export interface RunningContainer {
  /** Of its first process. */
  pid: number;
  /** Ends whatever runs in it, too. */
  stop: () => Promise<void>;
}

/** An idle container with this machine's network, processes and temporary files, and the project at its place. */
export async function startContainer(image: string): Promise<RunningContainer> {
  removeLeftBehind();
  const own = (path: string) => ({ source: path, target: path });
  const container = await new HostContainer(image)
    .withHostProcesses()
    .withNetworkMode("host")
    .withBindMounts([...new Set([PROJECT, tmpdir(), "/tmp"])].map(own))
    .withLabels({ [OWNER]: String(process.pid) })
    .start();
  const pid = pidOf(container.getId());
  return {
    pid,
    stop: async () => {
      endAllIn(pid);
      await container.stop();
    },
  };
}

/** What runs that were killed have left. */
function removeLeftBehind(): void {
  const format = `{{.ID}} {{.Label "${OWNER}"}}`;
  const lines = ask("docker", ["ps", "--all", "--filter", `label=${OWNER}`, "--format", format]) ?? "";
  for (const [, id = "", owner] of lines.matchAll(/^(\S+) (\d+)$/gm)) {
    if (isAlive(Number(owner))) continue;
    const pid = pidOf(id);
    if (pid > 0) endAllIn(pid);
    ask("docker", ["rm", "--force", "--volumes", id]);
  }
}

function pidOf(container: string): number {
  return Number(ask("docker", ["inspect", "--format", "{{.State.Pid}}", container]));
}

/** Processes that were started in a container from outside are not ended with it. */
function endAllIn(first: number): void {
  const namespace = mountsOf(first);
  if (namespace === undefined || namespace === mountsOf(process.pid)) return;
  for (const pid of readdirSync("/proc").map(Number).filter(Number.isInteger)) {
    if (pid === first || mountsOf(pid) !== namespace) continue;
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It has ended meanwhile.
    }
  }
}

function mountsOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/mnt`);
  } catch {
    return undefined;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
