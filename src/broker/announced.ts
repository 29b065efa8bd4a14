import { createHash } from "node:crypto";
import { isJobEnd } from "../messages/origin.ts";
import type { BrokerClient } from "./client.ts";
import { HISTORY_MS, historySince } from "./history.ts";

/**
 * Under which routing key each job's end was announced, by {@link bodyHash}: all that the history has. Which exchange a
 * message came by the broker alone writes there.
 *
 * @throws MentoError `exchange-missing` if there is no history yet
 * @throws Unavailable `broker-lost`, `broker-refused`
 */
export async function announcedEnds(
  client: Pick<BrokerClient, "link" | "publisher" | "topology">,
): Promise<Map<string, string>> {
  const keys = new Map<string, string>();
  for await (const { content, fields, properties } of historySince(
    client,
    new Date(Date.now() - HISTORY_MS),
  )) {
    if (fields.exchange !== client.topology.eventsExchange || !isJobEnd(String(properties.type))) continue;
    keys.set(bodyHash(content), fields.routingKey);
  }
  return keys;
}

export function bodyHash(body: Buffer): string {
  return createHash("sha256").update(body).digest("base64");
}
