import { createHash } from "node:crypto";
import { z } from "zod";
import { Rejected } from "../errors.ts";

/** Messages larger than this are rejected unread: 1 MiB. */
export const MAX_MESSAGE_BYTES = 1024 * 1024;

/** So deep lists and objects in `data` may lie in one another: what is much deeper cannot be checked, or written. */
const MAX_LEVELS = 100;

/**
 * CloudEvents 1.0 (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md), JSON format.
 * Extension attributes that Mento does not know pass through unchanged.
 */
export const CloudEvent = z.looseObject({
  specversion: z.literal("1.0"),
  id: z.string().min(1),
  source: z.string().min(1),
  type: z.string().min(1),
  time: z.iso.datetime({ offset: true }).optional(),
  subject: z.string().min(1).optional(),
  datacontenttype: z.string().optional(),
  dataschema: z.string().optional(),
  traceparent: z.string().optional(),
  data: z.unknown().optional(),
});
export type CloudEvent = z.infer<typeof CloudEvent>;

/** The AMQP properties that take part in a message's meaning. */
export interface MessageProperties {
  contentType?: string | undefined;
  messageId?: string | undefined;
  appId?: string | undefined;
  type?: string | undefined;
  /** Seconds since 1970, as AMQP has it. */
  timestamp?: number | undefined;
  /** The login that published it: RabbitMQ takes no other (https://www.rabbitmq.com/docs/validated-user-id). */
  userId?: string | undefined;
}

/**
 * Bytes → a CloudEvent. Takes the structured form, or a bare `data` object whose attributes are in the AMQP
 * properties. Without `message_id` the id is a hash of the body, so that the same body is the same message.
 *
 * @throws Rejected `message-too-large`, `not-utf8`, `not-json`, `wrong-schema`
 */
export function decodeMessage(body: Uint8Array, properties: MessageProperties): CloudEvent {
  if (body.byteLength > MAX_MESSAGE_BYTES) {
    throw new Rejected({
      code: "message-too-large",
      message: `The message has ${body.byteLength} bytes; the limit is ${MAX_MESSAGE_BYTES}.`,
      hint: "Write the data to a file and send its path.",
    });
  }
  const value = parseJson(decodeUtf8(body));
  if (isStructured(value, properties)) return parseEnvelope(value);
  return parseEnvelope({
    specversion: "1.0",
    id: properties.messageId ?? createHash("sha256").update(body).digest("hex"),
    source: properties.appId ?? "unknown",
    type: properties.type ?? "mento.data.ready.v1",
    ...timeOf(properties.timestamp),
    datacontenttype: "application/json",
    data: value,
  });
}

/** AMQP's timestamp is in seconds; many producers send milliseconds. What is neither is no time. */
function timeOf(timestamp: number | undefined): { time?: string } {
  const isTime = (milliseconds: number) => milliseconds > 0 && milliseconds < Date.UTC(2200, 0);
  const candidates = timestamp === undefined ? [] : [timestamp * 1000, timestamp];
  const found = candidates.find(isTime);
  return found === undefined ? {} : { time: new Date(found).toISOString() };
}

function decodeUtf8(body: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(body);
  } catch (cause) {
    throw new Rejected({
      code: "not-utf8",
      message: "The message is not UTF-8 text.",
      hint: "Send JSON in UTF-8.",
      cause,
    });
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new Rejected({
      code: "not-json",
      message: `The message is not JSON: ${cause instanceof Error ? cause.message : "unreadable"}.`,
      hint: "Send one JSON object; `mento validate FILE` checks it before you send.",
      cause,
    });
  }
}

function isStructured(value: unknown, properties: MessageProperties): boolean {
  const mediaType = properties.contentType?.split(";")[0]?.trim().toLowerCase();
  if (mediaType === "application/cloudevents+json") return true;
  return typeof value === "object" && value !== null && "specversion" in value;
}

function parseEnvelope(value: unknown): CloudEvent {
  const parsed = CloudEvent.safeParse(value);
  if (!parsed.success) {
    throw new Rejected({
      code: "wrong-schema",
      message: `The message is not a CloudEvent: ${describeIssues(parsed.error)}`,
      hint: "See schemas/cloud-event.json and schemas/examples.",
      cause: parsed.error,
    });
  }
  const event = parsed.data;
  // A job's event has what its message said one level deeper.
  const levels = event.type.startsWith("mento.job.") ? MAX_LEVELS + 1 : MAX_LEVELS;
  if (isDeeperThan(levels, event.data)) {
    throw new Rejected({
      code: "wrong-schema",
      message: `The message's data is nested more than ${MAX_LEVELS} levels deep.`,
      hint: "Write such data to a file and send its path.",
    });
  }
  return event;
}

function isDeeperThan(levels: number, value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  return levels === 0 || Object.values(value).some((one) => isDeeperThan(levels - 1, one));
}

/** Every mistake that zod found, in one line: `data.path: expected string, received number; …`. */
export function describeIssues(error: z.ZodError, prefix: readonly PropertyKey[] = []): string {
  return error.issues
    .map((issue) => {
      const place = [...prefix, ...issue.path].map(String).join(".");
      return place === "" ? issue.message : `${place}: ${issue.message}`;
    })
    .join("; ");
}
