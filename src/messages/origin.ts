import { createHash } from "node:crypto";
import type { MessageProperties } from "./cloud-event.ts";
import { DATA_READY_TYPE } from "./data-ready.ts";
import { derivedId } from "./derived-id.ts";
import { Cause, type MessageEventData } from "./job-event.ts";

/** Who sent a message, under which id, and about what, as far as it can be told: also of one that is not even JSON. */
export type Origin = Pick<MessageEventData, "cause" | "beamline" | "beamtimeId" | "paths">;

export function originOf(body: Uint8Array, properties: MessageProperties): Origin {
  const { envelope, data, isStructured } = readBody(body);
  const own = {
    source: (isStructured ? text(envelope["source"]) : null) ?? properties.appId ?? "unknown",
    id:
      (isStructured ? text(envelope["id"]) : null) ??
      properties.messageId ??
      createHash("sha256").update(body).digest("hex"),
    type: (isStructured ? text(envelope["type"]) : null) ?? properties.type ?? DATA_READY_TYPE,
  };
  const isOfJob = JOB_END.test(own.type);
  const session = isOfJob ? objectOrEmpty(data["session"]) : {};
  const path = data[isOfJob ? "paths" : "path"];
  return {
    cause: own,
    beamline: text(isOfJob ? session["beamline"] : data["beamline"]),
    beamtimeId: text(isOfJob ? session["id"] : data["beamtimeId"]),
    paths: (Array.isArray(path) ? path : [path]).filter((one): one is string => typeof one === "string"),
  };
}

const JOB_END = /^mento\.job\.(completed|failed|cancelled|lost)\.v\d+$/;

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
  if (!JOB_END.test(cause.type)) return { origin, link: "" };
  const first = Cause.safeParse(readBody(body).data["cause"]);
  if (!first.success) return { origin, link: "" };
  return { origin: { ...origin, cause: first.data }, link: derivedId(cause.source, cause.id) };
}

function readBody(body: Uint8Array) {
  const envelope = objectOrEmpty(tryJson(body));
  const isStructured = "specversion" in envelope;
  return { envelope, isStructured, data: isStructured ? objectOrEmpty(envelope["data"]) : envelope };
}

function tryJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(body));
  } catch {
    return undefined;
  }
}

function objectOrEmpty(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : {};
}

function text(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}
