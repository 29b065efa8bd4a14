import { existsSync, linkSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { errorText, MentoError } from "../errors.ts";
import { isMissing } from "../files/plain-file.ts";
import { identify, isRunning, type ProcessIdentity, waitUntil } from "./processes.ts";
import { readText } from "./state.ts";
import { wrongUsage } from "./wrong-usage.ts";

/** Lets only one command at a time change the facility. A lock whose holder was killed counts for nothing. */
export async function withLock<T>(dir: string, work: () => T | Promise<T>): Promise<T> {
  const file = lockOf(dir);
  if (!(await waitUntil(() => tryLock(file), { seconds: 180 }))) {
    throw new MentoError({
      code: "facility-start-failed",
      message: `Another mento facility command has been at work in ${dir} for three minutes.`,
      hint: `Wait for it to end; ${file} says which process it is.`,
    });
  }
  try {
    return await work();
  } finally {
    rmSync(file, { force: true });
  }
}

/** Whether a command is changing the facility at this moment. */
export function isLocked(dir: string): boolean {
  const file = lockOf(dir);
  return existsSync(file) && isHeld(file);
}

function lockOf(dir: string): string {
  return join(dir, ".lock");
}

function tryLock(file: string): boolean {
  // Linked into place, so that nobody ever sees a lock that does not say yet whose it is.
  const mine = `${file}.${process.pid}`;
  writeFileSync(mine, JSON.stringify(identify(process.pid)));
  try {
    linkSync(mine, file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  } finally {
    rmSync(mine, { force: true });
  }
  if (!isHeld(file)) rmSync(file, { force: true });
  return false;
}

function isHeld(file: string): boolean {
  try {
    return isRunning(JSON.parse(readText(file)) as ProcessIdentity);
  } catch (error) {
    // It was released a moment ago.
    if (isMissing(error)) return true;
    throw wrongUsage(
      `${file} cannot be used: ${errorText(error)}.`,
      "Remove it, if no mento facility command is at work there.",
    );
  }
}
