import type { Options } from "amqplib";
import { carriedHeaders } from "./carried-headers.ts";
import { shortId } from "./derived-id.ts";
import { originOf } from "./origin.ts";
import type { MessageProperties } from "./message-properties.ts";

/** A message as amqplib gives it, from a queue or a stream. */
export interface AmqpMessage {
  content: Buffer;
  fields: { exchange: string; routingKey: string; redelivered?: boolean };
  properties: { headers?: Record<string, unknown> | undefined } & object;
}

/** The properties that are kept: each is of its type, and fits into a message of ours. */
export interface ReceivedProperties extends MessageProperties {
  contentEncoding?: string | undefined;
  correlationId?: string | undefined;
  replyTo?: string | undefined;
}

/** Of a body that is too large to be a message's, and was not read. */
export interface LeftOutBody {
  bytes: number;
  sha256: string;
}

/** What Mento keeps of a message: everything else that its producer wrote ends here. */
export interface Received {
  body: Buffer;
  /** Then `body` is empty, and nothing of the message may be published: the broker alone has it whole. */
  leftOut: LeftOutBody | undefined;
  properties: ReceivedProperties;
  /** What of the producer's headers is published again. */
  carried: Readonly<Record<string, string>>;
  /** Mento's own headers: none, unless it came by the default exchange, to which only Mento may publish. */
  ours: OurHeaders;
  /** The producer's other headers as JSON, for a person: nothing reads them. */
  otherHeaders: string | null;
  exchange: string;
  routingKey: string;
  /** How often the broker has taken it back from a worker since it was published. */
  returns: number;
}

const OUR_PREFIX = "mento-";
/** Says that headers were left out which nobody could read: the broker's own account may have been among them. */
export const LEFT_OUT_HEADER = "x-mento-left-out";
const OTHER_HEADERS = "mento-other-headers";

/** An AMQP property has at most 255 bytes. */
const MAX_PROPERTY_BYTES = 255;
/** Workers write no longer headers. */
const MAX_OUR_TEXT = 4096;
const MAX_OTHER_HEADERS = 4096;

/**
 * The boundary for messages: whatever a client can publish becomes what Mento works with, and can publish again. What stays
 * is the same when the message comes back from a queue of ours, so that its job's id is the same too.
 */
export function receive({ content, fields, properties }: AmqpMessage): Received {
  const { headers } = properties;
  const own: Record<string, unknown> = { ...properties };
  const text = (name: string) => textOf(own[name]);
  const isFromUs = fields.exchange === "" && headers?.[LEFT_OUT_HEADER] === undefined;
  const ours = isFromUs ? oursOf(headers) : {};
  const other = ours[OTHER_HEADERS];
  // Of our own channels: a client's properties have no such name.
  const leftOut = own["leftOut"] as LeftOutBody | undefined;
  return {
    body: content,
    leftOut,
    properties: defined({
      contentType: text("contentType"),
      contentEncoding: text("contentEncoding"),
      // A message without an id is known by the hash of its body.
      messageId: text("messageId") ?? leftOut?.sha256,
      appId: text("appId"),
      type: text("type"),
      timestamp: timestampOf(own["timestamp"]),
      userId: text("userId"),
      correlationId: text("correlationId"),
      replyTo: text("replyTo"),
      headers,
    }),
    carried: carriedHeaders(headers),
    ours,
    otherHeaders: typeof other === "string" ? other : otherHeadersOf(headers, isFromUs),
    exchange: fields.exchange,
    routingKey: fields.routingKey,
    // On a first delivery it is the producer's.
    returns: fields.redelivered === true ? countOf(headers?.["x-delivery-count"]) : 0,
  };
}

/** Mento's own headers of a copy that it publishes. */
export type OurHeaders = Readonly<Record<string, string | number>>;

/** A message as it is published, without where to. */
export interface Outgoing {
  body: Buffer;
  properties: Options.Publish & { messageId: string };
}

/**
 * The properties of a message that goes into a queue of ours again: what was kept and is carried on, `ours`, and nothing
 * else. A time to live is not kept: what waits, or what a person sends again, must not vanish.
 */
export function copyProperties(
  { properties, carried, body, otherHeaders }: Received,
  ours: OurHeaders,
): Outgoing["properties"] {
  const { contentType, contentEncoding, correlationId, replyTo, timestamp, type, appId } = properties;
  // A bare message without an id is known by the hash of its body: it must keep that when it comes back.
  const id = properties.messageId ?? originOf(body, properties).cause.id;
  return {
    ...defined({ contentType, contentEncoding, correlationId, replyTo, timestamp, type, appId }),
    messageId: shortId(id),
    headers: { ...carried, ...(otherHeaders === null ? {} : { [OTHER_HEADERS]: otherHeaders }), ...ours },
  };
}

/** Empty is absent: many clients cannot leave a property out. */
function textOf(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? cutBytes(value, MAX_PROPERTY_BYTES) : undefined;
}

function timestampOf(value: unknown): number | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value > 0 ? value : undefined;
}

function countOf(value: unknown): number {
  return typeof value === "number" && Number.isSafeInteger(value) && value > 0 ? value : 0;
}

function oursOf(headers: Record<string, unknown> | undefined): Record<string, string | number> {
  const ours: [string, string | number][] = [];
  for (const [name, value] of Object.entries(headers ?? {})) {
    if (!name.startsWith(OUR_PREFIX)) continue;
    if (typeof value === "string") ours.push([name, cutBytes(value, MAX_OUR_TEXT)]);
    if (typeof value === "number" && Number.isFinite(value)) ours.push([name, value]);
  }
  return Object.fromEntries(ours);
}

/** All that is neither carried on nor the broker's own account. */
function otherHeadersOf(headers: Record<string, unknown> | undefined, isFromUs: boolean): string | null {
  const known = isFromUs ? /^(x-|mento-|cloudEvents:|trace(parent|state)$)/ : /^(x-|trace(parent|state)$)/;
  const others = Object.entries(headers ?? {}).filter(([name]) => !known.test(name));
  if (others.length === 0) return null;
  const shown = others.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`);
  return cutBytes(`{${shown.join(",")}}`, MAX_OTHER_HEADERS);
}

type Defined<T> = { [Key in keyof T]?: Exclude<T[Key], undefined> };

function defined<T extends object>(values: T): Defined<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Defined<T>;
}

/** At most so many bytes of UTF-8: amqplib's text can be longer than what it was read from, where that was not UTF-8. */
function cutBytes(text: string, most: number): string {
  if (Buffer.byteLength(text) <= most) return text;
  const bytes = Buffer.from(text).subarray(0, most);
  return new TextDecoder().decode(bytes, { stream: true });
}
