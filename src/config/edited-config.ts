import { setTimeout as sleep } from "node:timers/promises";
import { CONFIG_FILE, configFrom, type ReadConfig } from "./config.ts";
import { MentoError, errorText } from "../errors.ts";
import type { Log } from "../log.ts";
import { readPlainFile, textOf } from "../files/plain-file.ts";

/** The file is read so often: network file systems tell nobody of a change. */
const LOOK_EVERY_MS = 1_000;

/**
 * Waits until a configuration file says something else than it did, and is whole and right; undefined if it is to stop
 * meanwhile. What is wrong with it is logged, once for each edit.
 *
 * @param known the text that was taken last: an edit may have been saved before this is called
 */
export async function editedConfig(
  file: string,
  known: string,
  environment: NodeJS.ProcessEnv,
  log: Log,
  stop: AbortSignal,
): Promise<ReadConfig | undefined> {
  let taken = known;
  let before: string | undefined = known;
  for (;;) {
    await sleep(LOOK_EVERY_MS, undefined, { signal: stop }).catch(() => undefined);
    if (stop.aborted) return undefined;
    const text = await textIn(file);
    // An editor may be about to write the rest: it must have been the same twice.
    const isSettled = text === before;
    before = text;
    if (!isSettled || text === taken || text === undefined) continue;
    taken = text;
    try {
      return { config: configFrom(text, file, environment), text, warning: null };
    } catch (error) {
      const { code, hint } = error instanceof MentoError ? error : {};
      log.error(
        code === undefined ? { err: error } : { code, hint },
        `The edited configuration is not taken: ${errorText(error)}`,
      );
    }
  }
}

/** undefined while it is not there: some editors remove it first. */
async function textIn(file: string): Promise<string | undefined> {
  return readPlainFile(file, CONFIG_FILE).then(
    ({ bytes }) => textOf(bytes),
    () => undefined,
  );
}
