import type { Channel, GetMessage } from "amqplib";
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { MentoError, errorText } from "../errors.ts";
import { beforeReturn, readDeadLetter, type DeadLetter } from "../messages/dead-letter.ts";
import type { BrokerClient } from "./client.ts";
import { brokerLost } from "./connection.ts";
import { queueFailure, requireSafeDeadLetters } from "./topology.ts";

/** So long a command waits until another one is done with the dead letters. */
const LOCK_TIMEOUT_MS = 10_000;
const LOCK_RETRY_MS = 250;

/** Marks the end of what was there when a reading began; never of a worker, which writes no such header. */
const MARK_HEADER = "mento-mark";

/**
 * The dead letters, for one reader at a time. What it has read is out of the queue until `close`, which puts back what
 * was not removed, in its old place; if the reader dies, the broker does that.
 *
 * Reading publishes nothing. What has been put back as often as a policy lets it, RabbitMQ moves to a second queue, which
 * has no such limit and is read too.
 */
export class DeadLetters {
  readonly #client: BrokerClient;
  readonly #queue: string;
  readonly #returned: string;
  readonly #lock: Channel;
  readonly #channel: Channel;
  readonly #held = new Map<DeadLetter, GetMessage>();
  readonly #kept = new Set<DeadLetter>();

  private constructor(client: BrokerClient, lock: Channel, channel: Channel) {
    this.#client = client;
    this.#queue = client.topology.deadQueue;
    this.#returned = client.topology.returnedQueue;
    this.#lock = lock;
    this.#channel = channel;
  }

  /**
   * @throws MentoError `dead-letters-busy`, `exchange-missing` if there is no such queue yet
   * @throws Misconfigured `queue-arguments-differ` if reading would delete what has been read too often
   * @throws Unavailable `broker-lost`, `broker-refused`
   */
  static async open(client: BrokerClient): Promise<DeadLetters> {
    const { link, topology } = client;
    const { deadQueue, returnedQueue } = topology;
    const lock = await takeLock(client, lockOf(deadQueue));
    const channel = await openChannel(client);
    for (const queue of [deadQueue, returnedQueue]) {
      try {
        await link.answer(channel.checkQueue(queue), `looking for ${queue}`);
      } catch (cause) {
        throw queueFailure(cause, queue);
      }
    }
    await requireSafeDeadLetters(link, topology);
    return new DeadLetters(client, lock, channel);
  }

  /**
   * Gives one letter after the other, the oldest first. With `onlyPresent` not those that come meanwhile: a letter that
   * is sent to its queue can be back before the end is reached.
   *
   * A letter that is neither kept nor removed when the next one is asked for is let go of, and its body with it.
   *
   * @throws Unavailable `broker-lost`
   */
  async *read({ onlyPresent = false } = {}): AsyncGenerator<DeadLetter, void, undefined> {
    const end = onlyPresent ? await this.#markEnd() : undefined;
    for (const queue of [this.#returned, this.#queue]) {
      for (;;) {
        const message = await this.#ask(() => this.#channel.get(queue), "reading a dead letter");
        if (message === false) break;
        const deadLetter = readDeadLetter(
          queue === this.#returned ? beforeReturn(message, this.#queue) : message,
        );
        if (deadLetter.received.ours[MARK_HEADER] !== undefined) {
          // One of a reader that has died is of no use to anybody.
          this.#ack(message);
          if (message.properties.messageId === end) break;
          continue;
        }
        this.#held.set(deadLetter, message);
        yield deadLetter;
        if (!this.#kept.has(deadLetter)) this.#held.delete(deadLetter);
      }
    }
  }

  /**
   * @throws Unavailable `broker-lost` if what was read is not held any more
   */
  async requireThere(): Promise<void> {
    await this.#ask(() => this.#channel.checkQueue(this.#queue), `looking for ${this.#queue}`);
  }

  /** It is to be removed later, perhaps. */
  keep(deadLetter: DeadLetter): void {
    this.#kept.add(deadLetter);
  }

  /** Takes it from the queue for good; `close` makes sure of it. */
  remove(deadLetter: DeadLetter): void {
    const message = this.#held.get(deadLetter);
    if (message === undefined) return;
    this.#ack(message);
    this.#held.delete(deadLetter);
  }

  /** Puts back what was not removed. When this resolves, the broker has done all of it. */
  async close(): Promise<void> {
    this.#held.clear();
    const putBack = async () => {
      // By name, not by closing: so they are back before the next reader can have the lock.
      this.#channel.nackAll(true);
      await this.#channel.close();
      await this.#lock.deleteQueue(lockOf(this.#queue));
      await this.#lock.close();
    };
    await this.#ask(putBack, "putting dead letters back");
  }

  async #markEnd(): Promise<string> {
    const messageId = randomUUID();
    await this.#client.publisher.publish({
      exchange: "",
      routingKey: this.#queue,
      body: Buffer.alloc(0),
      properties: { messageId, headers: { [MARK_HEADER]: "the end of what one command reads" } },
    });
    return messageId;
  }

  /** An ack has no answer, and throws on a channel that is closed. */
  #ack(message: GetMessage): void {
    try {
      this.#channel.ack(message);
    } catch (cause) {
      throw brokerLost(errorText(cause), cause);
    }
  }

  async #ask<T>(ask: () => Promise<T>, what: string): Promise<T> {
    try {
      return await this.#client.link.answer(ask(), what);
    } catch (cause) {
      throw queueFailure(cause, this.#queue);
    }
  }
}

function lockOf(queue: string): string {
  return `${queue}.reading`;
}

/**
 * An exclusive queue is its connection's alone, and goes with it: a lock that nobody can forget to give back.
 */
async function takeLock(client: BrokerClient, name: string): Promise<Channel> {
  const until = Date.now() + LOCK_TIMEOUT_MS;
  for (;;) {
    // RabbitMQ closes the channel that asks for what is another's.
    const channel = await openChannel(client);
    try {
      const asked = channel.assertQueue(name, { exclusive: true, durable: false });
      await client.link.answer(asked, `declaring ${name}`);
      return channel;
    } catch (cause) {
      if (!/RESOURCE.LOCKED/.test(errorText(cause))) throw queueFailure(cause, name);
      if (Date.now() > until) throw isBusy(client.topology.deadQueue, cause);
    }
    await sleep(LOCK_RETRY_MS);
  }
}

async function openChannel({ link }: BrokerClient): Promise<Channel> {
  const channel = await link.answer(link.consuming.createChannel(), "opening a channel");
  channel.on("error", () => undefined);
  return channel;
}

function isBusy(queue: string, cause: unknown): MentoError {
  return new MentoError({
    code: "dead-letters-busy",
    message: `Another command has been at the dead letters of ${queue} for ${LOCK_TIMEOUT_MS / 1000} s.`,
    hint: "They are read by one at a time: wait until it has ended; the end of one that was cut off shows after half a minute.",
    cause,
  });
}
