import type { Channel, ConsumeMessage } from "amqplib";
import { errorText } from "../errors.ts";
import { brokerLost, type BrokerLink } from "./connection.ts";
import { leaveOutLargeBodies } from "./large-bodies.ts";

/** A message that a worker holds until it acks it, on the channel that delivered it. */
export interface Delivery {
  message: ConsumeMessage;
  /** Does nothing once the link is lost: the broker then delivers the message again. */
  ack: () => void;
  /** Has the broker itself dead-letter it, body and all; else like `ack`. */
  deadLetter: () => void;
}

export interface Consumer {
  /** No further deliveries; those under way go on. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** So many messages are held at once from now on. */
  setPrefetch(prefetch: number): Promise<void>;
}

export interface ConsumerOptions {
  /** Larger bodies are left out. Default: all are whole. */
  maxBytes?: number;
}

/**
 * Consumes a queue on a channel of its own. `handle` must not throw. A channel that breaks, or a consumer that the
 * broker cancels, ends the whole link: then everything starts over with a new one.
 */
export async function openConsumer(
  link: BrokerLink,
  queue: string,
  prefetch: number,
  handle: (delivery: Delivery) => void,
  { maxBytes = Infinity }: ConsumerOptions = {},
): Promise<Consumer> {
  const channel = await link.answer(link.consuming.createChannel(), "opening a channel");
  leaveOutLargeBodies(channel, maxBytes);
  let open = true;
  let reason = "a consuming channel was closed";
  channel.on("error", (error: Error) => (reason = error.message));
  channel.on("close", () => {
    open = false;
    // If it closed with its connection, that one says why, right after.
    setImmediate(() => link.fail(brokerLost(reason)));
  });
  const setPrefetch = async (most: number) => {
    await link.answer(channel.prefetch(most), "setting a channel's prefetch");
    // It holds for consumers that begin after it.
    if (tag === undefined) return;
    await pause();
    await resume();
  };

  let tag: string | undefined;
  const onMessage = (message: ConsumeMessage | null) => {
    if (message === null) {
      link.fail(brokerLost(`the broker cancelled the consumer of ${queue}`));
      return;
    }
    let settled = false;
    const settle = (how: () => void) => {
      if (settled || !open) return;
      settled = true;
      how();
    };
    // All that they need: a body must not be held for as long as its message is.
    const delivered = { fields: message.fields } as ConsumeMessage;
    handle({
      message,
      ack: () => settle(() => tryAck(channel, delivered)),
      deadLetter: () => settle(() => unlessClosed(() => channel.nack(delivered, false, false))),
    });
  };
  const resume = async () => {
    if (tag !== undefined) return;
    const { consumerTag } = await link.answer(channel.consume(queue, onMessage), `consuming ${queue}`);
    tag = consumerTag;
  };
  const pause = async () => {
    if (tag === undefined) return;
    const ending = tag;
    tag = undefined;
    try {
      await link.answer(channel.cancel(ending), `ending the consumer of ${queue}`);
    } catch (error) {
      link.fail(brokerLost(errorText(error), error));
    }
  };
  await setPrefetch(prefetch);
  await resume();
  return { pause, resume, setPrefetch };
}

export function tryAck(channel: Channel, message: ConsumeMessage): void {
  unlessClosed(() => channel.ack(message));
}

/** Both throw on a channel that has just closed; then the message comes again. */
function unlessClosed(ackOrNack: () => void): void {
  try {
    ackOrNack();
  } catch {
    return;
  }
}
