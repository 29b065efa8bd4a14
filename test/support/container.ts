import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import { GenericContainer } from "testcontainers";
import { ask } from "../../scripts/containers/run.mjs";
import { atEnd, endAtOnce } from "./run-folder.ts";

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
  stop: () => void;
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
  const id = container.getId();
  const pid = pidOf(id);
  const remove = () => {
    endAllIn(pid);
    ask("docker", ["rm", "--force", "--volumes", id]);
  };
  // A run that is stopped half-way ends without a word to anybody.
  atEnd(remove);
  return { pid, stop: remove };
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

/** Of its first process; 0: it does not run. An engine on another machine names a process that is nobody's here. */
function pidOf(container: string): number {
  const pid = Number(ask("docker", ["inspect", "--format", "{{.State.Pid}}", container]));
  const program = `/proc/${pid}/cmdline`;
  if (pid === 0 || (existsSync(program) && readFileSync(program, "utf8").includes("sleep\0infinity")))
    return pid;
  throw new Error(
    "The Docker engine is not on this machine: set MENTO_TEST_SERVERS=debian, and the tests use the servers here.",
  );
}

/** Processes that were started in a container from outside are not ended with it. */
function endAllIn(first: number): void {
  const namespace = mountsOf(first);
  if (namespace === undefined || namespace === mountsOf(process.pid)) return;
  for (const pid of readdirSync("/proc").map(Number).filter(Number.isInteger)) {
    if (pid !== first && mountsOf(pid) === namespace) endAtOnce(pid);
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
