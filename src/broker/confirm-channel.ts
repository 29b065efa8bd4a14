import { IllegalOperationError, type ConfirmChannel as AmqpChannel, type Options } from "amqplib";
import { BrokerUnavailable, errorText, MentoError } from "../errors.ts";
import { brokerLost, type BrokerLink } from "./connection.ts";

/** After this a publish counts as unknown, and the link as lost: 15 s. While the broker blocks, no time passes. */
const CONFIRM_TIMEOUT_MS = 15_000;

export interface Publish {
  exchange: string;
  routingKey: string;
  body: Buffer;
  properties: Options.Publish & { messageId: string };
}

/** A channel whose publishes the broker confirms. When it breaks, the whole link is given up. */
export class ConfirmChannel {
  readonly openedAt = Date.now();
  /** Whether the broker has refused something that was published over it. */
  hasRefused = false;
  /** What could not be encoded is counted as published: from then on amqplib takes one confirm for another's. */
  #isMiscounting = false;
  readonly #channel: AmqpChannel;
  readonly #link: BrokerLink;
  /** The publishes that the broker has returned as unroutable; it confirms them all the same, right after. */
  readonly #returned = new Set<string>();
  readonly #waiting = new Set<(error: MentoError) => void>();
  #isRetired = false;
  /** What the broker closed it for; its connection has another reason. */
  #closedFor: string | undefined;

  private constructor(channel: AmqpChannel, link: BrokerLink) {
    this.#channel = channel;
    this.#link = link;
    // Weakly: a link may live for months, and have many channels.
    const waiting = new WeakRef(this.#waiting);
    void link.lost.then((error) => {
      for (const give of waiting.deref() ?? []) give(error ?? brokerLost("it was closed"));
    });
    channel.on("error", (error: Error) => {
      this.#closedFor = error.message;
      noteSizeLimit(link.place, error.message);
    });
    channel.on("close", () => {
      if (this.#isRetired) return;
      // If it closed with its connection, that one says why, right after.
      setImmediate(() => link.fail(channelClosed(this.#closedFor ?? "a publishing channel was closed")));
    });
    channel.on("return", ({ fields, properties }) => {
      this.#returned.add(placeOf(fields.exchange, fields.routingKey, String(properties.messageId)));
    });
  }

  static async open(link: BrokerLink): Promise<ConfirmChannel> {
    const channel = await link.answer(link.publishing.createConfirmChannel(), "opening a channel");
    return new ConfirmChannel(channel, link);
  }

  /**
   * @returns false if the broker refused it (basic.nack), or it is to be published over another channel
   * @throws MentoError `nobody-listens`, `exchange-missing`, `publish-impossible`
   * @throws Unavailable `broker-lost`, `publish-unconfirmed`: it may have been taken
   */
  publish({ exchange, routingKey, body, properties }: Publish): Promise<boolean> {
    if (this.#isMiscounting) return Promise.resolve(false);
    const limit = sizeLimitOf(this.#link.place);
    if (body.length > limit) return Promise.reject(tooLarge(body.length, limit));
    return new Promise((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined;
      const end = () => {
        clearTimeout(timer);
        this.#waiting.delete(give);
        this.#closeIfRetired();
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
          this.hasRefused = true;
          end();
          resolve(false);
        } else if (error !== null && error !== undefined) {
          // All that wait get the reason, which may be the connection's, right after.
          setImmediate(() => this.#link.fail(channelClosed(this.#closedFor ?? errorText(error))));
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
        if (cause instanceof IllegalOperationError) {
          give(brokerLost(errorText(cause), cause));
          return;
        }
        this.#isMiscounting = true;
        this.hasRefused = true;
        give(impossible(errorText(cause), cause));
      }
    });
  }

  /** Closes it as soon as nothing is under way on it. */
  retire(): void {
    this.#isRetired = true;
    this.#closeIfRetired();
  }

  #closeIfRetired(): void {
    if (!this.#isRetired || this.#waiting.size > 0) return;
    this.#channel.close().catch(() => undefined);
  }
}

/** An operator may raise the limit meanwhile: what is not tried again for ever could hold up a message for ever. */
const LIMIT_HOLDS_MS = 60_000;

/** What brokers have said of the largest message that they take, by their place, and until when it holds. */
const SIZE_LIMITS = new Map<string, { bytes: number; until: number }>();

/** In bytes; as far as the broker there has said of late. */
export function sizeLimitOf(place: string): number {
  const known = SIZE_LIMITS.get(place);
  return known !== undefined && Date.now() < known.until ? known.bytes : Infinity;
}

/** RabbitMQ says so when it closes the channel; the same message would be refused again, and its channel lost again. */
function noteSizeLimit(place: string, said: string): void {
  const [, limit] = /message size \d+ is larger than (?:configured )?max size (\d+)/.exec(said) ?? [];
  if (limit !== undefined)
    SIZE_LIMITS.set(place, { bytes: Number(limit), until: Date.now() + LIMIT_HOLDS_MS });
}

function tooLarge(bytes: number, limit: number): MentoError {
  return new MentoError({
    code: "publish-impossible",
    message: `A message of ${bytes} bytes cannot be published: RabbitMQ takes at most ${limit}.`,
    hint: "Set RabbitMQ's max_message_size to 2 MiB or more, or worker.maxEventBytes to less.",
  });
}

function impossible(why: string, cause: unknown): MentoError {
  return new MentoError({
    code: "publish-impossible",
    message: `A message cannot be written in AMQP: ${why}.`,
    hint: "This is a bug: please report it with the message.",
    cause,
  });
}

function placeOf(exchange: string, routingKey: string, messageId: string): string {
  return JSON.stringify([exchange, routingKey, messageId]);
}

/** The broker closes a channel that publishes to an exchange which does not exist. */
function channelClosed(reason: string): MentoError {
  if (/ACCESS.REFUSED/.test(reason)) return mayNotPublish(reason);
  const exchange = /no exchange '([^']*)'/.exec(reason)?.[1];
  return exchange === undefined ? brokerLost(reason) : exchangeMissing(exchange);
}

function mayNotPublish(reason: string): BrokerUnavailable {
  return new BrokerUnavailable({
    code: "broker-refused",
    message: `RabbitMQ does not let this login publish there: ${reason}.`,
    hint: "Take the login of a detector, or of a worker: docs/security.md has the permissions of each.",
  });
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

function unconfirmed(): BrokerUnavailable {
  return new BrokerUnavailable({
    code: "publish-unconfirmed",
    message: `RabbitMQ did not confirm a message within ${CONFIRM_TIMEOUT_MS / 1000} s.`,
    hint: "The broker may be short of memory or disk; Mento publishes the message again under the same id.",
  });
}
