import type { ConsumeMessage, Options } from "amqplib";
import type { QueuedTurn } from "../handle-message.ts";
import { shortId } from "../messages/derived-id.ts";
import { originOf } from "../messages/origin.ts";

/** What our own headers say of a message that has waited or failed. */
export interface History {
  firstSeen: string;
  /** How often it was deferred for the present reason. */
  attempts: number;
  /** The code of the present reason, and since when it holds. */
  reason: string | null;
  reasonSince: string | null;
  exchange: string;
  routingKey: string;
  /** What the last look saw of data of unknown size. */
  dataLook: string | null;
  /** It was sent again for this trigger alone. */
  onlyTrigger: string | null;
  /** Triggers that have it in their own queues already. */
  queuedFor: string[];
  /** How often its own command failed while others' worked. */
  ownTroubles: number;
  /** How often the broker has taken this delivery back from workers, and the message in all. */
  returned: number;
  returns: number;
}

/** AMQP has limits for headers: a producer that has filled them up loses its own, not its message. */
const MAX_THEIR_HEADERS = 16 * 1024;

export function historyOf(message: ConsumeMessage, now: Date): History {
  const headers: Record<string, unknown> = message.properties.headers ?? {};
  const text = (name: string) => {
    const value = headers[`mento-${name}`];
    return typeof value === "string" && value !== "" ? value : null;
  };
  const time = (name: string) => {
    const value = text(name);
    return value === null || Number.isNaN(Date.parse(value)) ? null : value;
  };
  const number = (name: string) => {
    const value = headers[name];
    return typeof value === "number" ? value : 0;
  };
  return {
    firstSeen: time("first-seen") ?? now.toISOString(),
    attempts: number("mento-attempts"),
    reason: text("reason"),
    reasonSince: time("reason-since"),
    exchange: text("exchange") ?? message.fields.exchange,
    routingKey: text("routing-key") ?? message.fields.routingKey,
    dataLook: text("data-look"),
    onlyTrigger: text("trigger"),
    queuedFor: text("queued-for")?.split(" ") ?? [],
    ownTroubles: number("mento-own-troubles"),
    returned: number("x-delivery-count"),
    returns: number("mento-returns") + number("x-delivery-count"),
  };
}

export function headersOf(history: History): Record<string, string | number> {
  return {
    "mento-first-seen": history.firstSeen,
    "mento-attempts": history.attempts,
    "mento-reason": history.reason ?? "",
    "mento-reason-since": history.reasonSince ?? "",
    "mento-exchange": history.exchange,
    "mento-routing-key": history.routingKey,
    ...(history.dataLook === null ? {} : { "mento-data-look": history.dataLook }),
    ...(history.ownTroubles === 0 ? {} : { "mento-own-troubles": history.ownTroubles }),
    ...(history.returns === 0 ? {} : { "mento-returns": history.returns }),
    ...(history.onlyTrigger === null ? {} : { "mento-trigger": history.onlyTrigger }),
    ...(history.queuedFor.length === 0 ? {} : { "mento-queued-for": history.queuedFor.join(" ") }),
  };
}

/** The message's own properties and headers, with ours; without RabbitMQ's account of dead-lettering. */
export function copyProperties(
  message: ConsumeMessage,
  ours: Record<string, string | number>,
): Options.Publish & { messageId: string } {
  const { contentType, contentEncoding, correlationId, replyTo, timestamp, type, appId } =
    message.properties as Options.Publish;
  const theirs = Object.entries(message.properties.headers ?? {}).filter(
    ([name]) => !name.startsWith("x-") && !name.startsWith("mento-"),
  );
  // AMQP has limits for headers; what a producer has filled up must not keep its message from being put away.
  const fit = Buffer.byteLength(JSON.stringify(theirs)) <= MAX_THEIR_HEADERS;
  const kept = { contentType, contentEncoding, correlationId, replyTo, timestamp, type, appId };
  const messageId: unknown = message.properties.messageId;
  // A bare message without an id is known by the hash of its body: it must keep that when it comes back.
  const id =
    typeof messageId === "string" ? messageId : originOf(message.content, message.properties).cause.id;
  return {
    ...Object.fromEntries(Object.entries(kept).filter(([, value]) => value !== undefined)),
    messageId: shortId(id),
    headers: { ...(fit ? Object.fromEntries(theirs) : {}), ...ours },
  };
}

/**
 * Headers of a message in the queue of one trigger: its waits for anything else are over, and whoever had it since it was
 * put away last did not end by it.
 */
export function turnHeaders(
  history: History,
  trigger: string,
  turn: QueuedTurn,
): Record<string, string | number> {
  const { firstSeen, exchange, routingKey } = history;
  const returns = history.returns - history.returned;
  const fresh = { attempts: 0, reason: null, reasonSince: null, dataLook: null, ownTroubles: 0, returned: 0 };
  return {
    ...headersOf({ ...fresh, firstSeen, exchange, routingKey, returns, onlyTrigger: trigger, queuedFor: [] }),
    "mento-door": turn.door,
    "mento-order": turn.order,
    "mento-session": turn.session ?? "",
    "mento-beamline": turn.beamline ?? "",
  };
}

/** Where it waits in the queue of a trigger; undefined in any other. */
export function queuedTurnOf({ properties }: ConsumeMessage): QueuedTurn | undefined {
  const headers: Record<string, unknown> = properties.headers ?? {};
  const { "mento-door": door, "mento-order": order } = headers;
  const name = (value: unknown) => (typeof value === "string" && value !== "" ? value : null);
  if (typeof door !== "string" || typeof order !== "string") return undefined;
  return { door, order, session: name(headers["mento-session"]), beamline: name(headers["mento-beamline"]) };
}
