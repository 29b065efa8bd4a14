import { readFileSync } from "node:fs";
import { join } from "node:path";
import { MentoError } from "../errors.ts";
import type { Say } from "./packages.ts";
import { areSoonFree, chooseFreePorts } from "./ports.ts";
import { endProcesses, isRunning, startDetached, waitUntil } from "./processes.ts";
import { type FacilityState, type Part, placesOf, writeState } from "./state.ts";

/** One server process of the facility. */
export interface Server {
  name: string;
  program: string;
  args: readonly string[];
  env?: Record<string, string>;
}

export function isServerRunning(state: FacilityState, name: string): boolean {
  return isRunning(state.processes[name]);
}

/** Starts a server and puts it on record at once: whatever happens next, `down` finds it. */
export async function startServer(state: FacilityState, server: Server): Promise<void> {
  const logFile = logOf(state, server.name);
  try {
    state.processes[server.name] = await startDetached({ ...server, logFile });
  } catch (cause) {
    throw startFailed(state, server.name, cause);
  }
  writeState(state);
}

/** Waits until a part is ready; throws `facility-start-failed` as soon as one of its servers ended, or when it takes too long. */
export async function waitForServers(
  state: FacilityState,
  names: readonly string[],
  seconds: number,
  isReady: () => boolean | Promise<boolean>,
): Promise<void> {
  const ended = () => names.find((name) => !isServerRunning(state, name));
  const ready = await waitUntil(isReady, { seconds, giveUp: () => ended() !== undefined });
  // Even if something is ready: somebody else's server may have answered on a port that ours could not have.
  const failed = ended() ?? (ready ? undefined : names[0]);
  if (failed !== undefined) throw startFailed(state, failed);
}

interface PortsOfPart {
  part: Part;
  /** The servers that bind these ports. What is left of them is ended first. */
  servers: readonly string[];
}

/**
 * Starts a part on the ports it had the last time. When it fails and one of its ports turns out to be somebody
 * else's, it is started again on others: between choosing a port and binding it, anybody may take it.
 */
export async function startOnFreePorts(
  state: FacilityState,
  { part, servers }: PortsOfPart,
  say: Say,
  start: (ports: readonly number[]) => Promise<void>,
): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    await endServers(state, servers);
    if (!(await areSoonFree(state.ports[part]))) await renewPorts(state, part);
    try {
      await start(state.ports[part]);
      return;
    } catch (error) {
      await endServers(state, servers);
      if (attempt === 3 || (await areSoonFree(state.ports[part]))) throw error;
      say(`a port of ${part} is taken, trying others …`);
    }
  }
}

async function endServers(state: FacilityState, names: readonly string[]): Promise<void> {
  await endProcesses(names.map((name) => state.processes[name]).filter(isRunning), 5);
}

/** Those that others were told to go to stay. */
async function renewPorts(state: FacilityState, part: Part): Promise<void> {
  const { sshPort, restPort } = state.serving ?? {};
  const present = state.ports[part];
  const taken = new Set(Object.values(state.ports).flat());
  const others = await chooseFreePorts(present.length, taken);
  const isFixed = (port: number) => port === sshPort || port === restPort;
  state.ports[part] = present.map((port, place) => (isFixed(port) ? port : (others[place] ?? port)));
  const fixed = present.filter(isFixed);
  if (!(await areSoonFree(fixed))) throw portTaken(fixed);
  writeState(state);
}

function portTaken(ports: readonly number[]): MentoError {
  return new MentoError({
    code: "facility-start-failed",
    message: `Another program listens on port ${ports.join(" or ")}, which this facility was made with.`,
    hint: "End that program, or make a facility with another --ssh-port or --rest-port.",
  });
}

export function logOf(state: FacilityState, name: string): string {
  return join(placesOf(state.dir).log, `${name}.log`);
}

function startFailed(state: FacilityState, name: string, cause?: unknown): MentoError {
  const log = logOf(state, name);
  const what = isServerRunning(state, name) ? "is not ready in time" : "ended instead of starting";
  return new MentoError({
    code: "facility-start-failed",
    message: `${name} ${what}. The last lines of ${log}:\n${lastLines(log, 12)}`,
    hint: `End the parts that did start with: mento facility down --dir ${state.dir}`,
    cause,
  });
}

function lastLines(file: string, count: number): string {
  try {
    return readFileSync(file, "utf8").trimEnd().split("\n").slice(-count).join("\n");
  } catch {
    return "(there is none)";
  }
}
