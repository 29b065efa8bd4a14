import type { MessageProperties } from "amqplib";
import type { BrokerLink } from "./connection.ts";

/**
 * By how many seconds the broker's clock is ahead of this host's; undefined if it does not say its time. It does in each
 * message if its message interceptors, or the plugin rabbitmq_message_timestamp, are set so.
 *
 * @param queue a name that nobody has
 */
export async function brokerTime(link: BrokerLink, queue: string): Promise<{ ahead: number } | undefined> {
  try {
    const channel = await link.answer(link.consuming.createChannel(), "opening a channel");
    channel.on("error", () => undefined);
    await link.answer(channel.assertQueue(queue, { exclusive: true, durable: false }), "declaring a queue");
    const sent = Date.now();
    channel.sendToQueue(queue, Buffer.alloc(0));
    const message = await link.answer(channel.get(queue, { noAck: true }), "asking for a message");
    const middle = (sent + Date.now()) / 2;
    await channel.close();
    const time = message === false ? undefined : brokerTimeOf(message.properties);
    return time === undefined ? undefined : { ahead: (time - middle) / 1000 };
  } catch {
    // The login may make no queues of this name: then nobody knows.
    return undefined;
  }
}

/** Milliseconds since 1970. AMQP's own timestamp has whole seconds: on average it is half a second later. */
export function brokerTimeOf({
  headers,
  timestamp,
}: Pick<MessageProperties, "headers" | "timestamp">): number | undefined {
  const inMs: unknown = headers?.["timestamp_in_ms"];
  if (typeof inMs === "number") return inMs;
  return typeof timestamp === "number" ? timestamp * 1000 + 500 : undefined;
}
