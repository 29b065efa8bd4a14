import { setTimeout as sleep } from "node:timers/promises";
import type { ConfirmChannel, Options } from "amqplib";
import { MentoError, Unavailable, errorText } from "../errors.ts";
import { brokerLost, type BrokerLink } from "./connection.ts";

/** After this a publish counts as unknown, and the link as lost: 15 s. While the broker blocks, no time passes. */
const CONFIRM_TIMEOUT_MS = 15_000;
/** What the broker refuses is published again after these. */
const REFUSED_PAUSES_MS = [200, 400, 800, 1600];
/** So long after that was in vain, one try must do: a client's full queue does not slow down the others. */
const REFUSING_FOR_MS = 60_000;

export interface Publish {
  exchange: string;
  routingKey: string;
  body: Buffer;
  properties: Options.Publish & { messageId: string };
}

/** Publishes with confirms: a promise that resolves has been taken by the broker, into a queue. */
export class Publisher {
  readonly #channel: ConfirmChannel;
  readonly #link: BrokerLink;
  /** The publishes that the broker has returned as unroutable; it confirms them all the same, right after. */
  readonly #returned = new Set<string>();
  readonly #waiting = new Set<(error: MentoError) => void>();
  /** Exchanges, and queues of our own, that have refused for long, and since when. */
  readonly #refusing = new Map<string, number>();

  private constructor(channel: ConfirmChannel, link: BrokerLink) {
    this.#channel = channel;
    this.#link = link;
    void link.lost.then((error) => {
      for (const give of this.#waiting) give(error ?? brokerLost("it was closed"));
    });
  }

  static async open(link: BrokerLink): Promise<Publisher> {
    const channel = await link.answer(link.publishing.createConfirmChannel(), "opening a channel");
    const publisher = new Publisher(channel, link);
    let reason = "a publishing channel was closed";
    channel.on("error", (error: Error) => (reason = error.message));
    channel.on("close", () => link.fail(channelClosed(reason)));
    channel.on("return", ({ fields, properties }) => {
      publisher.#returned.add(placeOf(fields.exchange, fields.routingKey, String(properties.messageId)));
    });
    return publisher;
  }

  /**
   * What the broker refuses (basic.nack) is published again some times. A queue that is full and says so to its
   * publishers (`x-overflow: reject-publish`) makes it refuse what all other queues have taken.
   *
   * @throws MentoError `nobody-listens`, `exchange-missing`
   * @throws Unavailable `publish-refused`; `broker-lost`, `publish-unconfirmed`: it may have been taken; publish it again
   */
  async publish(message: Publish): Promise<void> {
    const target = message.exchange || message.routingKey;
    for (let attempt = 0; ; attempt++) {
      if (await this.#publishOnce(message)) {
        this.#refusing.delete(target);
        return;
      }
      const pause = this.#isRefusing(target) ? undefined : REFUSED_PAUSES_MS[attempt];
      if (pause === undefined) throw this.#refused(target);
      await sleep(pause);
    }
  }

  /** False if the broker refused it. */
  #publishOnce({ exchange, routingKey, body, properties }: Publish): Promise<boolean> {
    return new Promise((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined;
      const end = () => {
        clearTimeout(timer);
        this.#waiting.delete(give);
      };
      const give = (error: MentoError) => {
        end();
        reject(error);
      };
      const limitTime = () => {
        timer = setTimeout(() => {
          if (this.#link.blocked !== undefined) {
            void this.#link.whenUnblocked().then(() => {
              if (this.#waiting.has(give)) limitTime();
            });
            return;
          }
          const error = unconfirmed();
          give(error);
          this.#link.fail(error);
        }, CONFIRM_TIMEOUT_MS);
      };
      limitTime();
      this.#waiting.add(give);
      const onConfirm = (error: unknown) => {
        // amqplib tells the two apart by their text alone.
        if (error instanceof Error && error.message === "message nacked") {
          end();
          resolve(false);
        } else if (error !== null && error !== undefined) {
          // A closed channel says why only after this; then all that wait get that reason.
          setImmediate(() => this.#link.fail(brokerLost(errorText(error), error)));
        } else if (this.#returned.delete(placeOf(exchange, routingKey, properties.messageId))) {
          give(nobodyListens(exchange, routingKey));
        } else {
          end();
          resolve(true);
        }
      };
      try {
        const options = { ...properties, persistent: true, mandatory: true };
        this.#channel.publish(exchange, routingKey, body, options, onConfirm);
      } catch (cause) {
        give(brokerLost(errorText(cause), cause));
      }
    });
  }

  #isRefusing(target: string): boolean {
    const since = this.#refusing.get(target);
    return since !== undefined && Date.now() - since < REFUSING_FOR_MS;
  }

  #refused(target: string): Unavailable {
    if (!this.#isRefusing(target)) this.#refusing.set(target, Date.now());
    return new Unavailable({
      code: "publish-refused",
      message: `RabbitMQ did not take a message for ${target}: a queue that is to have it takes no more.`,
      hint: `Look for a full queue with x-overflow reject-publish, and empty or unbind it; ${target} names it or its exchange.`,
    });
  }
}

function placeOf(exchange: string, routingKey: string, messageId: string): string {
  return JSON.stringify([exchange, routingKey, messageId]);
}

/** The broker closes a channel that publishes to an exchange which does not exist. */
function channelClosed(reason: string): MentoError {
  const exchange = /no exchange '([^']*)'/.exec(reason)?.[1];
  return exchange === undefined ? brokerLost(reason) : exchangeMissing(exchange);
}

export function exchangeMissing(exchange: string, cause?: unknown): MentoError {
  return new MentoError({
    code: "exchange-missing",
    message: `The broker has no exchange ${exchange}.`,
    hint: "A worker makes it when it starts: start one with `mento worker`; or check broker.prefix and the virtual host.",
    cause,
  });
}

function nobodyListens(exchange: string, routingKey: string): MentoError {
  return new MentoError({
    code: "nobody-listens",
    message: `The broker has no queue for ${routingKey} on ${exchange === "" ? "the default exchange" : exchange}.`,
    hint: "Start a worker once with `mento worker`: it makes the queues, and they stay.",
  });
}

function unconfirmed(): Unavailable {
  return new Unavailable({
    code: "publish-unconfirmed",
    message: `RabbitMQ did not confirm a message within ${CONFIRM_TIMEOUT_MS / 1000} s.`,
    hint: "The broker may be short of memory or disk; Mento publishes the message again under the same id.",
  });
}
