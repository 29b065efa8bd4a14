import type { MessageProperties } from "amqplib";
import { createHash } from "node:crypto";
import { derivedId } from "./derived-id.ts";
import { originOf, type Origin } from "./origin.ts";
import { theirHeaders } from "./sent-again.ts";

/** A message that could not work, as it lies in the dead-letter queue. */
export interface DeadLetter extends Origin {
  /** Why it is there. `code` is null if it was the broker that gave it up. */
  error: { code: string | null; message: string; hint: string };
  /** When a worker first had it; of a letter of the broker's that never waited, when it was given up. */
  firstSeen: string | null;
  /** How often it was deferred for its last reason. */
  attempts: number;
  /** The queue that it came from, and goes back to; null if it does not say. */
  queue: string | null;
  /** It had been sent for this trigger alone. */
  trigger: string | null;
  /** Where it was published. */
  exchange: string | null;
  routingKey: string | null;
  /** How often it was read and put back. */
  returns: number;
  body: Buffer;
  properties: MessageProperties;
}

/** Workers write no longer texts; a producer's header that looks like one of ours can have any length. */
const MAX_HEADER_TEXT = 1000;

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
export function readDeadLetter(body: Buffer, properties: MessageProperties): DeadLetter {
  const headers: Record<string, unknown> = properties.headers ?? {};
  const text = (name: string) => nonEmpty(headers[`mento-${name}`])?.slice(0, MAX_HEADER_TEXT) ?? null;
  // A worker's letter has no account of the broker's, and the broker's letter may have headers of ours that its producer made up.
  const death = lastDeath(headers);
  const exchange = text("exchange");
  return {
    ...originOf(body, properties),
    error: death === undefined ? reasonOf(text) : reasonOfBroker(death),
    firstSeen: timeOf(text("first-seen")) ?? death?.at ?? null,
    attempts: numberOf(headers["mento-attempts"]),
    queue: death === undefined ? text("queue") : death.queue,
    trigger: text("trigger"),
    exchange: exchange ?? death?.exchange ?? null,
    routingKey: text("routing-key") ?? (exchange === null ? death?.routingKey : null) ?? null,
    returns: numberOf(headers["x-delivery-count"]),
    body,
    properties,
  };
}

/** Headers of a fresh copy of the letter in the same queue: what is known of it stays known. */
export function headersOfCopy(letter: DeadLetter): Record<string, unknown> {
  const headers = letter.properties.headers ?? {};
  if (lastDeath(headers) === undefined) {
    const ours = Object.entries(headers).filter(([name]) => name.startsWith("mento-"));
    return { ...theirHeaders(letter.properties), ...Object.fromEntries(ours) };
  }
  // Nobody but the broker can write the broker's account: what it says is put into our words.
  const { error, firstSeen, attempts, queue, trigger, exchange, routingKey } = letter;
  const ours = {
    "mento-error-message": error.message,
    "mento-error-hint": error.hint,
    "mento-first-seen": firstSeen,
    "mento-attempts": attempts,
    "mento-queue": queue,
    "mento-trigger": trigger,
    "mento-exchange": exchange,
    "mento-routing-key": routingKey,
  };
  const known = Object.entries(ours).filter(([, value]) => value !== null);
  return { ...theirHeaders(letter.properties), ...Object.fromEntries(known) };
}

/** The same for letters of which sending one again is sending all: the same message for the same queue and trigger. */
export function samenessOf({ cause, queue, trigger, properties, body }: DeadLetter): string {
  const contentType = nonEmpty(properties.contentType) ?? "";
  const hash = createHash("sha256").update(body).digest("hex");
  return derivedId(queue ?? "", trigger ?? "", cause.source, cause.id, cause.type, contentType, hash);
}

function reasonOf(text: (name: string) => string | null): DeadLetter["error"] {
  return {
    code: text("error-code"),
    message: text("error-message") ?? "It does not say why it is here.",
    hint: text("error-hint") ?? "No worker of this version has put it here.",
  };
}

function reasonOfBroker({ queue, reason }: Death): DeadLetter["error"] {
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
 * The death that brought it here: the broker's list begins with the latest, and the waits of a deferred message are in it
 * too (https://www.rabbitmq.com/docs/dlx#effects).
 */
function lastDeath(headers: Record<string, unknown>): Death | undefined {
  const list: unknown = headers["x-death"];
  const deaths = Array.isArray(list) ? list.filter(isObject) : [];
  const found = deaths.find(({ reason }) => reason === "delivery_limit") ?? deaths[0];
  const queue =
    nonEmpty(found?.["queue"]) ??
    nonEmpty(headers["x-last-death-queue"]) ??
    nonEmpty(headers["x-first-death-queue"]);
  if (queue === null) return undefined;
  const keys: unknown = found?.["routing-keys"];
  const time: unknown = isObject(found?.["time"]) ? found["time"]["value"] : undefined;
  return {
    queue,
    reason: nonEmpty(found?.["reason"]) ?? nonEmpty(headers["x-first-death-reason"]) ?? "no reason given",
    exchange: nonEmpty(found?.["exchange"]),
    routingKey: Array.isArray(keys) ? nonEmpty(keys[0]) : null,
    at: typeof time === "number" ? timeOf(time * 1000) : null,
  };
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
