import { randomUUID } from "node:crypto";
import { askBroker, VHOST } from "./ask-broker.ts";

export interface BrokerPolicy {
  remove: () => Promise<unknown>;
}

/** A policy for the queues whose names fit, on the tests' broker. */
export async function brokerPolicy(pattern: string, definition: object): Promise<BrokerPolicy> {
  const path = `policies/${VHOST}/policy-${randomUUID().slice(0, 8)}`;
  await askBroker("PUT", path, { pattern, definition, "apply-to": "queues" });
  return { remove: () => askBroker("DELETE", path) };
}
