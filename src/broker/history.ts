import type { Channel, ConsumeMessage } from "amqplib";
import { randomUUID } from "node:crypto";
import type { MentoError } from "../errors.ts";
import type { BrokerClient } from "./client.ts";
import { MAX_MESSAGE_BYTES } from "../messages/cloud-event.ts";
import { brokerLost, type BrokerLink } from "./connection.ts";
import { tryAck } from "./consumer.ts";
import { leaveOutLargeBodies } from "./large-bodies.ts";
import { queueFailure } from "./topology.ts";

/** Messages that the broker sends ahead of what has been taken. */
const PREFETCH = 256;

/** The history keeps no more. */
export const HISTORY_MS = 14 * 24 * 3600_000;

/** A stream tells nobody that its end is reached: each reading writes this, and has read all before it when it comes. */
const HISTORY_MARK_TYPE = "mento.history.mark";

/**
 * Where reading begins: with what comes next; with the last messages, as the broker has written them together; with the
 * first that the broker wrote in or after this second; or with the message that has this place in the stream.
 */
export type HistoryStart = "next" | "last" | Date | number;

/** A message's place in the stream. */
export function offsetOf(message: ConsumeMessage): number {
  return Number(message.properties.headers?.["x-stream-offset"]);
}

/** Reads the stream of all messages and events, on a channel of its own, in their order, and waits for new ones. */
export class HistoryReader {
  readonly #link: BrokerLink;
  readonly #channel: Channel;
  readonly #waiting: ConsumeMessage[] = [];
  #taken: ConsumeMessage | undefined;
  #lost: MentoError | undefined;
  #isClosed = false;
  #wake: () => void = () => undefined;

  private constructor(link: BrokerLink, channel: Channel) {
    this.#link = link;
    this.#channel = channel;
    let reason = "the channel that read the history was closed";
    channel.on("error", (error: Error) => (reason = error.message));
    // If it closed with its connection, that one says why, right after.
    channel.on("close", () => setImmediate(() => this.#lose(brokerLost(reason))));
    // Weakly: a link may live for months, and have many readers.
    const self = new WeakRef(this);
    void link.lost.then((error) => {
      const reader = self.deref();
      if (reader !== undefined) reader.#lose(error ?? brokerLost("it was closed"));
    });
  }

  /**
   * Resolves when the broker has found the place to begin with.
   *
   * @throws MentoError `exchange-missing` if there is no history yet
   * @throws Unavailable `broker-lost`, `broker-refused`
   */
  static async open(link: BrokerLink, stream: string, start: HistoryStart): Promise<HistoryReader> {
    const channel = await link.answer(link.consuming.createChannel(), "opening a channel");
    // What is no message of Mento's, and no event, is in the history all the same.
    leaveOutLargeBodies(channel, MAX_MESSAGE_BYTES);
    const reader = new HistoryReader(link, channel);
    const take = (message: ConsumeMessage | null) => {
      if (message === null) reader.#lose(brokerLost("the history was deleted"));
      else reader.#waiting.push(message);
      reader.#wake();
    };
    const offset =
      start instanceof Date
        ? { "!": "timestamp", value: Math.max(0, Math.floor(start.getTime() / 1000)) }
        : start;
    const consume = async () => {
      await channel.prefetch(PREFETCH);
      await channel.consume(stream, take, { arguments: { "x-stream-offset": offset } });
      // RabbitMQ answers `consume` before it looks for the place, and this one after that.
      await channel.prefetch(PREFETCH);
    };
    try {
      await link.answer(consume(), `reading ${stream}`);
    } catch (cause) {
      await reader.close();
      throw queueFailure(cause, stream);
    }
    return reader;
  }

  /**
   * The next message; undefined once it is closed. The broker is told when the one after it is asked for: so it sends no
   * faster than messages are taken.
   *
   * @throws Unavailable `broker-lost`
   */
  async next(): Promise<ConsumeMessage | undefined> {
    if (this.#taken !== undefined) tryAck(this.#channel, this.#taken);
    while (this.#waiting.length === 0 && !this.#isClosed) {
      if (this.#lost !== undefined) throw this.#lost;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    this.#taken = this.#isClosed ? undefined : this.#waiting.shift();
    return this.#taken;
  }

  /** The message that `next` will give, as soon as the broker has sent it; undefined if it does not in this time. */
  async peek(milliseconds: number): Promise<ConsumeMessage | undefined> {
    const until = Date.now() + milliseconds;
    while (this.#waiting.length === 0 && !this.#isClosed && Date.now() < until) {
      if (this.#lost !== undefined) throw this.#lost;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, until - Date.now());
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    return this.#waiting[0];
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#wake();
    try {
      await this.#link.answer(this.#channel.close(), "closing a channel");
    } catch {
      // It is closed already, or its link is lost.
    }
  }

  #lose(error: MentoError): void {
    this.#lost ??= error;
    this.#wake();
  }
}

/** A broker that takes no messages takes no mark of the end either: then it is when nothing has come for so long. */
const IDLE_MS = 1_000;

/**
 * All messages and events that the broker took into the history from a time, or a place, on, in their order, up to this
 * moment. The broker counts whole seconds, and begins with the first that it wrote to the stream in or after the given one.
 *
 * @param onBlocked called if the broker takes no messages; without it, reading waits until it does
 * @param stream another one that is read in the same way
 * @throws MentoError `exchange-missing` if there is no history yet
 * @throws Unavailable `broker-lost`, `broker-refused`, `publish-refused`
 */
export async function* historySince(
  client: Pick<BrokerClient, "link" | "publisher" | "topology">,
  since: Date | number,
  onBlocked?: (reason: string) => void,
  stream = client.topology.historyStream,
): AsyncGenerator<ConsumeMessage, void, undefined> {
  const reader = await HistoryReader.open(client.link, stream, since);
  try {
    const mark = randomUUID();
    let failure: { why: unknown } | undefined;
    const marked = client.publisher
      .publish({
        exchange: "",
        routingKey: stream,
        body: Buffer.alloc(0),
        properties: { messageId: mark, type: HISTORY_MARK_TYPE },
      })
      .catch((why: unknown) => void (failure = { why }));
    if (onBlocked === undefined) await marked;
    for (;;) {
      if (failure !== undefined) throw failure.why;
      if ((await reader.peek(IDLE_MS)) === undefined) {
        const { blocked } = client.link;
        if (onBlocked === undefined || blocked === undefined) continue;
        onBlocked(blocked);
        return;
      }
      const message = await reader.next();
      if (message === undefined || message.properties.messageId === mark) return;
      yield message;
    }
  } finally {
    await reader.close();
  }
}

/**
 * The place in the stream of the first message that the broker wrote to it after this second; where there is none yet, the
 * place of the next. Nothing is published: who only reads may ask, too.
 */
export async function endOfHistory(link: BrokerLink, stream: string, time: Date): Promise<number> {
  const next = secondAfter(time);
  // There is none of a second that is not over.
  const [first] = next > new Date() ? [] : await offsetsFrom(link, stream, next);
  return first ?? ((await offsetsFrom(link, stream, "last")).at(-1) ?? -1) + 1;
}

/** The broker has sent what it has by then, however busy the machine is. */
const SENT_WITHIN_MS = 5_000;

/** The places of the messages that the broker sends at once from there on. */
async function offsetsFrom(link: BrokerLink, stream: string, start: HistoryStart): Promise<number[]> {
  const reader = await HistoryReader.open(link, stream, start);
  const offsets: number[] = [];
  const until = Date.now() + IDLE_MS;
  try {
    for (let wait = SENT_WITHIN_MS; (await reader.peek(wait)) !== undefined; wait = until - Date.now()) {
      const message = await reader.next();
      if (message !== undefined) offsets.push(offsetOf(message));
    }
  } finally {
    await reader.close();
  }
  return offsets;
}

function secondAfter(time: Date): Date {
  return new Date((Math.floor(time.getTime() / 1000) + 1) * 1000);
}

/** The place in the stream of the first message that the broker wrote to it after this second; Infinity if there is none. */
export async function offsetAfter(
  client: Pick<BrokerClient, "link" | "publisher" | "topology">,
  time: Date,
): Promise<number> {
  const later = historySince(client, secondAfter(time));
  try {
    const { value } = await later.next();
    return value === undefined ? Infinity : offsetOf(value);
  } finally {
    await later.return();
  }
}
