import { MAX_ID } from "./cloud-event.ts";
import { cutId } from "../text/cut.ts";
import { shortId } from "./derived-id.ts";
import { parseJson, writeJson } from "./json.ts";
import { copyProperties, type OurHeaders, type Outgoing, type Received } from "./received.ts";

export type { Outgoing };

/**
 * A message as it goes to a worker again. Without `newId` it is the same message as before, so that what has run of it is
 * not run again; with it, it is another. Its waits and deadlines begin anew.
 */
export function sentAgain(received: Received, ours: OurHeaders, newId?: string): Outgoing {
  const properties = copyProperties(received, ours);
  if (newId === undefined) return { body: received.body, properties };
  const envelope = envelopeOf(received.body);
  const isBinary = "cloudEvents:id" in received.carried;
  return {
    body: envelope === undefined ? received.body : Buffer.from(writeJson({ ...envelope, id: newId })),
    properties: {
      ...properties,
      messageId: shortId(newId),
      ...(isBinary ? { headers: { ...properties.headers, "cloudEvents:id": newId } } : {}),
    },
  };
}

/** `<id>/again-<time>`. Of an id that is one already, only the time is new: ids do not grow with each run. */
export function idOfNextRun(id: string, at: Date): string {
  const first = id.replace(/\/again-\d{4}-\d\d-\d\dT[\d:.]+Z$/, "");
  return `${cutId(first, MAX_ID - 40)}/again-${at.toISOString()}`;
}

/** A structured CloudEvent, whose id is in the body. */
function envelopeOf(body: Buffer): object | undefined {
  try {
    const value = parseJson(new TextDecoder("utf-8", { fatal: true }).decode(body));
    return typeof value === "object" && value !== null && "specversion" in value ? value : undefined;
  } catch {
    return undefined;
  }
}
