import { Command, InvalidArgumentError } from "commander";
import { Sessions } from "../beamtime/session.ts";
import { subscribe } from "../broker/subscribe.ts";
import { EVENT_TYPE_FORMS, isEventType } from "../messages/event-filter.ts";
import { plainLine, printJson, printLine, sayLine } from "../text/terminal.ts";
import { eventLine } from "./event-line.ts";
import { wrongUsage } from "../facility/wrong-usage.ts";
import type { MentoConfig } from "../config/config.ts";
import { CONFIG_OPTION, connectFromConfig, openConfig, tellFailures } from "./open-config.ts";
import { sinceOption, timeOption } from "./option-values.ts";

interface WatchOptions {
  config?: string;
  json?: true;
  since?: Date;
  until?: Date;
  follow: boolean;
  path?: string;
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
    .option("--until <time>", "end then; in the same forms", (text) => timeOption(text))
    .option("--no-follow", "end with the last event so far")
    .option("--beamline <name>", "only of this beamline")
    .option("--session <id>", "only of this beamtime or commissioning run")
    .option("--type <type...>", `only of these types: ${EVENT_TYPE_FORMS}`, typeOption)
    .option("--trigger <trigger>", "only of jobs of this trigger")
    .option("--path <part>", "only about data whose path has this part")
    .action(watch);
}

async function watch(options: WatchOptions): Promise<void> {
  const { config: file, json, type, follow, ...wanted } = options;
  const { since, until = follow ? undefined : new Date() } = options;
  if (!follow && (since === undefined || options.until !== undefined))
    throw wrongUsage(
      "--no-follow prints the past: from --since until now.",
      "Say --since 2h; leave --until out.",
    );
  if (until !== undefined && until <= (since ?? new Date()))
    throw wrongUsage(
      `--until is not after ${since === undefined ? "now, where --since begins if it is not given" : "--since"}.`,
      "Name a later time, or --since.",
    );
  const config = openConfig(file);
  await sayUnknown(wanted, config);
  const client = await connectFromConfig(config, "watch");
  try {
    const { events } = await subscribe(client, {
      ...wanted,
      types: type,
      until,
      wait: true,
      onFailure: tellFailures(),
    });
    if (until === undefined) sayLine(`watching ${client.topology.eventsExchange}; Ctrl-C ends`);
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

/** Others' triggers and sessions are watched as well: nothing is refused, but a mistyped name would be silent for ever. */
async function sayUnknown(
  { trigger, session, beamline }: Pick<WatchOptions, "trigger" | "session" | "beamline">,
  { triggers, site }: MentoConfig,
): Promise<void> {
  const say = (what: string, known: readonly string[]) =>
    sayLine(
      `mento: ${plainLine(what, 100)} is not known here (${plainLine(known.join(", ") || "none is")}): watching all the same.`,
    );
  const names = triggers.map(({ name }) => name);
  if (trigger !== undefined && !names.includes(trigger)) say(`trigger ${trigger}`, names);
  if (session === undefined && beamline === undefined) return;
  const sessions = new Sessions(site, () => undefined);
  const { open } = await sessions.open();
  const found =
    session === undefined ||
    (await sessions.find(session).then(
      () => true,
      () => false,
    ));
  if (!found)
    say(
      `session ${session}`,
      open.map(({ id }) => id),
    );
  const beamlines = open.map((one) => one.beamline);
  if (beamline !== undefined && !beamlines.includes(beamline)) say(`beamline ${beamline}`, beamlines);
}
