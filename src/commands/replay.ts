import type { ConsumeMessage, MessageProperties } from "amqplib";
import { Command } from "commander";
import { HISTORY_MS, historySince, offsetAfter, offsetOf } from "../broker/history.ts";
import { topologyFor } from "../broker/topology.ts";
import { count } from "../doctor/words.ts";
import { wrongUsage } from "../facility/wrong-usage.ts";
import { bindingFits } from "../messages/binding-key.ts";
import { idOfNextRun, sentAgain } from "../messages/sent-again.ts";
import { isJobEnd, originOf } from "../messages/origin.ts";
import { receive } from "../messages/received.ts";
import type { BrokerClient } from "../broker/client.ts";
import type { CloudEvent } from "../messages/cloud-event.ts";
import { JobEventData, type JobState } from "../messages/job-event.ts";
import { eventIn } from "../trace/stories.ts";
import { jobIdFor } from "../triggers/plan.ts";
import type { Trigger } from "../triggers/trigger-config.ts";
import { fileOf } from "./event-line.ts";
import { CONFIG_OPTION, connectFromConfig, openConfig } from "./open-config.ts";
import { previewOf, requireTrigger } from "./replay-preview.ts";
import { localTime } from "../time/local.ts";
import { plainLine, printJson, printLine, sayLine } from "../text/terminal.ts";
import { callAgain, pacer, RATE_OPTION, sinceOption, timeOption } from "./option-values.ts";

interface ReplayOptions {
  config?: string;
  since: Date;
  until?: Date;
  trigger: string;
  again?: true;
  dryRun?: true;
  rate: number;
  json?: true;
}

export function replayCommand(): Command {
  return new Command("replay")

    .option(...CONFIG_OPTION)
    .requiredOption("--since <time>", "90s, 30m, 2h, 3d ago, or 2026-11-21T20:15:00Z", (text) =>
      sinceOption(text),
    )
    .option("--until <time>", "default: now", (text) => timeOption(text))
    .requiredOption("--trigger <trigger>", "which trigger; only messages that its `on` wants")
    .option("--again", "under a new id: also what has run already runs again")
    .option("--dry-run", "send nothing; say what would be sent")
    .option(...RATE_OPTION)
    .option("--json", "one JSON object a line")
    .action(replay);
}

/** What became of one message of the history; with `--json`, a line. */
interface Outcome {
  id: string;
  outcome: "sent" | "would-send";
  sentAs: string | null;
  time: string | null;
  trigger: string;
  paths: string[];
  /** How its job has ended, if it has run already. */
  ranBefore: JobState | null;
}

async function replay(options: ReplayOptions): Promise<void> {
  const { since, until, again, dryRun, json, rate } = options;
  const now = new Date();
  if (until !== undefined && until <= since)
    throw wrongUsage("--until is not after --since.", "Name a later time.");
  const config = openConfig(options.config);
  const trigger = requireTrigger(options.trigger, config.triggers);
  const { intakeQueue, dataExchange } = topologyFor(config.broker.prefix, config.worker.group);
  const pace = pacer(rate);
  const sieve = new Sieve({ since, until, trigger, keys: config.worker.keys, dataExchange });

  const client = await connectFromConfig(config, "replay");
  let haveRun = 0;
  try {
    const ended = await endedJobs(client);
    if (until !== undefined) sieve.end = await offsetAfter(client, until);
    for await (const message of historySince(client, since)) {
      const taken = sieve.take(message);
      if (taken === undefined) continue;
      const received = receive(message);
      const ranBefore = ended.get(jobIdFor(taken.event, config.worker.group, trigger.name)) ?? null;
      if (ranBefore !== null) haveRun += 1;
      const { cause, paths } = originOf(received.body, received.properties);
      const sentAs = again === true ? idOfNextRun(cause.id, now) : null;
      if (dryRun !== true) {
        await pace();
        const ours = {
          "mento-trigger": trigger.name,
          "mento-exchange": message.fields.exchange,
          "mento-routing-key": message.fields.routingKey,
        };
        const outgoing = sentAgain(received, ours, sentAs ?? undefined);
        await client.publisher.publish({ exchange: "", routingKey: intakeQueue, ...outgoing });
      }
      const outcome: Outcome = {
        ...{ id: cause.id, outcome: dryRun === true ? "would-send" : "sent", sentAs },
        ...{ time: taken.time, trigger: trigger.name, paths, ranBefore },
      };
      if (json === true) printJson(outcome);
      else printLine(outcomeLine(outcome));
    }
  } catch (error) {
    throw callAgain(
      error,
      again === true
        ? "Go on with --since and the time of the last line: what is sent again gets yet another id."
        : "Run the command again: what was sent already has kept its id, and does not run twice.",
    );
  } finally {
    await client.close();
  }
  const verb = dryRun === true ? "would go" : "sent";
  const [have, run, not] = haveRun === 1 ? ["has", "runs", "does not run"] : ["have", "run", "do not run"];
  const ran =
    haveRun === 0
      ? "none has run already"
      : `${haveRun} ${have} run already, and ${again === true ? run : not} again`;
  sayLine(
    `${count(sieve.taken, "message")} ${verb} to ${intakeQueue} for ${trigger.name}: ${ran}${sieve.leftOut}`,
  );
}

/** The jobs that have ended, and how, by their ids: a message of today may have been published before. */
async function endedJobs(client: BrokerClient): Promise<Map<string, JobState>> {
  const ended = new Map<string, JobState>();
  const all = historySince(client, new Date(Date.now() - HISTORY_MS));
  for await (const { fields, properties, content } of all) {
    const type: unknown = properties.type;
    if (fields.exchange !== client.topology.eventsExchange || typeof type !== "string") continue;
    if (!isJobEnd(type)) continue;
    const { data } = JobEventData.safeParse(eventIn(content)?.data);
    if (data !== undefined) ended.set(data.job.id, data.job.state);
  }
  return ended;
}

function outcomeLine({ id, outcome, sentAs, time, paths, ranBefore }: Outcome): string {
  const when = localTime(time ?? "");
  const as = sentAs === null ? "" : ` as ${plainLine(sentAs, 150)}`;
  const ran = ranBefore === null ? "" : `; has run already: ${ranBefore}`;
  const what = (outcome === "sent" ? "sent" : "would be sent") + as + ran;
  return `${when}  ${plainLine(id, 100)}  ${plainLine(fileOf(paths))}  ${what}`;
}

interface Wanted {
  since: Date;
  until: Date | undefined;
  trigger: Trigger;
  /** Those that the group's intake queue is bound with: other groups' messages are in the history too. */
  keys: readonly string[];
  dataExchange: string;
}

/** Which messages of the history are meant, and how many are not. */
class Sieve {
  readonly #wanted: Wanted;
  readonly #leftOut = { unwanted: 0, unreadable: 0, elsewhen: 0 };
  /** The place in the history of the first message that the broker wrote after `until`. */
  end = Infinity;
  taken = 0;

  constructor(wanted: Wanted) {
    this.#wanted = wanted;
  }

  /** The message with the time that it tells, if it is to be sent. */
  take(message: ConsumeMessage): { time: string | null; event: CloudEvent } | undefined {
    const { fields, content, properties } = message;
    const { trigger, keys, dataExchange } = this.#wanted;
    const isTheirs =
      fields.exchange === dataExchange && keys.some((key) => bindingFits(key, fields.routingKey));
    if (!isTheirs) return undefined;
    const { input, error, triggers } = previewOf(content, properties, [trigger]);
    const time = input?.event.time;
    const told = time === undefined ? amqpTime(properties) : new Date(time);
    const why = error !== null ? "unreadable" : triggers.length === 0 ? "unwanted" : undefined;
    if (input !== undefined && why === undefined && this.#isOfTheTime(told, offsetOf(message))) {
      this.taken += 1;
      return { time: told?.toISOString() ?? null, event: input.event };
    }
    this.#leftOut[why ?? "elsewhen"] += 1;
    return undefined;
  }

  /**
   * By the message's own time, in whole seconds as AMQP has it; one that tells none, by when the broker took it: after
   * `since`, or it would not have been sent here.
   */
  #isOfTheTime(told: Date | undefined, offset: number): boolean {
    const { since, until } = this.#wanted;
    const second = (time: Date) => Math.floor(time.getTime() / 1000);
    if (told === undefined) return offset < this.end;
    return second(told) >= second(since) && (until === undefined || second(told) <= second(until));
  }

  /** `; left out: 3 that it does not want, 1 that cannot be read`, or nothing. */
  get leftOut(): string {
    const { unwanted, unreadable, elsewhen } = this.#leftOut;
    const kinds: [number, string][] = [
      [unwanted, "that it does not want"],
      [unreadable, "that cannot be read"],
      [elsewhen, "of another time"],
    ];
    const texts = kinds.flatMap(([number, what]) => (number === 0 ? [] : [`${number} ${what}`]));
    return texts.length === 0 ? "" : `; left out: ${texts.join(", ")}`;
  }
}

/** AMQP's, in seconds. Many producers send milliseconds: those are for the year 50,000, and tell nothing here. */
function amqpTime({ timestamp }: MessageProperties): Date | undefined {
  const isTime = typeof timestamp === "number" && timestamp > 0 && timestamp < Date.UTC(2200, 0) / 1000;
  return isTime ? new Date(timestamp * 1000) : undefined;
}
