import { Command } from "commander";
import { openLog } from "../log.ts";
import { runWorker } from "../worker.ts";
import { CONFIG_OPTION, openConfig } from "./open-config.ts";

export function workerCommand(): Command {
  return new Command("worker")
    .description("take messages, submit jobs, watch them, announce their ends; until SIGTERM or Ctrl-C")
    .option(...CONFIG_OPTION)
    .action(async (options: { config?: string }) => {
      const config = openConfig(options.config);
      const stop = new AbortController();
      const onSignal = () => {
        // The second one does not wait: what is under way is delivered again to another worker.
        if (stop.signal.aborted) process.exit(1);
        stop.abort();
      };
      process.on("SIGTERM", onSignal);
      process.on("SIGINT", onSignal);
      await runWorker(config, openLog(config.worker.logLevel), stop.signal);
    });
}
