import { connect } from "amqplib";
import { setTimeout as sleep } from "node:timers/promises";

const QUEUE = "chaos.observer";
const RECONNECT_AFTER_MS = 300;

/**
 * @typedef {{ id: string, type: string, time: string, data: import("mento").JobEventData &
 *   import("mento").MessageEventData }} SeenEvent
 * @typedef {{ messageId: string, code: string, message: string, cause: string }} DeadLetter
 */

/**
 * Sees every event that was announced: from a durable queue of its own, so that none is missed while the broker or the
 * connection is away. It talks with the broker directly; no bad wire is between them.
 */
export class Observer {
  /** Everything that was delivered, also again. @type {SeenEvent[]} */
  events = [];
  #url;
  #isClosing = false;
  #following = Promise.resolve();
  /** @type {import("amqplib").ChannelModel | undefined} */
  #connection;

  /** @param {string} url */
  constructor(url) {
    this.#url = url;
  }

  /** From now on no event is missed. Needs a worker to have made the exchange. */
  async open() {
    await this.#once(async (channel) => {
      await channel.assertQueue(QUEUE, { durable: true, arguments: { "x-queue-type": "quorum" } });
      await channel.bindQueue(QUEUE, "mento.events", "#");
    });
    this.#following = this.#follow();
  }

  async close() {
    this.#isClosing = true;
    await this.#connection?.close().catch(() => undefined);
    await this.#following;
  }

  /** What is in the dead-letter queue; it stays there. @returns {Promise<DeadLetter[]>} */
  async deadLetters() {
    return this.#once(async (channel) => {
      const deadLetters = [];
      for (;;) {
        const deadLetter = await channel.get("mento.dead");
        if (deadLetter === false) return deadLetters;
        const headers = deadLetter.properties.headers ?? {};
        deadLetters.push({
          messageId: String(deadLetter.properties.messageId),
          code: String(headers["mento-error-code"] ?? "none"),
          message: String(headers["mento-error-message"] ?? JSON.stringify(headers)),
          cause: deadLetter.content.toString("utf8").slice(0, 300),
        });
      }
    });
  }

  /**
   * How many messages are in these queues, those without an acknowledgement not counted.
   *
   * @param {string[]} names
   */
  async depths(names) {
    return this.#once(async (channel) => {
      /** @type {Record<string, number>} */
      const depths = {};
      for (const name of names) depths[name] = (await channel.checkQueue(name)).messageCount;
      return depths;
    });
  }

  async #follow() {
    while (!this.#isClosing) {
      try {
        const connection = await this.#connect();
        this.#connection = connection;
        const closed = new Promise((resolve) => connection.on("close", resolve));
        const channel = await connection.createChannel();
        channel.on("error", () => undefined);
        await channel.prefetch(200);
        await channel.consume(QUEUE, (message) => {
          if (message === null) {
            // The queue's leader went away: RabbitMQ cancels its consumers.
            void connection.close().catch(() => undefined);
            return;
          }
          this.events.push(JSON.parse(message.content.toString("utf8")));
          channel.ack(message);
        });
        await closed;
      } catch {
        // The broker is being restarted.
      }
      await sleep(RECONNECT_AFTER_MS);
    }
  }

  /**
   * @template T
   * @param {(channel: import("amqplib").Channel) => Promise<T>} work
   */
  async #once(work) {
    const connection = await this.#connect();
    try {
      const channel = await connection.createChannel();
      channel.on("error", () => undefined);
      return await work(channel);
    } finally {
      await connection.close().catch(() => undefined);
    }
  }

  async #connect() {
    const url = new URL(this.#url);
    url.searchParams.set("heartbeat", "10");
    const connection = await connect(url.href, {
      timeout: 10_000,
      clientProperties: { connection_name: "chaos observer" },
    });
    connection.on("error", () => undefined);
    return connection;
  }
}
