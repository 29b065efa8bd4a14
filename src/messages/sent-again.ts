import type { MessageProperties, Options } from "amqplib";
import { shortId } from "./derived-id.ts";
import { originOf } from "./origin.ts";

/** A message as it is published, without where to. */
export interface Outgoing {
  body: Buffer;
  properties: Options.Publish & { messageId: string };
}

/** AMQP has limits for headers: a producer that has filled them up loses its own, not its message. */
const MAX_THEIR_HEADERS = 16 * 1024;

/**
 * A message as it goes to a worker again: its own body, properties and headers, beside `ours`. Without `newId` it is the
 * same message as before, so that what has run of it is not run again; with it, it is another.
 *
 * The broker's accounts (`x-…`) and Mento's own headers of before are left out: its waits and deadlines begin anew. So is
 * a time to live: what a person sends again must not vanish.
 */
export function sentAgain(
  body: Buffer,
  properties: MessageProperties,
  ours: Record<string, string>,
  newId?: string,
): Outgoing {
  const { contentType, contentEncoding, correlationId, replyTo, timestamp, type, appId } =
    properties as Options.Publish;
  const kept = { contentType, contentEncoding, correlationId, replyTo, timestamp, type, appId };
  const envelope = newId === undefined ? undefined : envelopeOf(body);
  // A bare message without an id is known by the hash of its body: it is written out, so that it stays.
  const messageId: unknown = properties.messageId;
  const oldId = typeof messageId === "string" ? messageId : shortId(originOf(body, properties).cause.id);
  return {
    body: envelope === undefined ? body : Buffer.from(JSON.stringify({ ...envelope, id: newId })),
    properties: {
      ...Object.fromEntries(Object.entries(kept).filter(([, value]) => value !== undefined)),
      messageId: newId === undefined ? oldId : shortId(newId),
      headers: { ...theirHeaders(properties), ...ours },
    },
  };
}

/** The producer's own headers, if they are not too large. */
export function theirHeaders({ headers }: MessageProperties): Record<string, unknown> {
  const theirs = Object.entries(headers ?? {}).filter(
    ([name]) => !name.startsWith("x-") && !name.startsWith("mento-"),
  );
  const fit = Buffer.byteLength(JSON.stringify(theirs)) <= MAX_THEIR_HEADERS;
  return fit ? Object.fromEntries(theirs) : {};
}

/** `<id>/again-<time>`. Of an id that is one already, only the time is new: ids do not grow with each run. */
export function idOfNextRun(id: string, at: Date): string {
  return `${id.replace(/\/again-\d{4}-\d\d-\d\dT[\d:.]+Z$/, "")}/again-${at.toISOString()}`;
}

/** A structured CloudEvent, whose id is in the body. */
function envelopeOf(body: Buffer): object | undefined {
  try {
    const value: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
    return typeof value === "object" && value !== null && "specversion" in value ? value : undefined;
  } catch {
    return undefined;
  }
}
