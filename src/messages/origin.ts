import { MAX_ID, MAX_MESSAGE_BYTES } from "./cloud-event.ts";
import { cut, cutId } from "../text/cut.ts";
import { DATA_READY_TYPE, MAX_PATHS } from "./data-ready.ts";
import { derivedId } from "./derived-id.ts";
import { hashOf, isDeclaredEvent, ownProperty } from "./envelope.ts";
import { attributesInHeaders } from "./header-attributes.ts";
import { MAX_EVENT_VALUES, tryPlainJson } from "./json.ts";
import { LONGEST_PATH } from "./path-text.ts";
import type { Cause, MessageEventData } from "./job-event.ts";
import type { MessageProperties } from "./message-properties.ts";

/** Who sent a message, under which id, and about what, as far as it can be told: also of one that is not even JSON. */
export type Origin = Pick<MessageEventData, "cause" | "beamline" | "beamtimeId" | "paths">;

const LONGEST_NAME = 100;

/**
 * Of any message, whatever is wrong with it: never throws, and is bounded. What `decodeMessage` takes has the same source,
 * id and type here. A body that is too large to be a message, or has more values than any event, is not read.
 */
export function originOf(body: Uint8Array, properties: MessageProperties): Origin {
  const known = READ.get(body);
  if (known !== undefined && MEANT.every((name) => known.properties[name] === properties[name]))
    return known.origin;
  const origin = readOrigin(body, properties);
  READ.set(body, { properties, origin });
  return origin;
}

/** A body is asked for several times while its message is in hand, and may be large. */
const READ = new WeakMap<Uint8Array, { properties: MessageProperties; origin: Origin }>();
/** The properties that a message's origin is read from. */
const MEANT = ["headers", "contentType", "appId", "messageId", "type"] as const;

function readOrigin(body: Uint8Array, properties: MessageProperties): Origin {
  const { attributes, data } = readBody(body, properties);
  const cause = causeOf({
    source: text(attributes["source"]) ?? ownProperty(properties.appId) ?? "unknown",
    id: text(attributes["id"]) ?? ownProperty(properties.messageId) ?? hashOf(body),
    type: text(attributes["type"]) ?? ownProperty(properties.type) ?? DATA_READY_TYPE,
  });
  const isOfJob = isJobEnd(cause.type);
  const session = isOfJob ? objectOrEmpty(data["session"]) : {};
  const path = data[isOfJob ? "paths" : "path"];
  const paths: unknown[] = Array.isArray(path) ? path : [path];
  return {
    cause,
    beamline: nameOf(isOfJob ? session["beamline"] : data["beamline"]),
    beamtimeId: nameOf(isOfJob ? session["id"] : data["beamtimeId"]),
    paths: paths
      .slice(0, MAX_PATHS)
      .filter((one): one is string => typeof one === "string")
      .map((one) => cut(one, LONGEST_PATH)),
  };
}

const JOB_END = /^mento\.job\.(completed|failed|cancelled|lost)\.v\d+$/;

/** Whether it is the type of an event that other jobs can follow from. */
export function isJobEnd(type: string): boolean {
  return JOB_END.test(type);
}

/**
 * What an event about the message says of it. A chain's cause is its first message; `link` is then what tells the events
 * about one of its jobs' ends from those about another's, and empty for a message that is of no chain.
 */
export function chainOriginOf(
  body: Uint8Array,
  properties: MessageProperties,
): { origin: Origin; link: string } {
  const origin = originOf(body, properties);
  const { cause } = origin;
  if (!isJobEnd(cause.type)) return { origin, link: "" };
  const first = objectOrEmpty(readBody(body, properties).data["cause"]);
  const [source, id, type] = [text(first["source"]), text(first["id"]), text(first["type"])];
  if (source === null || id === null || type === null) return { origin, link: "" };
  return {
    origin: { ...origin, cause: causeOf({ source, id, type }) },
    link: derivedId(cause.source, cause.id),
  };
}

function causeOf({ source, id, type }: Cause): Cause {
  return { source: cutId(source, MAX_ID), id: cutId(id, MAX_ID), type: cutId(type, MAX_ID) };
}

/** Attributes from the headers or the body, in whichever form the message has come; empty of data alone. */
function readBody(body: Uint8Array, properties: MessageProperties) {
  const inHeaders = attributesInHeaders(properties.headers);
  const value =
    body.byteLength > MAX_MESSAGE_BYTES
      ? {}
      : objectOrEmpty(tryPlainJson(new TextDecoder().decode(body), MAX_EVENT_VALUES));
  if (isDeclaredEvent(properties) || (inHeaders === null && Object.hasOwn(value, "specversion"))) {
    return { attributes: value, data: dataOf(value) };
  }
  return { attributes: Object.fromEntries(inHeaders?.attributes ?? []), data: value };
}

function dataOf({ data, data_base64: encoded }: Record<string, unknown>): Record<string, unknown> {
  if (typeof encoded !== "string") return objectOrEmpty(data);
  return objectOrEmpty(tryPlainJson(Buffer.from(encoded, "base64").toString("utf8"), MAX_EVENT_VALUES));
}

function objectOrEmpty(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : {};
}

function nameOf(value: unknown): string | null {
  const name = text(value);
  return name === null ? null : cut(name, LONGEST_NAME);
}

function text(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}
