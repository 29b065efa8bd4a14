import { Command, InvalidArgumentError } from "commander";
import { subscribe } from "../broker/subscribe.ts";
import { EVENT_TYPE_FORMS, isEventType } from "../messages/event-filter.ts";
import { printJson, printLine, sayLine } from "../text/terminal.ts";
import { eventLine } from "./event-line.ts";
import { CONFIG_OPTION, connectFromConfig, openConfig, tellFailures } from "./open-config.ts";
import { sinceOption } from "./option-values.ts";

interface WatchOptions {
  config?: string;
  json?: true;
  since?: Date;
  beamline?: string;
  session?: string;
  type?: string[];
  trigger?: string;
}

export function watchCommand(): Command {
  return new Command("watch")

    .option(...CONFIG_OPTION)
    .option("--json", "one JSON object a line, as sent")
    .option(
      "--since <time>",
      "first those since then: 90s, 30m, 2h, 3d ago, or 2026-11-21T20:15:00Z",
      (text) => sinceOption(text),
    )
    .option("--beamline <name>", "only of this beamline")
    .option("--session <id>", "only of this beamtime or commissioning run")
    .option("--type <type...>", `only of these types: ${EVENT_TYPE_FORMS}`, typeOption)
    .option("--trigger <trigger>", "only of jobs of this trigger")
    .action(watch);
}

async function watch({ config: file, json, type, ...wanted }: WatchOptions): Promise<void> {
  const config = openConfig(file);
  const client = await connectFromConfig(config, "watch");
  try {
    const { events } = await subscribe(client, {
      ...wanted,
      types: type,
      wait: true,
      onFailure: tellFailures(),
    });
    sayLine(`watching ${client.topology.eventsExchange}; Ctrl-C ends`);
    for await (const event of events) {
      if (json === true) printJson(event);
      else printLine(eventLine(event));
    }
  } finally {
    await client.close();
  }
}

function typeOption(type: string, others: string[] | undefined): string[] {
  if (isEventType(type)) return [...(others ?? []), type];
  throw new InvalidArgumentError(`It looks like ${EVENT_TYPE_FORMS}.`);
}
