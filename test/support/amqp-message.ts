import type { AmqpMessage } from "../../src/messages/received.ts";

/** A message as amqplib gives it; by default from a queue of ours, published by its name. */
export function amqpMessage(
  content: Buffer,
  properties: Record<string, unknown> = {},
  fields: Partial<AmqpMessage["fields"]> = {},
): AmqpMessage {
  return {
    content,
    properties: { headers: {}, ...properties },
    fields: { exchange: "", routingKey: "mento.default.intake", redelivered: false, ...fields },
  };
}
