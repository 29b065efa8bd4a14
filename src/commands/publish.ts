import { Command, InvalidArgumentError } from "commander";
import { dataReadyEvent, publishDataReady, type BrokerClient } from "../broker/client.ts";
import { subscribe, type Subscription } from "../broker/subscribe.ts";
import { readIntake } from "../broker/topology.ts";
import type { MentoConfig } from "../config/config.ts";
import { count } from "../doctor/words.ts";
import { errorText, Misconfigured } from "../errors.ts";
import { cut } from "../text/cut.ts";
import type { CloudEvent } from "../messages/cloud-event.ts";
import type { DataReady } from "../messages/data-ready.ts";
import { parseJson, type JsonValue } from "../messages/json.ts";
import { readTriggerInput } from "../messages/trigger-input.ts";
import { printJson, printLine, sayLine } from "../text/terminal.ts";
import { matchTriggers } from "../triggers/match.ts";
import { eventLine } from "./event-line.ts";
import { MessageEnds } from "./message-ends.ts";
import { textOf } from "../files/plain-file.ts";
import { CONFIG_OPTION, connectFromConfig, openConfig, tellFailures } from "./open-config.ts";
import { readInput } from "./read-input.ts";

interface PublishOptions {
  config?: string;
  path: string[];
  beamtimeId?: string;
  beamline?: string;
  bytes?: number[];
  detector?: string;
  technique?: string;
  scan?: string;
  sample?: string;
  parameters?: Record<string, JsonValue>;
  id?: string;
  source?: string;
  wait?: true;
  timeout: number;
  json?: true;
}

/** After the last known job has ended, so long another group's job may still be announced. */
const SETTLE_MS = 1_500;

export function publishCommand(): Command {
  const collect = (value: string, all: string[] | undefined) => [...(all ?? []), value];
  const collectBytes = (value: string, all: number[] | undefined) => [...(all ?? []), wholeNumber(value)];
  const dataReady = new Command("data-ready")
    .description("say that data is ready; prints the message's id once the broker has it")
    .option(...CONFIG_OPTION)
    .requiredOption("--path <path>", "a file, as seen at the beamline or on core; may be repeated", collect)
    .option("--beamtimeId <id>", "default: the beamtime that is open at the beamline")
    .option("--beamline <name>", "default: that of the session")
    .option("--bytes <n>", "the file's size, one for each --path", collectBytes)
    .option("--detector <name>")
    .option("--technique <name>")
    .option("--scan <name>")
    .option("--sample <name>")
    .option("--parameters <json>", "a JSON object, or @FILE", parameters)
    .option("--id <id>", "the message's id; the same id is the same message")
    .option("--source <source>", "who sends; default: /<host name>")
    .option(
      "--wait",
      "follow it until the jobs of the configuration's triggers have ended, and all that others announce; exit 0 if all completed, else 1",
    )
    .option("--timeout <seconds>", "how long --wait waits", seconds, 3600)
    .option("--json", "one JSON object a line")
    .action(publish);
  return new Command("publish").addCommand(dataReady);
}

async function publish(options: PublishOptions): Promise<void> {
  const config = openConfig(options.config);
  const data = dataOf(options);
  // A mistake in it is said without the broker.
  dataReadyEvent(data);
  const client = await connectFromConfig(config, "publish");
  try {
    // Before publishing, so that no event is missed.
    const subscription =
      options.wait === true ? await subscribe(client, { onFailure: tellFailures() }) : undefined;
    const { id, source, json } = options;
    const event = await publishDataReady(client, data, {
      ...(id === undefined ? {} : { id }),
      ...(source === undefined ? {} : { source }),
    });
    if (json === true) printJson(event);
    else printLine(event.id);
    if (config.triggers.length > 0) await sayWhatIsMissing(event, config, client);
    if (subscription !== undefined) {
      const allCompleted = await follow(subscription, new MessageEnds(event, config), options);
      if (!allCompleted) process.exitCode = 1;
    }
  } finally {
    await client.close();
  }
}

/** Why triggers do not want the message, of so many. */
const MOST_REASONS = 5;

/** Of the triggers and workers of this configuration's group: another group may want it. */
async function sayWhatIsMissing(
  event: CloudEvent,
  { triggers, worker }: MentoConfig,
  { link, topology }: BrokerClient,
): Promise<void> {
  const { matched, unmatched } = matchTriggers(readTriggerInput(event), triggers);
  if (matched.length === 0) {
    const why = unmatched.slice(0, MOST_REASONS).map(({ trigger, reason }) => `${trigger}: ${reason}`);
    const left = unmatched.length - why.length;
    const more = left > 0 ? `; and ${left} more (mento trace ${event.id})` : "";
    sayLine(`mento: no trigger of this configuration wants it: ${why.join("; ")}${more}.`);
    return;
  }
  // The message is with the broker: a look that fails changes nothing of that.
  const intake = await readIntake(link, topology).catch(() => ({ waiting: 0, consumers: 1 }));
  if (intake !== undefined && intake.consumers > 0) return;
  const waiting = intake === undefined ? "" : ` (${count(intake.waiting, "message")} waiting)`;
  sayLine(`mento: no worker of group ${worker.group} takes it now${waiting}. Start one: mento worker.`);
}

/** Prints what happens to the message until its jobs have ended. True if all of them completed. */
async function follow(
  subscription: Subscription,
  ends: MessageEnds,
  { json, timeout }: PublishOptions,
): Promise<boolean> {
  const timeoutAt = Date.now() + timeout * 1000;
  let timer = setTimeout(() => void subscription.close(), timeout * 1000);
  for await (const event of subscription.events) {
    if (!ends.take(event)) continue;
    if (json === true) printJson(event);
    else printLine(eventLine(event));
    clearTimeout(timer);
    timer = setTimeout(() => void subscription.close(), ends.areAll ? SETTLE_MS : timeoutAt - Date.now());
  }
  clearTimeout(timer);
  if (!ends.areAll) {
    const of = ends.missing.length === 0 ? "" : ` of ${ends.missing.join(", ")}`;
    sayLine(`mento: no end${of} after ${timeout} s; the message and its jobs go on without this command.`);
  }
  return ends.areAll && ends.isGood;
}

function dataOf(options: PublishOptions): DataReady {
  const { path, beamtimeId, beamline, bytes, detector, technique, scan, sample, parameters } = options;
  const [first = ""] = path;
  const given = {
    path: path.length === 1 ? first : path,
    beamtimeId,
    beamline,
    bytes: bytes?.length === 1 ? bytes[0] : bytes,
    detector,
    technique,
    scan,
    sample,
    parameters,
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as DataReady;
}

function wholeNumber(text: string): number {
  if (/^\d+$/.test(text)) return Number(text);
  throw new InvalidArgumentError("It must be a whole number of bytes.");
}

function seconds(text: string): number {
  const value = Number(text);
  if (value > 0 && value < 1e6) return value;
  throw new InvalidArgumentError("It must be a number of seconds.");
}

function parameters(text: string): Record<string, JsonValue> {
  const json = text.startsWith("@") ? textOf(readInput(text.slice(1))) : text;
  let why = "it is not a JSON object";
  let cause: unknown;
  try {
    const value = parseJson(json);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
      return { ...(value as Record<string, JsonValue>) };
    }
  } catch (error) {
    why = cut(errorText(error), 200);
    cause = error;
  }
  throw new Misconfigured({
    code: "wrong-usage",
    message: `--parameters cannot be used: ${why}.`,
    hint: "Give one JSON object, or @FILE with one.",
    cause,
  });
}
