import { createHash } from "node:crypto";
import { MAX_MESSAGE_BYTES, tooLarge } from "./cloud-event.ts";
import { derivedId } from "./derived-id.ts";
import { isJobEnd, originOf, type Origin } from "./origin.ts";
import { copyProperties, receive, type AmqpMessage, type OurHeaders, type Received } from "./received.ts";

/** A message that could not work, as it lies in the dead-letter queue. */
export interface DeadLetter extends Origin {
  /** Why it is there. `code` is null if the broker gave it up by itself. */
  error: { code: string | null; message: string; hint: string };
  /** When a worker first had it; of a letter of the broker's, when it was given up. */
  firstSeen: string | null;
  /** How often it was deferred for its last reason. */
  attempts: number;
  /** The queue that it came from, and goes back to; null if it does not say. */
  queue: string | null;
  /** It had been sent for this trigger alone. */
  trigger: string | null;
  /** Where it was published, as far as the one who put it here knows. */
  exchange: string | null;
  routingKey: string | null;
  /** What is sent again. Of a letter of the broker's none of our headers count: its producer can have written them. */
  received: Received;
  body: Buffer;
  /** As they lie in the queue, to be shown. */
  properties: AmqpMessage["properties"];
}

/** What RabbitMQ writes into a message that it dead-letters itself. */
interface Death {
  queue: string;
  reason: string;
  exchange: string | null;
  routingKey: string | null;
  at: string | null;
}

/**
 * Reads any message: what a worker has put away says why in headers of ours; what the broker has put away itself, when
 * workers took it again and again and never finished, has the broker's account of it.
 */
export function readDeadLetter(message: AmqpMessage): DeadLetter {
  const headers: Record<string, unknown> = message.properties.headers ?? {};
  const death = lastDeath(headers);
  const received = death === undefined ? receive(message) : { ...receive(message), ours: {} };
  const { ours, body } = received;
  const text = (name: string) => nonEmpty(ours[`mento-${name}`]);
  return {
    ...originOf(body, received.properties),
    error: death === undefined ? reasonOf(text) : reasonOfBroker(death, body.length),
    firstSeen: timeOf(text("first-seen") ?? death?.at ?? null),
    attempts: numberOf(ours["mento-attempts"]),
    queue: death === undefined ? text("queue") : death.queue,
    trigger: death === undefined ? text("trigger") : triggerOf(death.queue),
    exchange: death === undefined ? text("exchange") : death.exchange,
    routingKey: death === undefined ? text("routing-key") : death.routingKey,
    received,
    body,
    properties: message.properties,
  };
}

/**
 * A letter as it lay in the queue of dead letters, before RabbitMQ moved it on because it had been read there too often:
 * what RabbitMQ wrote of that says nothing of why the letter is one.
 */
export function beforeReturn<M extends AmqpMessage>(message: M, deadQueue: string): M {
  const headers = message.properties.headers ?? {};
  const list: unknown = headers["x-death"];
  const before = Array.isArray(list)
    ? list.filter((one: unknown) => !isObject(one) || one["queue"] !== deadQueue)
    : [];
  // Only what a worker put there has died there first; of any other none of our headers count.
  const isWorkers = before.length === 0 && headers["x-first-death-queue"] === deadQueue;
  const kept = isWorkers
    ? Object.fromEntries(Object.entries(headers).filter(([name]) => !/^x-((first|last)-)?death/.test(name)))
    : { ...headers, "x-death": before };
  return { ...message, properties: { ...message.properties, headers: kept } };
}

/** Whether it calls itself the end of a job, and no worker has said where it was published. */
export function isUnprovenEnd({ cause, received }: DeadLetter): boolean {
  return isJobEnd(cause.type) && received.ours["mento-exchange"] === undefined;
}

/** The same letter, of which it has been found out where it was published. */
export function withPlace(deadLetter: DeadLetter, exchange: string, routingKey: string): DeadLetter {
  const ours = { ...deadLetter.received.ours, "mento-exchange": exchange, "mento-routing-key": routingKey };
  return { ...deadLetter, exchange, routingKey, received: { ...deadLetter.received, ours } };
}

/**
 * Our headers of the letter as it goes back to its queue. Where it was published only a worker knows for certain; that
 * decides what it may be (events of jobs count from one exchange alone).
 */
export function headersOfReplay({ received: { ours } }: DeadLetter, trigger: string | null): OurHeaders {
  const names = ["mento-exchange", "mento-routing-key", "mento-user-id"];
  return {
    ...Object.fromEntries(Object.entries(ours).filter(([name]) => names.includes(name))),
    ...(trigger === null ? {} : { "mento-trigger": trigger }),
  };
}

/**
 * The same for letters of which sending one again is sending all: nothing that a worker reads tells them apart. So a copy
 * that somebody else has published does not stand for the message.
 */
export function samenessOf(deadLetter: DeadLetter): string {
  const { queue, trigger, received, body } = deadLetter;
  const properties = copyProperties(received, headersOfReplay(deadLetter, trigger));
  const hash = createHash("sha256").update(body).digest("hex");
  return derivedId(queue ?? "", JSON.stringify(properties), hash);
}

function reasonOf(text: (name: string) => string | null): DeadLetter["error"] {
  return {
    code: text("error-code"),
    message: text("error-message") ?? "It does not say why it is here.",
    hint: text("error-hint") ?? "No worker of this version has put it here.",
  };
}

function reasonOfBroker({ queue, reason }: Death, bytes: number): DeadLetter["error"] {
  // Workers have the broker put away what they do not read.
  if (reason === "rejected" && bytes > MAX_MESSAGE_BYTES) {
    const { code, message, hint } = tooLarge(bytes);
    return { code, message, hint };
  }
  if (reason === "rejected") {
    return {
      code: "worker-ended",
      message: `A worker lost its connection to RabbitMQ each time that it handled it, and had RabbitMQ put it away from ${queue}.`,
      hint: "The worker's log of that time says why (a permission, a limit of RabbitMQ's); replay it when that is mended.",
    };
  }
  if (reason !== "delivery_limit") {
    return {
      code: null,
      message: `RabbitMQ moved it here from ${queue} (${reason}).`,
      hint: "Look at the policies of that queue, then replay it.",
    };
  }
  return {
    code: null,
    message: `Workers took it from ${queue} again and again, and none finished with it: RabbitMQ gave it up.`,
    hint: "The workers' logs of that time say what ended them; replay it when that is mended.",
  };
}

/**
 * The death that brought it here: RabbitMQ puts the latest first (https://www.rabbitmq.com/docs/dlx#effects). A producer
 * can write such a list itself; of the first entry RabbitMQ 3 then still writes queue and reason, and RabbitMQ 4 all of it.
 */
function lastDeath(headers: Record<string, unknown>): Death | undefined {
  const list: unknown = headers["x-death"];
  const isBrokers = Object.keys(headers).some((name) =>
    /^x-((first|last)-)?death|^x-mento-left-out$/.test(name),
  );
  if (!isBrokers) return undefined;
  const found = Array.isArray(list) ? list.find(isObject) : undefined;
  const keys: unknown = found?.["routing-keys"];
  const time: unknown = isObject(found?.["time"]) ? found["time"]["value"] : undefined;
  return {
    queue: nonEmpty(found?.["queue"]) ?? "-",
    reason: nonEmpty(found?.["reason"]) ?? "no reason given",
    exchange: nonEmpty(found?.["exchange"]),
    routingKey: Array.isArray(keys) ? nonEmpty(keys[0]) : null,
    at: typeof time === "number" ? timeOf(time * 1000) : null,
  };
}

/** Whose trigger's queue it waited in. */
function triggerOf(queue: string): string | null {
  return /\.[A-Za-z0-9_-]+\.trigger\.(.+)$/.exec(queue)?.[1] ?? null;
}

function timeOf(value: string | number | null): string | null {
  const time = new Date(value ?? NaN);
  return Number.isNaN(time.getTime()) ? null : time.toISOString();
}

function numberOf(value: unknown): number {
  return typeof value === "number" ? value : 0;
}

function nonEmpty(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
