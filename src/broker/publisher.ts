import { setTimeout as sleep } from "node:timers/promises";
import { BrokerUnavailable } from "../errors.ts";
import { ConfirmChannel, sizeLimitOf, type Publish } from "./confirm-channel.ts";
import { ConfirmedOfLate } from "./confirmed-of-late.ts";
import type { BrokerLink } from "./connection.ts";

export type { Publish };

/** So long what the broker refuses is published again: it chooses a new leader for a queue in much less. */
const RETRY_FOR_MS = 20_000;
/** Of each so long, for one exchange: a client's queue that stays full does not slow down all others. */
const RETRY_ONCE_IN_MS = 5 * 60_000;
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 4_000;

interface PublisherOptions {
  /** What the publisher before this one has published last, over a link that was lost: it is published once more. */
  confirmed?: ConfirmedOfLate;
  retryForMs?: number;
}

/**
 * Publishes with confirms: a promise that resolves has been taken by the broker, into a queue.
 *
 * The broker refuses (basic.nack) for two reasons, and says not which: a queue is full and tells its publishers so
 * (`x-overflow: reject-publish`), or has just lost its leader. Then all other queues have taken the message.
 */
export class Publisher {
  readonly #link: BrokerLink;
  readonly #retryFor: number;
  readonly #confirmed: ConfirmedOfLate;
  /** Resolves when what the publisher before it had published last is published once more, or the link is lost. */
  readonly caughtUp: Promise<void>;
  #channel: ConfirmChannel;
  #renewing: Promise<void> | undefined;
  /** Exchanges, and queues of our own, that have refused; since when, and whether retrying was in vain. */
  readonly #refusals = new Map<string, { since: number; isGivenUp: boolean }>();

  private constructor(link: BrokerLink, channel: ConfirmChannel, options: PublisherOptions) {
    const { confirmed = new ConfirmedOfLate(), retryForMs = RETRY_FOR_MS } = options;
    this.#link = link;
    this.#channel = channel;
    this.#retryFor = retryForMs;
    this.#confirmed = confirmed;
    void link.lost.then(() => confirmed.forgetOld());
    this.caughtUp = this.#publishAgain();
  }

  static async open(link: BrokerLink, options: PublisherOptions = {}): Promise<Publisher> {
    return new Publisher(link, await ConfirmChannel.open(link), options);
  }

  /** The largest message that the broker takes, as far as it has said. */
  get maxBytes(): number {
    return sizeLimitOf(this.#link.place);
  }

  /**
   * What the broker refuses is published again for some time, then it is an error.
   *
   * @throws MentoError `nobody-listens`, `exchange-missing`, `publish-impossible`
   * @throws Unavailable `publish-refused`; `broker-lost`, `publish-unconfirmed`: it may have been taken; publish it again
   */
  async publish(message: Publish): Promise<void> {
    await this.#publish(message);
    this.#confirmed.add(message);
  }

  async #publish(message: Publish): Promise<void> {
    const target = message.exchange || message.routingKey;
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      const channel = await this.#freshChannel();
      if (await channel.publish(message)) return;
      if (!this.#mayRetry(target, pause)) throw refused(target);
      await sleep(pause);
    }
  }

  /** The same without a second attempt: who is told something that he can do without must hold up nobody. */
  async publishOnce(message: Publish): Promise<void> {
    const channel = await this.#freshChannel();
    if (!(await channel.publish(message))) throw refused(message.exchange || message.routingKey);
  }

  /** Never rejects: what is refused now was taken once, and its queue is full, or gone, since. */
  async #publishAgain(): Promise<void> {
    const all = this.#confirmed.take().map(async ({ message, times }) => {
      try {
        await this.#publish(message);
      } catch (error) {
        if (!(error instanceof BrokerUnavailable)) return;
      }
      this.#confirmed.add(message, times + 1);
    });
    await Promise.all(all);
  }

  /**
   * RabbitMQ 3.10 goes on refusing on a channel that has first published to a queue while that had no leader, for as
   * long as the channel lives: whoever was refused comes back over a new one.
   */
  async #freshChannel(): Promise<ConfirmChannel> {
    const { hasRefused, openedAt } = this.#channel;
    if (hasRefused && Date.now() - openedAt >= FIRST_PAUSE_MS) {
      this.#renewing ??= this.#renewChannel().finally(() => (this.#renewing = undefined));
    }
    await this.#renewing;
    return this.#channel;
  }

  async #renewChannel(): Promise<void> {
    const channel = await ConfirmChannel.open(this.#link);
    this.#channel.retire();
    this.#channel = channel;
  }

  #mayRetry(target: string, pause: number): boolean {
    const now = Date.now();
    let refusal = this.#refusals.get(target);
    if (refusal === undefined || now - refusal.since >= RETRY_ONCE_IN_MS) {
      refusal = { since: now, isGivenUp: false };
      this.#refusals.set(target, refusal);
    }
    refusal.isGivenUp ||= now + pause - refusal.since > this.#retryFor;
    return !refusal.isGivenUp;
  }
}

function refused(target: string): BrokerUnavailable {
  return new BrokerUnavailable({
    code: "publish-refused",
    message: `RabbitMQ did not take a message for ${target}: a queue that is to have it takes none.`,
    hint: `Look for a queue of ${target} that is full, with x-overflow reject-publish, and empty or unbind it; or that has no leader.`,
  });
}
