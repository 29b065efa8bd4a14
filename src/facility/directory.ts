import { chmodSync, existsSync, realpathSync } from "node:fs";
import { resolve } from "node:path";
import { errorText, Misconfigured, Unavailable } from "../errors.ts";
import { requireTraversable } from "./accounts.ts";
import { makeDirectory, placesOf } from "./state.ts";
import { wrongUsage } from "./wrong-usage.ts";

/**
 * The path of a Unix socket has at most 107 characters, and that of a job step on a node is
 * `/slurm/max-display001/max-display001_1234567.4294967291` longer than the directory.
 */
const LONGEST_PATH = 51;

/** Makes the facility's directory and what lies in it; gives its real path. */
export function prepareDirectory(directory: string): string {
  requireGoodPath(resolve(directory));
  try {
    makeDirectory(resolve(directory));
  } catch (error) {
    throw wrongUsage(
      `A facility cannot be in ${directory}: ${errorText(error)}.`,
      "Name a directory that is there or can be made, such as /tmp/facility.",
    );
  }
  const dir = realpathSync(directory);
  requireGoodPath(dir);
  if (process.getuid?.() === 0) {
    chmodSync(dir, 0o755);
    requireTraversable(dir);
  }
  const { log, sessions, mirror, gpfs, beamline, core } = placesOf(dir);
  for (const place of [log, sessions, mirror, gpfs, beamline, core]) makeDirectory(place);
  // Names of all files, also of closed folders.
  chmodSync(mirror, 0o700);
  return dir;
}

export function existingDirectory(directory: string): string {
  if (existsSync(placesOf(resolve(directory)).state)) return realpathSync(directory);
  throw noFacility(directory);
}

export function noFacility(directory: string): Unavailable {
  return new Unavailable({
    code: "facility-not-up",
    message: `There is no facility in ${directory}.`,
    hint: `Start one with: mento facility up --dir ${directory}`,
  });
}

/** The configuration files of Slurm, sshd and RabbitMQ each quote in another way: no character that needs it. */
function requireGoodPath(path: string): void {
  if (/^[\w./+-]+$/.test(path) && path.length <= LONGEST_PATH) return;
  throw new Misconfigured({
    code: "wrong-usage",
    message: `A facility cannot be in ${path}: its path is too long or has unusual characters.`,
    hint: `Take a path of at most ${LONGEST_PATH} letters, digits and ./_+- characters, such as /tmp/facility.`,
  });
}
