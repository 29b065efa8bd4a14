import type { MessageProperties } from "./message-properties.ts";
import * as z from "zod";
import { Rejected } from "../errors.ts";
import { bodyText } from "./body-text.ts";
import { describeIssues } from "./check-form.ts";
import { cut } from "../text/cut.ts";
import {
  checkAttributes,
  envelopeOf,
  mediaTypeOf,
  readJson,
  requireFewValues,
  timeOf,
  tooDeep,
} from "./envelope.ts";
import { MAX_EVENT_VALUES, MAX_JSON_VALUES, plainNumbers, shapeOf } from "./json.ts";

/** Messages larger than this are rejected unread: 1 MiB. */
export const MAX_MESSAGE_BYTES = 1024 * 1024;

/** So deep lists and objects in `data` may lie in one another: what is much deeper cannot be checked, or written. */
const MAX_LEVELS = 100;

/** Ids go into events, log lines and job ids. */
export const MAX_ID = 1024;

/**
 * CloudEvents 1.0 (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md), JSON format.
 * Extension attributes that Mento does not know pass through unchanged.
 */
export const CloudEvent = z.looseObject({
  specversion: z.literal("1.0"),
  id: z.string().min(1).max(MAX_ID),
  source: z.string().min(1).max(MAX_ID),
  type: z.string().min(1).max(MAX_ID),
  time: z.iso.datetime({ offset: true }).optional(),
  subject: z.string().min(1).optional(),
  datacontenttype: z.string().optional(),
  dataschema: z.string().optional(),
  traceparent: z.string().optional(),
  data: z.unknown().optional(),
});
export type CloudEvent = z.infer<typeof CloudEvent>;

/**
 * Bytes → a CloudEvent. Takes an event as JSON, an event whose attributes are headers, or a bare `data` object whose
 * attributes are in the AMQP properties. Without `message_id` the id of such a one is a hash of the body, so that the same
 * body is the same message. Numbers in `parameters` stay as they were written.
 *
 * @throws Rejected `message-too-large`, `not-utf8`, `not-json`, `wrong-schema`
 */
export function decodeMessage(body: Uint8Array, properties: MessageProperties): CloudEvent {
  if (body.byteLength > MAX_MESSAGE_BYTES) throw tooLarge(body.byteLength);
  const format = foreignFormat(mediaTypeOf(properties.contentType));
  if (format !== undefined) throw wrongFormat(format);
  const text = bodyText(body, properties);
  const { values } = shapeOf(text);
  requireFewValues(values, MAX_EVENT_VALUES);
  const value = readJson(text);
  if (isBatch(value)) throw wrongFormat("a batch of events");
  const envelope = envelopeOf(value, body, properties);
  if (!isOfJob(envelope)) requireFewValues(values, MAX_JSON_VALUES);
  return checkedEvent(envelope);
}

export function tooLarge(bytes: number): Rejected {
  return new Rejected({
    code: "message-too-large",
    message: `The message has ${bytes} bytes; the limit is ${MAX_MESSAGE_BYTES}.`,
    hint: "Write the data to a file and send its path.",
  });
}

/** Forms of CloudEvents, and of data, that are said not to be one JSON object. */
function foreignFormat(mediaType: string): string | undefined {
  if (/^application\/cloudevents-batch/.test(mediaType)) return "a batch of events";
  const format = /^application\/cloudevents\+(?!json$)(.*)$/.exec(mediaType)?.[1];
  if (format !== undefined) return `a CloudEvent in the format ${cut(format, 50)}`;
  return /[/+]xml$/.test(mediaType) ? "XML" : undefined;
}

function isBatch(value: unknown): boolean {
  const [first] = Array.isArray(value) ? (value as unknown[]) : [];
  return typeof first === "object" && first !== null && "specversion" in first;
}

function wrongFormat(format: string): Rejected {
  return new Rejected({
    code: "wrong-schema",
    message: `The message is ${format}; Mento reads JSON, one event a message.`,
    hint: "Send one event a message, as application/cloudevents+json or as its data in application/json.",
  });
}

function isOfJob({ type }: Record<string, unknown>): boolean {
  return typeof type === "string" && type.startsWith("mento.job.");
}

function checkedEvent(envelope: Record<string, unknown>): CloudEvent {
  const { data } = envelope;
  // A job's event has what its message said one level deeper.
  if (isDeeperThan(isOfJob(envelope) ? MAX_LEVELS + 1 : MAX_LEVELS, data)) throw tooDeep(MAX_LEVELS);
  const event: Record<string, unknown> = {
    ...(plainNumbers(envelope, [data]) as object),
    ...timeOf(envelope),
    ...("data" in envelope ? { data: plainNumbers(data, parametersIn(data)) } : {}),
  };
  checkAttributes(event);
  const parsed = CloudEvent.safeParse(event);
  if (parsed.success) return parsed.data;
  throw new Rejected({
    code: "wrong-schema",
    message: `The message is not a CloudEvent: ${describeIssues(parsed.error, event)}`,
    hint: "See schemas/cloud-event.json and schemas/examples.",
  });
}

/** The sender's own values: of a data-ready message, and of one that led to a job. */
function parametersIn(data: unknown): unknown[] {
  const { parameters, message } = objectOf(data);
  return [parameters, objectOf(message)["parameters"]].filter(
    (one) => typeof one === "object" && one !== null,
  );
}

function objectOf(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

function isDeeperThan(levels: number, value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  return levels === 0 || Object.values(value).some((one) => isDeeperThan(levels - 1, one));
}
