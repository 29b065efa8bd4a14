import type { ConfirmChannel, Options } from "amqplib";
import { MentoError, Unavailable, errorText } from "../errors.ts";
import { brokerLost, type BrokerLink } from "./connection.ts";

/** After this a publish counts as unknown, and the link as lost: 15 s. */
const CONFIRM_TIMEOUT_MS = 15_000;

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

  private constructor(channel: ConfirmChannel, link: BrokerLink) {
    this.#channel = channel;
    this.#link = link;
    void link.lost.then((error) => {
      for (const give of this.#waiting) give(error ?? brokerLost("it was closed"));
    });
  }

  static async open(link: BrokerLink): Promise<Publisher> {
    const channel = await link.publishing.createConfirmChannel();
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
   * @throws MentoError `nobody-listens`, `exchange-missing`
   * @throws Unavailable `broker-lost`, `publish-unconfirmed`: it may have been taken; publish it again
   */
  publish({ exchange, routingKey, body, properties }: Publish): Promise<void> {
    return new Promise((resolve, reject) => {
      const give = (error: MentoError) => {
        clearTimeout(timer);
        this.#waiting.delete(give);
        reject(error);
      };
      const timer = setTimeout(() => {
        const error = unconfirmed();
        give(error);
        this.#link.fail(error);
      }, CONFIRM_TIMEOUT_MS);
      this.#waiting.add(give);
      const onConfirm = (error: unknown) => {
        if (error !== null && error !== undefined) {
          // A closed channel says why only after this; then all that wait get that reason.
          setImmediate(() => this.#link.fail(brokerLost(errorText(error), error)));
        } else if (this.#returned.delete(placeOf(exchange, routingKey, properties.messageId))) {
          give(nobodyListens(exchange, routingKey));
        } else {
          clearTimeout(timer);
          this.#waiting.delete(give);
          resolve();
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

export function queueMissing(queue: string, cause?: unknown): MentoError {
  return new MentoError({
    code: "exchange-missing",
    message: `The broker has no queue ${queue}.`,
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
