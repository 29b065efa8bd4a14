import { existsSync } from "node:fs";
import { Command } from "commander";
import { configFile, readConfig, type MentoConfig, type ReadConfig } from "../config/config.ts";
import { editedConfig } from "../config/edited-config.ts";
import { errorText, MentoError } from "../errors.ts";
import { logLines, openLog, type LogLine } from "../log.ts";
import { runWorker } from "../worker/worker.ts";
import { CONFIG_OPTION } from "./open-config.ts";
import { signalStatus } from "./signal-status.ts";

export function workerCommand(): Command {
  return new Command("worker")

    .option(...CONFIG_OPTION)
    .option(
      "--watch",
      "take over the configuration when it is edited; a broken one is refused, and the old one stays",
    )
    .action(async (options: { config?: string; watch?: boolean }) => {
      const file = configFile(options.config, process.env, existsSync);
      const stop = new AbortController();
      const onSignal = (signal: NodeJS.Signals) => {
        // The second one does not wait: what is under way is delivered again to another worker.
        if (stop.signal.aborted) process.exit(signalStatus(signal));
        stop.abort();
      };
      process.on("SIGTERM", onSignal);
      process.on("SIGINT", onSignal);
      const lines = await logLines();
      const first = readConfig(file, process.env);
      const { config, warning } = first;
      if (warning !== null) openLog(config.worker.logLevel, lines).warn(warning);
      // A bug's stack is for who mends it: the command itself ends in words, see reportError.
      process.on("uncaughtExceptionMonitor", (error) => logBug(config, error, lines));
      try {
        if (options.watch === true) await runWatching(file, first, stop.signal, lines);
        else await runWorker(config, openLog(config.worker.logLevel, lines), stop.signal);
      } catch (error) {
        logBug(config, error, lines);
        throw error;
      }
    });
}

function logBug({ worker }: MentoConfig, error: unknown, lines: LogLine): void {
  if (!(error instanceof MentoError)) openLog(worker.logLevel, lines).fatal({ err: error }, errorText(error));
}

/** An edited configuration that fails so soon does not work at all. */
const FIRST_MINUTE_MS = 60_000;

/**
 * One worker after the other, each with what the file says then: the next begins when the one before has finished. If it
 * cannot, the one before is taken again.
 */
async function runWatching(
  file: string,
  first: ReadConfig,
  stop: AbortSignal,
  lines: LogLine,
): Promise<void> {
  let { config, text } = first;
  let before: MentoConfig | undefined;
  while (!stop.aborted) {
    const log = openLog(config.worker.logLevel, lines);
    const over = new AbortController();
    const either = AbortSignal.any([stop, over.signal]);
    const since = Date.now();
    const edited = editedConfig(file, text, process.env, log, either);
    const working = runWorker(config, log, either).catch((error: unknown) => ({ error }));
    await Promise.race([working, edited]);
    over.abort();
    const [next, failed] = await Promise.all([edited, working]);
    // The text of one that does not work is not taken twice.
    text = next?.text ?? text;
    if (failed !== undefined) {
      if (before === undefined || Date.now() - since > FIRST_MINUTE_MS) throw failed.error;
      log.error(
        { err: failed.error },
        `The edited configuration does not work, and the one before is taken again: ${errorText(failed.error)}`,
      );
      [config, before] = [next?.config ?? before, undefined];
    } else if (next !== undefined) {
      log.info({ triggers: next.config.triggers.length }, "the edited configuration is taken over");
      [config, before] = [next.config, config];
    }
  }
}
