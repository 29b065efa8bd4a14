import type { BrokerClient } from "../../src/broker/client.ts";
import type { AnyEvent } from "./site.ts";

/** Every event from now on as it is announced. One that is announced twice comes twice: a subscription would hide that. */
export async function hearEvents(client: BrokerClient, events: AnyEvent[]): Promise<void> {
  const channel = await client.link.consuming.createChannel();
  channel.on("error", () => undefined);
  const { queue } = await channel.assertQueue("", { exclusive: true, autoDelete: true });
  await channel.bindQueue(queue, client.topology.eventsExchange, "#");
  const take = (message: { content: Buffer } | null) => {
    if (message !== null) events.push(JSON.parse(message.content.toString("utf8")) as AnyEvent);
  };
  await channel.consume(queue, take, { noAck: true });
}
