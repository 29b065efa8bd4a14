import { Command } from "commander";
import { announcedEnds, bodyHash } from "../broker/announced.ts";
import type { BrokerClient } from "../broker/client.ts";
import { DeadLetters } from "../broker/dead-letters.ts";
import { topologyFor } from "../broker/topology.ts";
import type { MentoConfig } from "../config/config.ts";
import { count } from "../doctor/words.ts";
import { MentoError, type ErrorCode } from "../errors.ts";
import { wrongUsage } from "../facility/wrong-usage.ts";
import { isUnprovenEnd, samenessOf, withPlace, type DeadLetter } from "../messages/dead-letter.ts";
import { outputTaken, plainJson, printJson, printLine, printText, sayLine } from "../text/terminal.ts";
import { chooseDeadLetters } from "./choose-dead-letters.ts";
import {
  deadFilterOf,
  groupOf,
  isFiltered,
  withFilterOptions,
  type DeadFilter,
  type FilterOptions,
} from "./dead-filter.ts";
import { deadLetterJson, deadLetterLine, deadLetterText, summaryJson } from "./dead-letter-text.ts";
import { kindLine, kindsOf } from "./dead-summary.ts";
import { CONFIG_OPTION, connectFromConfig, openConfig } from "./open-config.ts";
import { requireTrigger } from "./replay-preview.ts";
import { callAgain, pacer, RATE_OPTION } from "./option-values.ts";
import { planReplay, replayLine, type Outcome } from "./replay-letter.ts";

interface Options extends FilterOptions {
  config?: string;
  json?: true;
}

interface ReplayOptions extends Options {
  toTrigger?: string;
  dryRun?: true;
  again?: true;
  rate: number;
}

export function deadCommand(): Command {
  const list = withFilterOptions(new Command("list"))
    .description(
      "one line for each dead letter: its id, when a worker first had it, whose, its file, why it is here",
    )
    .option(...CONFIG_OPTION)
    .option("--json", "one JSON object a line")
    .action(listDeadLetters);
  const summary = withFilterOptions(new Command("summary"))
    .description("how many of each error code and trigger, when the newest came, and its file")
    .option(...CONFIG_OPTION)
    .option("--json", "one JSON object a line")
    .action(summarizeDeadLetters);
  const show = new Command("show")
    .description("everything of one dead letter: why, what to do, where from, headers, body")
    .argument("<id>", "its id, or the beginning of it that no other has")
    .option(...CONFIG_OPTION)
    .option("--json", "one JSON object a line")
    .action(showDeadLetter);
  const replay = withFilterOptions(new Command("replay"))
    .description("send dead letters back to the queue they came from; what has run already is not run again")
    .argument("[id...]", "only these; default: all of the group that are there now")
    .option(...CONFIG_OPTION)
    .option("--to-trigger <trigger>", "run this trigger alone, whatever its `on` says")
    .option("--again", "under a new id: also what has run already runs again")
    .option("--dry-run", "send nothing; say what the workers of this configuration would do")
    .option(...RATE_OPTION)
    .option("--json", "one JSON object a line")
    .action(replayDeadLetters);
  const drop = withFilterOptions(new Command("drop"))
    .description("remove dead letters for good; prints what it removes, with --json all of it")
    .argument("[id...]")
    .option(...CONFIG_OPTION)
    .option("--all", "all of the group that are there now, or that the other options say")
    .option("--json", "one JSON object a line")
    .action(dropDeadLetters);
  const command = new Command("dead");
  for (const one of [list, summary, show, replay, drop]) command.addCommand(one);
  return command;
}

async function listDeadLetters(options: Options): Promise<void> {
  const { found, others, queue, filter } = await findDeadLetters(options, (one, prefix) =>
    options.json === true ? plainJson(summaryJson(one, prefix)) : deadLetterLine(one, prefix),
  );
  for (const line of found) printText(line);
  sayLine(`${tally(found.length, queue, filter)}${ofOthers(others)}`);
}

/**
 * What is kept of each that fits. All are back on the queue then: a reader that stops listening, or that is slow, does not
 * keep them.
 */
async function findDeadLetters<T>(options: Options, keep: (deadLetter: DeadLetter, prefix: string) => T) {
  const config = openConfig(options.config);
  const { prefix } = config.broker;
  const filter = deadFilterOf(options, config);
  return withDeadLetters(config, async ({ deadLetters, client }) => {
    const found: T[] = [];
    let others = 0;
    for await (const deadLetter of deadLetters.read()) {
      if (filter.fits(deadLetter)) found.push(keep(deadLetter, prefix));
      else if (!filter.isOfGroup(deadLetter)) others += 1;
    }
    const { deadQueue: queue } = client.topology;
    return { found, others, queue, filter };
  });
}

async function summarizeDeadLetters(options: Options): Promise<void> {
  const { found, others, queue, filter } = await findDeadLetters(options, (one, prefix) => ({
    group: groupOf(one, prefix),
    code: one.error.code,
    trigger: one.trigger,
    firstSeen: one.firstSeen,
    path: one.paths[0] ?? null,
  }));
  for (const kind of kindsOf(found)) {
    if (options.json === true) printJson(kind);
    else printText(kindLine(kind));
  }
  sayLine(`${tally(found.length, queue, filter)}${ofOthers(others)}`);
}

function tally(number: number, queue: string, filter: DeadFilter): string {
  return number === 0
    ? noDeadLetters(queue, filter)
    : `${count(number, "dead letter")} of ${filter.words} on ${queue}`;
}

function ofOthers(number: number): string {
  return number === 0 ? "" : `; ${number} of other groups: --all-groups`;
}

async function showDeadLetter(id: string, options: Options): Promise<void> {
  const config = openConfig(options.config);
  const chosen = await withDeadLetters(config, ({ deadLetters, client }) =>
    chooseDeadLetters(deadLetters, [id], client.topology.deadQueue),
  );
  for (const deadLetter of chosen) {
    if (options.json === true) printJson(deadLetterJson(deadLetter, config.broker.prefix));
    else printText(deadLetterText(deadLetter));
  }
}

async function replayDeadLetters(ids: string[], options: ReplayOptions): Promise<void> {
  const config = openConfig(options.config);
  const { toTrigger } = options;
  if (toTrigger !== undefined) requireTrigger(toTrigger, config.triggers);
  const isDryRun = options.dryRun === true;
  const filter = filterFor(ids, options, config);
  const held: string[] = [];
  // A dry run prints when the letters are back on their queue.
  const say = (line: string) => {
    if (isDryRun) held.push(line);
    else printText(line);
  };
  const sender = new Sender(() => connectFromConfig(config, "dead replay"));
  if (filter !== undefined && !isDryRun) sayLine(`replaying the dead letters of ${filter.words}`);
  const replaying = withDeadLetters(config, async ({ deadLetters, client }) => {
    const replayer = new Replayer({ deadLetters, client, sender }, config, options);
    const outcomes: Outcome["outcome"][] = [];
    const queue = client.topology.deadQueue;
    const onlyPresent = !isDryRun;
    const chosen =
      ids.length === 0 ? deadLetters.read({ onlyPresent }) : await chooseDeadLetters(deadLetters, ids, queue);
    let others = 0;
    for await (const deadLetter of chosen) {
      if (filter?.isOfGroup(deadLetter) === false) others += 1;
      if (filter?.fits(deadLetter) === false) continue;
      const outcome = await replayer.replay(deadLetter);
      outcomes.push(outcome.outcome);
      say(options.json === true ? plainJson(outcome) : replayLine(outcome));
    }
    return { outcomes, queue, others };
  });
  const { outcomes, queue, others } = await replaying.finally(() => sender.close());
  for (const line of held) printText(line);
  sayLine(`${tallyOf(outcomes, queue, filter)}${ofOthers(others)}`);
  if (outcomes.includes("would-send")) {
    sayLine(
      "This is what the messages alone tell; the session, its data and Slurm are for the worker to look at.",
    );
  }
  if (outcomes.includes("left")) process.exitCode = 1;
}

/** Its queue is gone, or full, or it cannot be sent: that is this letter's trouble, not that of all. */
const STAYS: ReadonlySet<string> = new Set<ErrorCode>([
  "nobody-listens",
  "publish-refused",
  "publish-impossible",
]);

/** The same, and the broker has closed the connection for it; unless the one that reads is lost, too. */
const LOSES_LINK: ReadonlySet<string> = new Set<ErrorCode>(["broker-lost", "broker-refused"]);

/** Sends over a connection of its own: a letter for which the broker closes it does not end the reading. */
class Sender {
  readonly #connect: () => Promise<BrokerClient>;
  #client: BrokerClient | undefined;

  constructor(connect: () => Promise<BrokerClient>) {
    this.#connect = connect;
  }

  async send(message: Parameters<BrokerClient["publisher"]["publish"]>[0]): Promise<void> {
    this.#client ??= await this.#connect();
    try {
      await this.#client.publisher.publish(message);
    } catch (error) {
      if (error instanceof MentoError && LOSES_LINK.has(error.code)) await this.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.#client?.close();
    this.#client = undefined;
  }
}

/** Sends letters one by one: first to their queue, confirmed, then away from the dead letters. */
class Replayer {
  readonly #deadLetters: DeadLetters;
  readonly #client: BrokerClient;
  readonly #sender: Sender;
  readonly #config: MentoConfig;
  readonly #options: ReplayOptions;
  readonly #sent = new Set<string>();
  #announced: Map<string, string> | undefined;
  readonly #pace: () => Promise<void>;
  readonly #now = new Date();

  constructor(
    { deadLetters, client, sender }: { deadLetters: DeadLetters; client: BrokerClient; sender: Sender },
    config: MentoConfig,
    options: ReplayOptions,
  ) {
    this.#deadLetters = deadLetters;
    this.#client = client;
    this.#sender = sender;
    this.#config = config;
    this.#options = options;
    this.#pace = pacer(options.rate);
  }

  async replay(deadLetter: DeadLetter): Promise<Outcome> {
    const { broker, worker, triggers } = this.#config;
    const { again = false, dryRun, toTrigger } = this.#options;
    const ownQueue = topologyFor(broker.prefix, worker.group).intakeQueue;
    const { prefix } = broker;
    const plan = planReplay(await this.#withProof(deadLetter), {
      prefix,
      ownQueue,
      triggers,
      toTrigger,
      again,
      now: this.#now,
    });
    if (plan.send === undefined) return plan.outcome;
    const sameness = samenessOf(deadLetter);
    if (this.#sent.has(sameness)) {
      if (dryRun !== true) this.#deadLetters.remove(deadLetter);
      return { ...plan.outcome, outcome: "duplicate" };
    }
    if (dryRun === true) {
      this.#sent.add(sameness);
      return { ...plan.outcome, outcome: "would-send" };
    }
    await this.#pace();
    try {
      await this.#sender.send({ exchange: "", ...plan.send });
    } catch (error) {
      if (!(error instanceof MentoError)) throw error;
      if (LOSES_LINK.has(error.code)) await this.#deadLetters.requireThere();
      else if (!STAYS.has(error.code)) throw error;
      return { ...plan.outcome, outcome: "left", reason: error.message };
    }
    // If it dies here, the letter is sent once more by the next replay: under the same id, which does nothing.
    this.#sent.add(sameness);
    this.#deadLetters.remove(deadLetter);
    return plan.outcome;
  }

  /**
   * What RabbitMQ itself gave up says only in its `x-death` where it was published, and RabbitMQ 3 leaves some of what a
   * producer writes there. An event that the history has was Mento's, whatever the letter says.
   */
  async #withProof(deadLetter: DeadLetter): Promise<DeadLetter> {
    if (!isUnprovenEnd(deadLetter)) return deadLetter;
    this.#announced ??= await announcedEnds(this.#client);
    const routingKey = this.#announced.get(bodyHash(deadLetter.body));
    const { eventsExchange } = this.#client.topology;
    return routingKey === undefined ? deadLetter : withPlace(deadLetter, eventsExchange, routingKey);
  }
}

/** Ids say which; without them the group and whatever else was asked for. */
function filterFor(ids: readonly string[], options: Options, config: MentoConfig): DeadFilter | undefined {
  if (ids.length === 0) return deadFilterOf(options, config);
  if (!isFiltered(options)) return undefined;
  throw wrongUsage(
    "Both ids and options that choose dead letters are given.",
    "Leave the one or the other out.",
  );
}

async function dropDeadLetters(ids: string[], options: Options & { all?: true }): Promise<void> {
  if ((ids.length === 0) !== (options.all === true)) {
    throw wrongUsage("mento dead drop needs ids, or --all.", "`mento dead list` shows the ids.");
  }
  const config = openConfig(options.config);
  const { prefix } = config.broker;
  const filter = filterFor(ids, options, config);
  if (filter !== undefined) sayLine(`dropping the dead letters of ${filter.words}`);
  const { dropped, queue, others } = await withDeadLetters(config, async ({ deadLetters, client }) => {
    const queue = client.topology.deadQueue;
    let [dropped, others] = [0, 0];
    const chosen =
      ids.length === 0
        ? deadLetters.read({ onlyPresent: true })
        : await chooseDeadLetters(deadLetters, ids, queue);
    for await (const deadLetter of chosen) {
      if (filter?.isOfGroup(deadLetter) === false) others += 1;
      if (filter?.fits(deadLetter) === false) continue;
      // First printed, then gone: what nobody has taken down is not dropped.
      if (options.json === true) printJson(deadLetterJson(deadLetter, prefix));
      else printLine(deadLetterLine(deadLetter, prefix));
      await outputTaken();
      deadLetters.remove(deadLetter);
      dropped += 1;
    }
    return { dropped, queue, others };
  });
  const said =
    dropped === 0 ? noDeadLetters(queue, filter) : `dropped ${count(dropped, "dead letter")} of ${queue}`;
  sayLine(`${said}${ofOthers(others)}`);
}

/** Connects, reads, and puts back. */
async function withDeadLetters<T>(
  config: MentoConfig,
  work: (opened: { deadLetters: DeadLetters; client: BrokerClient }) => Promise<T>,
): Promise<T> {
  const client = await connectFromConfig(config, "dead");
  try {
    const deadLetters = await DeadLetters.open(client);
    let result: T;
    try {
      result = await work({ deadLetters, client });
    } catch (error) {
      await deadLetters.close().catch(() => undefined);
      throw error;
    }
    await deadLetters.close();
    return result;
  } catch (error) {
    throw callAgain(
      error,
      "No letter is lost: run the command again. What was replayed already has kept its id, and does not run twice.",
    );
  } finally {
    await client.close();
  }
}

function noDeadLetters(queue: string, filter: DeadFilter | undefined): string {
  return `no dead letters${filter === undefined ? "" : ` of ${filter.words}`} on ${queue}`;
}

const TALLY: Record<Outcome["outcome"], string> = {
  sent: "replayed",
  "would-send": "would be replayed",
  duplicate: "of the same message",
  left: "left where they are",
};

function tallyOf(
  outcomes: readonly Outcome["outcome"][],
  queue: string,
  filter: DeadFilter | undefined,
): string {
  if (outcomes.length === 0) return noDeadLetters(queue, filter);
  const kinds = (Object.keys(TALLY) as Outcome["outcome"][]).map((kind) => {
    const number = outcomes.filter((one) => one === kind).length;
    return number === 0 ? [] : [`${number} ${TALLY[kind]}`];
  });
  return `${count(outcomes.length, "dead letter")} on ${queue}: ${kinds.flat().join(", ")}`;
}
