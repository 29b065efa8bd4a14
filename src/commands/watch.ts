import { setTimeout as sleep } from "node:timers/promises";
import { Command } from "commander";
import { subscribe } from "../broker/client.ts";
import { Unavailable } from "../errors.ts";
import { eventLine } from "./event-line.ts";
import { CONFIG_OPTION, connectFromConfig, openConfig } from "./open-config.ts";

interface WatchOptions {
  config?: string;
  json?: true;
  beamline?: string;
  session?: string;
  type?: string[];
}

export function watchCommand(): Command {
  return new Command("watch")
    .description("print events as they happen, one line each, until Ctrl-C")
    .option(...CONFIG_OPTION)
    .option("--json", "one JSON object a line, as sent")
    .option("--beamline <name>", "only of this beamline")
    .option("--session <id>", "only of this beamtime or commissioning run")
    .option("--type <type...>", "only of these types: job.completed, job.*, message.*")
    .action(watch);
}

async function watch(options: WatchOptions): Promise<void> {
  const config = openConfig(options.config);
  const filter = { beamline: options.beamline, session: options.session, types: options.type };
  let client = await connectFromConfig(config, "watch");
  for (;;) {
    try {
      const { events } = await subscribe(client, filter);
      console.error(`watching ${client.topology.eventsExchange}; Ctrl-C ends`);
      for await (const event of events) {
        console.log(options.json === true ? JSON.stringify(event) : eventLine(event));
      }
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
      console.error(`${error.message} Connecting again; events of meanwhile are not shown.`);
    } finally {
      await client.close();
    }
    client = await connectAgain();
  }

  async function connectAgain() {
    for (;;) {
      await sleep(2000);
      try {
        return await connectFromConfig(config, "watch");
      } catch (error) {
        if (!(error instanceof Unavailable)) throw error;
      }
    }
  }
}
