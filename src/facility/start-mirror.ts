import { fileURLToPath } from "node:url";
import type { Say } from "./packages.ts";
import { endProcesses, isRunning } from "./processes.ts";
import { isServerRunning, startServer } from "./server.ts";
import { type FacilityState, readState } from "./state.ts";

/** The copy daemon, from the beamline's to the core file system. */
export async function startMirror(state: FacilityState, say: Say): Promise<void> {
  if (isServerRunning(state, "mirror")) return;
  say("starting the copy to the core file system …");
  // The compiled file next to this one.
  const program = fileURLToPath(new URL("mirror-daemon.js", import.meta.url));
  const args = [program, state.dir, String(state.syncDelaySeconds)];
  await startServer(state, { name: "mirror", program: process.execPath, args });
}

/** As it is on record now: another command may have started it anew. */
export function isMirrorRunning(dir: string): boolean {
  const state = readState(dir);
  return state !== undefined && isServerRunning(state, "mirror");
}

export async function stopMirror(state: FacilityState): Promise<void> {
  await endProcesses([state.processes["mirror"]].filter(isRunning), 5);
}
