import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { loadConfig, type MentoConfig } from "./config.ts";
import { MentoError } from "./errors.ts";
import type { Log } from "./log.ts";

/** The file is read so often: network file systems tell nobody of a change. */
const LOOK_EVERY_MS = 1_000;

/**
 * Waits until a configuration file has been edited, and is whole and right; undefined if it is to stop meanwhile. What is
 * wrong with it is logged, once for each edit.
 */
export async function editedConfig(
  file: string,
  environment: NodeJS.ProcessEnv,
  log: Log,
  stop: AbortSignal,
): Promise<MentoConfig | undefined> {
  let taken = await textOf(file);
  let before = taken;
  for (;;) {
    await sleep(LOOK_EVERY_MS, undefined, { signal: stop }).catch(() => undefined);
    if (stop.aborted) return undefined;
    const text = await textOf(file);
    // An editor may be about to write the rest: it must have been the same twice.
    const isSettled = text === before;
    before = text;
    if (!isSettled || text === taken || text === undefined) continue;
    taken = text;
    try {
      return loadConfig(file, environment);
    } catch (error) {
      if (!(error instanceof MentoError)) throw error;
      log.error(
        { code: error.code, hint: error.hint },
        `The edited configuration is not taken: ${error.message}`,
      );
    }
  }
}

/** undefined while it is not there: some editors remove it first. */
async function textOf(file: string): Promise<string | undefined> {
  return readFile(file, "utf8").catch(() => undefined);
}
