import type { ConsumeMessage } from "amqplib";
import { randomUUID } from "node:crypto";
import type { MentoError } from "../errors.ts";
import type { BrokerClient } from "./client.ts";
import { brokerLost } from "./connection.ts";
import { queueTrouble } from "./topology.ts";

/** Messages that the broker sends ahead of what has been taken. */
const PREFETCH = 100;

/** A stream tells nobody that its end is reached: each reading writes this, and has read all before it when it comes. */
export const HISTORY_MARK_TYPE = "mento.history.mark";

/**
 * All messages and events that the broker took into the history from a time on, in their order, up to this moment.
 * The broker counts whole seconds, and begins with the first that it wrote to the stream in or after the given one.
 *
 * @throws MentoError `exchange-missing` if there is no history yet
 * @throws Unavailable `broker-lost`, `broker-refused`
 */
export async function* historySince(
  client: Pick<BrokerClient, "link" | "publisher" | "topology">,
  since: Date,
): AsyncGenerator<ConsumeMessage, void, undefined> {
  const { historyStream } = client.topology;
  const waiting: ConsumeMessage[] = [];
  let lost: MentoError | undefined;
  let wake: () => void = () => undefined;
  const lose = (error: MentoError) => {
    lost ??= error;
    wake();
  };

  const { link } = client;
  const channel = await link.answer(link.consuming.createChannel(), "opening a channel");
  let reason = "the channel that read the history was closed";
  channel.on("error", (error: Error) => (reason = error.message));
  channel.on("close", () => lose(brokerLost(reason)));
  void link.lost.then((error) => lose(error ?? brokerLost("it was closed")));
  await link.answer(channel.prefetch(PREFETCH), "setting a channel's prefetch");
  const onMessage = (message: ConsumeMessage | null) => {
    if (message === null) {
      lose(brokerLost("the history was deleted"));
      return;
    }
    waiting.push(message);
    wake();
  };
  const from = { "!": "timestamp", value: Math.max(0, Math.floor(since.getTime() / 1000)) };
  try {
    const asked = channel.consume(historyStream, onMessage, { arguments: { "x-stream-offset": from } });
    await link.answer(asked, `reading ${historyStream}`);
  } catch (cause) {
    throw queueTrouble(cause, historyStream);
  }
  const mark = randomUUID();
  await client.publisher.publish({
    exchange: "",
    routingKey: historyStream,
    body: Buffer.alloc(0),
    properties: { messageId: mark, type: HISTORY_MARK_TYPE },
  });

  try {
    for (;;) {
      const message = waiting.shift();
      if (message === undefined) {
        if (lost !== undefined) throw lost;
        await new Promise<void>((resolve) => (wake = resolve));
        continue;
      }
      if (message.properties.messageId === mark) return;
      yield message;
      // After it has been taken: so the broker sends no faster than that.
      if (lost === undefined) channel.ack(message);
    }
  } finally {
    await channel.close().catch(() => undefined);
  }
}
