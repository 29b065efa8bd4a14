import type { Channel } from "amqplib";
import { BrokerUnavailable, errorText, MentoError, Misconfigured } from "../errors.ts";
import { brokerLost, type BrokerLink } from "./connection.ts";

/** Seconds that a message waits before it comes back: a queue for each. */
export const WAIT_SECONDS = [1, 2, 5, 10, 30] as const;
/** Messages of a flood wait on the broker for longer, where other sessions' must pass. */
export const BUSY_WAIT_SECONDS = [...WAIT_SECONDS, 120, 600] as const;

/** Everything durable that Mento has on the broker. */
export interface Topology {
  /** Of all names. */
  prefix: string;
  dataExchange: string;
  eventsExchange: string;
  intakeQueue: string;
  jobsQueue: string;
  /** For jobs that only this host can see. */
  hostJobsQueue: string;
  waitQueue(seconds: number): string;
  /** For messages that wait for their turn with one trigger. */
  triggerQueue(trigger: string): string;
  deadQueue: string;
  /** Where RabbitMQ puts what has been read there more often than a policy lets it; from there it goes back. */
  returnedQueue: string;
  historyStream: string;
  /** Where workers say that they are there. */
  workersStream: string;
  /** Whether a producer may be answered in a queue of this name: not in Mento's, of whichever group, nor in RabbitMQ's. */
  takesAnswers(queue: string): boolean;
}

/**
 * No queues: RabbitMQ decodes what follows, and of what is malformed ends the connection of whoever publishes to it
 * (https://www.rabbitmq.com/docs/direct-reply-to).
 */
const BROKERS_OWN = "amq.rabbitmq.";

export function topologyFor(prefix: string, group: string, host = "-"): Topology {
  return {
    prefix,
    dataExchange: `${prefix}.data`,
    eventsExchange: `${prefix}.events`,
    intakeQueue: `${prefix}.${group}.intake`,
    jobsQueue: `${prefix}.${group}.jobs`,
    hostJobsQueue: `${prefix}.${group}.jobs.${host}`,
    waitQueue: (seconds) => `${prefix}.${group}.wait.${seconds}`,
    triggerQueue: (trigger) => `${prefix}.${group}.trigger.${trigger}`,
    deadQueue: `${prefix}.dead`,
    returnedQueue: `${prefix}.dead.returned`,
    historyStream: `${prefix}.history`,
    workersStream: `${prefix}.workers`,
    takesAnswers: (queue) => !queue.startsWith(`${prefix}.`) && !queue.startsWith(BROKERS_OWN),
  };
}

/** So long a message lies in the queue of a trigger at most: of one that is no longer configured nobody takes it. */
const BACK_TO_INTAKE_HOURS = 24;

/** What a group's configuration wants to have beside it. */
export interface Wanted {
  /** Keys of its intake queue on the exchange for data. */
  keys: readonly string[];
  /** And on the exchange for events. */
  eventKeys?: readonly string[];
  /** Whether it is a worker, which watches the jobs that only its host can see: also of triggers that are gone. */
  isWorker?: boolean;
  /** Names of the triggers whose messages wait for their turn. */
  triggers?: readonly string[];
}

/**
 * Declares all of it and binds the group's intake queue with its keys. Repeating does nothing.
 *
 * @returns the queues from which RabbitMQ takes messages away that have come back often: RabbitMQ 3 has made them
 * @throws Misconfigured `queue-arguments-differ`
 * @throws Unavailable `broker-refused`, `broker-unreachable`, `broker-lost`
 */
export async function declareTopology(
  link: BrokerLink,
  topology: Topology,
  wanted: Wanted,
): Promise<{ limited: string[] }> {
  const { dataExchange, eventsExchange, intakeQueue, jobsQueue, hostJobsQueue, historyStream } = topology;
  const { deadQueue, returnedQueue } = topology;
  const backToIntake = (seconds: number) => ({
    ...deadLetteringTo(intakeQueue),
    "x-message-ttl": seconds * 1000,
  });

  const declare = async (channel: Channel) => {
    await channel.assertExchange(dataExchange, "topic", { durable: true });
    await channel.assertExchange(eventsExchange, "topic", { durable: true });

    await channel.assertQueue(historyStream, {
      durable: true,
      arguments: { "x-queue-type": "stream", "x-max-age": "14D" },
    });
    await channel.bindQueue(historyStream, dataExchange, "#");
    await channel.bindQueue(historyStream, eventsExchange, "#");

    if (wanted.isWorker === true)
      await channel.assertQueue(topology.workersStream, {
        durable: true,
        arguments: {
          ...{ "x-queue-type": "stream", "x-max-age": "1h" },
          "x-stream-max-segment-size-bytes": 1_000_000,
        },
      });
    // Of all kinds of queues the classic alone counts no deliveries.
    await channel.assertQueue(returnedQueue, {
      durable: true,
      arguments: { "x-queue-type": "classic", "x-overflow": "reject-publish" },
    });
    for (const seconds of BUSY_WAIT_SECONDS) {
      await channel.assertQueue(topology.waitQueue(seconds), {
        durable: true,
        arguments: backToIntake(seconds),
      });
    }
  };
  const bind = async (channel: Channel) => {
    for (const key of wanted.keys) await channel.bindQueue(intakeQueue, dataExchange, key);
    for (const key of wanted.eventKeys ?? []) await channel.bindQueue(intakeQueue, eventsExchange, key);
  };
  // One worker has all of a trigger's: so it knows which is the newest, and in which order they came.
  const ofTriggers = { ...backToIntake(BACK_TO_INTAKE_HOURS * 3600), "x-single-active-consumer": true };
  const taken: [string, object][] = [
    [deadQueue, deadLetteringTo(returnedQueue)],
    [jobsQueue, deadLetteringTo(deadQueue)],
    ...(wanted.isWorker === true ? [[hostJobsQueue, deadLetteringTo(deadQueue)] as [string, object]] : []),
    [intakeQueue, deadLetteringTo(deadQueue)],
    ...(wanted.triggers ?? []).map((trigger): [string, object] => [
      topology.triggerQueue(trigger),
      ofTriggers,
    ]),
  ];
  await onOneChannel(link, declare, DECLARING);
  const limited: string[] = [];
  for (const [queue, args] of taken) {
    if (!(await declareUnlimited(link, queue, args))) limited.push(queue);
  }
  await onOneChannel(link, bind, DECLARING);
  return { limited };
}

const DECLARING = "declaring exchanges and queues";

/**
 * That the queue of dead letters is such that reading them deletes none.
 *
 * @throws Misconfigured `queue-arguments-differ`
 */
export async function requireSafeDeadLetters(link: BrokerLink, topology: Topology): Promise<void> {
  await declareUnlimited(link, topology.deadQueue, deadLetteringTo(topology.returnedQueue));
}

function deadLetteringTo(queue: string) {
  return {
    "x-queue-type": "quorum",
    "x-dead-letter-exchange": "",
    "x-dead-letter-routing-key": queue,
    // Without these two a message is dropped if that queue is away at that moment.
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
  };
}

/**
 * A queue whose messages may come back as often as they do: RabbitMQ 4 else gives them up after 20 times, whoever was to
 * blame. False if RabbitMQ 3, which has no such limit and does not know of it, has made the queue.
 */
async function declareUnlimited(link: BrokerLink, queue: string, args: object): Promise<boolean> {
  const declare = (limit: object) => (channel: Channel) =>
    channel.assertQueue(queue, { durable: true, arguments: { ...args, ...limit } });
  if (majorVersion(link) < 4) {
    await onOneChannel(link, declare({}), DECLARING);
    return true;
  }
  try {
    await onOneChannel(link, declare({ "x-delivery-limit": -1 }), DECLARING);
    return true;
  } catch (error) {
    if (!/with another x-delivery-limit/.test(errorText(error))) throw error;
    await onOneChannel(link, declare({}), DECLARING);
    return false;
  }
}

function majorVersion({ consuming }: BrokerLink): number {
  return Number.parseInt(consuming.connection.serverProperties.version, 10);
}

/** Which of it the broker does not have, and how the intake queue stands. Declares nothing. */
export async function readTopology(
  link: BrokerLink,
  topology: Topology,
  triggers: readonly string[] = [],
): Promise<{
  missing: string[];
  intake: { waiting: number; consumers: number } | undefined;
  /** How many dead letters there are. */
  dead: number;
  /** How many messages wait for their turn with each trigger. */
  triggerQueues: { trigger: string; waiting: number }[];
}> {
  const { dataExchange, eventsExchange, intakeQueue, jobsQueue, deadQueue, returnedQueue, historyStream } =
    topology;
  const queues = [
    historyStream,
    deadQueue,
    returnedQueue,
    jobsQueue,
    ...BUSY_WAIT_SECONDS.map((seconds) => topology.waitQueue(seconds)),
  ];
  const found = new Map<string, boolean>();
  for (const name of [dataExchange, eventsExchange]) {
    found.set(name, (await ifThere(link, (channel) => channel.checkExchange(name))) !== undefined);
  }
  let dead = 0;
  for (const name of queues) {
    const queue = await ifThere(link, (channel) => channel.checkQueue(name));
    found.set(name, queue !== undefined);
    if (name === deadQueue || name === returnedQueue) dead += queue?.messageCount ?? 0;
  }
  const intake = await readIntake(link, topology);
  found.set(intakeQueue, intake !== undefined);
  const triggerQueues: { trigger: string; waiting: number }[] = [];
  for (const trigger of triggers) {
    const queue = await ifThere(link, (channel) => channel.checkQueue(topology.triggerQueue(trigger)));
    triggerQueues.push({ trigger, waiting: queue?.messageCount ?? 0 });
  }
  return {
    dead,
    triggerQueues,
    missing: [...found.keys()].filter((name) => found.get(name) === false),
    intake,
  };
}

/** How a group's intake queue stands; undefined: there is none. */
export async function readIntake(
  link: BrokerLink,
  { intakeQueue }: Pick<Topology, "intakeQueue">,
): Promise<{ waiting: number; consumers: number } | undefined> {
  const queue = await ifThere(link, (channel) => channel.checkQueue(intakeQueue));
  return queue && { waiting: queue.messageCount, consumers: queue.consumerCount };
}

/** On a channel of its own, because RabbitMQ closes the channel that asks for what is not there. */
async function ifThere<T>(link: BrokerLink, look: (channel: Channel) => Promise<T>): Promise<T | undefined> {
  try {
    return await onOneChannel(link, look, "looking for exchanges and queues");
  } catch (cause) {
    if (/NOT_FOUND - no (queue|exchange)/.test(errorText(cause))) return undefined;
    throw cause;
  }
}

async function onOneChannel<T>(
  link: BrokerLink,
  work: (channel: Channel) => Promise<T>,
  what: string,
): Promise<T> {
  const all = async () => {
    const channel = await link.consuming.createChannel();
    channel.on("error", () => undefined);
    const result = await work(channel);
    await channel.close();
    return result;
  };
  try {
    return await link.answer(all(), what);
  } catch (cause) {
    throw inWords(cause);
  }
}

/** Why a queue could not be used, whatever the broker or its client said. */
export function queueFailure(cause: unknown, queue: string): MentoError {
  if (/NOT_FOUND - no queue/.test(errorText(cause))) return queueMissing(queue, cause);
  const known = inWords(cause);
  return known instanceof MentoError ? known : brokerLost(errorText(cause), cause);
}

function queueMissing(queue: string, cause: unknown): MentoError {
  return new MentoError({
    code: "exchange-missing",
    message: `The broker has no queue ${queue}.`,
    hint: "A worker makes it when it starts: start one with `mento worker`; or check broker.prefix and the virtual host.",
    cause,
  });
}

/** RabbitMQ's refusals in words of the person who reads them; what is unknown stays as it is. */
function inWords(cause: unknown): unknown {
  const text = errorText(cause);
  return differingArguments(text, cause) ?? notAllowed(text, cause) ?? stillStarting(text, cause) ?? cause;
}

/** For a moment after RabbitMQ's start: `home node 'rabbit@host' of durable queue … is down or inaccessible`. */
function stillStarting(text: string, cause: unknown): BrokerUnavailable | undefined {
  if (!/home node .* is down or inaccessible/.test(text)) return undefined;
  return new BrokerUnavailable({
    code: "broker-unreachable",
    message: `RabbitMQ answers, but not all of its queues are there yet: ${text}.`,
    hint: "It has just started, or a node of its cluster is down; Mento tries again.",
    cause,
  });
}

function notAllowed(text: string, cause: unknown): BrokerUnavailable | undefined {
  if (!/ACCESS_REFUSED/.test(text)) return undefined;
  return new BrokerUnavailable({
    code: "broker-refused",
    message: `RabbitMQ does not let this login do that: ${text}.`,
    hint: "A worker needs configure, write and read permissions for Mento's names, a detector or viewer fewer: docs/security.md has the commands.",
    cause,
  });
}

/** RabbitMQ's text, e.g. `inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received … but current is …`. */
function differingArguments(text: string, cause: unknown): Misconfigured | undefined {
  const found = /inequivalent arg '([^']+)' for (queue|exchange) '([^']+)' in vhost '([^']*)': (.*)$/.exec(
    text,
  );
  const [, argument = "", kind = "", name = "", vhost = "", difference = ""] = found ?? [];
  if (found === null) return undefined;
  const [, wanted, has] = /received (.*?) but current is (.*?)"?$/.exec(difference) ?? [];
  return new Misconfigured({
    code: "queue-arguments-differ",
    message:
      `The ${kind} ${name} exists on the broker (virtual host ${vhost}) with another ${argument}: ` +
      `it has ${has ?? "another value"}, Mento wants ${wanted ?? "its own"}.`,
    hint: `Delete the ${kind} if nothing else uses it, or set another broker.prefix or worker.group.`,
    cause,
  });
}
