import { createHash } from "node:crypto";
import { Rejected } from "../errors.ts";
import { cut } from "../text/cut.ts";
import {
  attributesInHeaders,
  canonicalText,
  ownEntries,
  REQUIRED_ATTRIBUTES,
  timeOfTimestamp,
} from "./header-attributes.ts";
import { DuplicateKey, MAX_JSON_LEVELS, MAX_JSON_VALUES, parseJson, shapeOf, TooDeep } from "./json.ts";
import { isTraceparent, isTracestate } from "./trace-context.ts";
import type { MessageProperties } from "./message-properties.ts";

/** Attributes of one event, so many at most, and so long. */
const MAX_ATTRIBUTES = 64;
const MAX_NAME = 40;
const MAX_TEXT = 2048;

/** The sender's names for it, as AMQP properties: an empty one is one that a client library set by itself. */
export function ownProperty(value: string | undefined): string | undefined {
  return value === "" ? undefined : value;
}

/** Whether the content type says that the body is a whole event. */
export function isDeclaredEvent({ contentType }: MessageProperties): boolean {
  return /^application\/cloudevents(\+json)?$/.test(mediaTypeOf(contentType));
}

/** Without parameters, in lower case; empty if there is none. */
export function mediaTypeOf(contentType: string | undefined): string {
  return contentType?.split(";")[0]?.trim().toLowerCase() ?? "";
}

/**
 * The attributes and the data of a message, in whichever of three forms it has come: an event as JSON; an event whose
 * attributes are headers; data alone, with the AMQP properties for attributes. Its form is not checked yet.
 *
 * @throws Rejected `wrong-schema` for what contradicts itself
 */
export function envelopeOf(
  value: unknown,
  body: Uint8Array,
  properties: MessageProperties,
): Record<string, unknown> {
  const found = attributesInHeaders(properties.headers);
  if (found?.mistake !== undefined) throw noEvent(found.mistake);
  const isEvent = isObject(value) && Object.hasOwn(value, "specversion");
  if (isDeclaredEvent(properties) || (isEvent && found === null)) {
    if (!isObject(value)) throw noEvent("it is not an object");
    for (const name of REQUIRED_ATTRIBUTES) {
      const inHeader = found?.attributes.get(name);
      if (inHeader === undefined || inHeader === value[name]) continue;
      throw noEvent(`its header says ${name} is "${cut(inHeader, 100)}", and its body says another`);
    }
    return withTrace(readable(value), properties);
  }
  if (found !== null) {
    if (isEvent) throw noEvent("its attributes are in headers, and its body is an event of its own");
    return withTrace(
      {
        ...Object.fromEntries(found.attributes),
        ...contentTypeOf(found.attributes, properties),
        data: value,
      },
      properties,
    );
  }
  return withTrace(bareEnvelope(value, body, properties), properties);
}

function contentTypeOf(attributes: ReadonlyMap<string, string>, properties: MessageProperties) {
  const declared = ownProperty(properties.contentType);
  const inHeader = attributes.get("datacontenttype");
  if (declared !== undefined && inHeader !== undefined && mediaTypeOf(declared) !== mediaTypeOf(inHeader)) {
    throw noEvent("its header datacontenttype and its AMQP content_type differ");
  }
  return declared === undefined ? {} : { datacontenttype: declared };
}

function bareEnvelope(value: unknown, body: Uint8Array, properties: MessageProperties) {
  const { messageId, appId, type } = properties;
  for (const [name, text] of Object.entries({ message_id: messageId, app_id: appId, type })) {
    // amqplib has put it where bytes were no UTF-8: two ids that differ there would be one.
    if (text?.includes("\ufffd") === true) throw noEvent(`its AMQP property ${name} is not UTF-8`);
  }
  const time = properties.timestamp === undefined ? undefined : timeOfTimestamp(properties.timestamp);
  return {
    specversion: "1.0",
    id: ownProperty(messageId) ?? hashOf(body),
    source: ownProperty(appId) ?? "unknown",
    type: ownProperty(type) ?? "mento.data.ready.v1",
    ...(time === undefined ? {} : { time }),
    datacontenttype: "application/json",
    data: value,
  };
}

/** The id of a message that has none: the same body is the same message. */
export function hashOf(body: Uint8Array): string {
  return createHash("sha256").update(body).digest("hex");
}

/** What CloudEvents' JSON format allows to write in several ways, in one. */
function readable(event: Record<string, unknown>): Record<string, unknown> {
  const attributes = Object.entries(event).filter(([name, value]) => value !== null || name === "data");
  const { data_base64: encoded, ...rest } = Object.fromEntries(attributes);
  if (encoded === undefined) return rest;
  if (rest["data"] !== undefined && rest["data"] !== null) throw noEvent("it has both data and data_base64");
  return { ...rest, data: decodeBase64(encoded) };
}

function decodeBase64(encoded: unknown): unknown {
  if (typeof encoded !== "string" || !/^[A-Za-z0-9+/]*={0,2}$/.test(encoded) || encoded.length % 4 !== 0) {
    throw noEvent("its data_base64 is not base64");
  }
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(Buffer.from(encoded, "base64"));
  } catch (cause) {
    throw noEvent("its data_base64 does not hold JSON in UTF-8", cause);
  }
  requireFewValues(shapeOf(text).values, MAX_JSON_VALUES);
  return readJson(text);
}

/** @throws Rejected `wrong-schema` */
export function requireFewValues(values: number, most: number): void {
  if (values <= most) return;
  throw new Rejected({
    code: "wrong-schema",
    message: `The message holds ${values} values; ${most} are the most.`,
    hint: "Write such data to a file and send its path.",
  });
}

/** Of a body, or of data within one. Throws Rejected `not-json`, `wrong-schema`. */
export function readJson(text: string): unknown {
  let value: unknown;
  try {
    value = parseJson(text);
  } catch (cause) {
    if (cause instanceof TooDeep) throw tooDeep();
    if (cause instanceof DuplicateKey) {
      throw noEvent(`the key "${cut(cause.message, 100)}" stands twice in one object, with different values`);
    }
    const why = cut(cause instanceof Error ? cause.message : "unreadable", 200);
    throw new Rejected({
      code: "not-json",
      message: /^\s*</.test(text) ? "The message is XML, not JSON." : `The message is not JSON: ${why}.`,
      hint: "Send one JSON object; `mento validate FILE` checks it before you send.",
    });
  }
  // zod would leave it out of the parameters without a word.
  if (hasKey(value, "__proto__"))
    throw noEvent('it has the key "__proto__", which no program reads reliably');
  return value;
}

function hasKey(value: unknown, key: string): boolean {
  if (typeof value !== "object" || value === null) return false;
  return Object.hasOwn(value, key) || Object.values(value).some((one) => hasKey(one, key));
}

/** The trace context: an attribute of the event, or else an AMQP header. What is malformed is none. */
function withTrace(event: Record<string, unknown>, { headers }: MessageProperties): Record<string, unknown> {
  const { traceparent, tracestate, ...rest } = event;
  const header = new Map(ownEntries(headers).map(([name, value]) => [name, canonicalText(value)]));
  const parent = [traceparent, header.get("traceparent")].find(isTraceparent);
  const state = [tracestate, parent === traceparent ? undefined : header.get("tracestate")].find(
    isTracestate,
  );
  return {
    ...rest,
    ...(parent === undefined ? {} : { traceparent: parent }),
    ...(parent === undefined || state === undefined ? {} : { tracestate: state }),
  };
}

/** With nanoseconds and an offset. */
const MAX_TIME_LENGTH = 35;

/** Attributes are single values; `time` as RFC 3339 allows it becomes as the schema has it. */
export function checkAttributes(event: Record<string, unknown>): void {
  const attributes = Object.entries(event).filter(([name]) => name !== "data");
  if (attributes.length > MAX_ATTRIBUTES) {
    throw noEvent(`it has ${attributes.length} attributes; ${MAX_ATTRIBUTES} are the most`);
  }
  for (const [name, value] of attributes) {
    if (name.length > MAX_NAME) throw noEvent(`the name ${cut(name, 100)} of an attribute is too long`);
    if (typeof value === "object") {
      throw noEvent(`its attribute ${name} is an object or a list: such values belong into data`);
    }
    if (typeof value === "string" && value.length > MAX_TEXT) {
      throw noEvent(`its attribute ${name} has ${value.length} characters; ${MAX_TEXT} are the most`);
    }
  }
}

const LOCAL_TIME = /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?$/;
const LEAP_SECOND = /^(\d{4}-\d\d-\d\dT\d\d:\d\d):60(\.\d+)?(Z|[+-]\d\d:\d\d)$/;

/** RFC 3339 allows `t`, `z` and a second 60, which is the next one here. */
export function timeOf(event: Record<string, unknown>): { time?: unknown } {
  const { time } = event;
  if (typeof time !== "string") return time === undefined ? {} : { time };
  if (LOCAL_TIME.test(time)) {
    throw noEvent(`its time ${cut(time, 50)} has no time zone: add Z or an offset such as +01:00`);
  }
  if (time.length > MAX_TIME_LENGTH)
    throw noEvent(`its time has ${time.length} characters: RFC 3339 needs no more than 35`);
  const upper = time.toUpperCase();
  const [, minute, , zone] = LEAP_SECOND.exec(upper) ?? [];
  if (minute === undefined || zone === undefined) return { time: upper };
  const last = Date.parse(`${minute}:59${zone}`);
  return { time: Number.isNaN(last) ? upper : new Date(last + 1000).toISOString() };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function noEvent(why: string, cause?: unknown): Rejected {
  return new Rejected({
    code: "wrong-schema",
    message: `The message is not a CloudEvent: ${why}.`,
    hint: "See schemas/cloud-event.json and schemas/examples.",
    cause,
  });
}

export function tooDeep(levels = MAX_JSON_LEVELS): Rejected {
  return new Rejected({
    code: "wrong-schema",
    message: `The message's data is nested more than ${levels} levels deep.`,
    hint: "Write such data to a file and send its path.",
  });
}
