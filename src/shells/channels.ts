/** As much of a channel as counting them takes. */
export interface CountedChannel {
  once(event: "close", listener: () => void): unknown;
}

/** The server's answer that it has no more channels to give: ssh2's error then carries a reason, RFC 4254, 5.1. */
export class ChannelRefused extends Error {}

interface Waiting<Channel> {
  resolve: (channel: Channel) => void;
  reject: (error: unknown) => void;
}

/** sshd counts a session until its process is reaped, some milliseconds after the client has seen it close. */
const FIRST_PAUSE_MS = 5;
const LONGEST_PAUSE_MS = 500;

/**
 * The channels of one connection, opened in the order in which they are asked for. sshd refuses more than its
 * MaxSessions at a time: then the next wait, and one of them is tried again after a pause, or when one has closed.
 */
export class Channels<Channel extends CountedChannel> {
  readonly #start: () => Promise<Channel>;
  readonly #patience: number;
  readonly #waiting: Waiting<Channel>[] = [];
  #open = 0;
  /** The server has refused one, and since then one at a time is asked for, until nobody waits. */
  #isShort = false;
  #isAsking = false;
  /** Since when the server has refused, without a channel opened in between. */
  #refusedSince: number | undefined;
  #pause = FIRST_PAUSE_MS;
  #retry: NodeJS.Timeout | undefined;
  #ended: { why: unknown } | undefined;

  /**
   * @param start asks the server for a channel; rejects with ChannelRefused if it has none to give
   * @param patience milliseconds that it may refuse while none of ours is open
   */
  constructor(start: () => Promise<Channel>, patience: number) {
    this.#start = start;
    this.#patience = patience;
  }

  /** @throws ChannelRefused, and whatever `start` does */
  open(): Promise<Channel> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#startNext();
    });
  }

  /** Whether there is room for a channel that nobody needs yet. */
  get hasRoom(): boolean {
    return this.#waiting.length === 0 && !this.#isShort;
  }

  /** The connection has ended. */
  end(error: unknown): void {
    this.#ended = { why: error };
    clearTimeout(this.#retry);
    this.#retry = undefined;
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }

  #startNext(): void {
    while (this.#retry === undefined && !(this.#isShort && this.#isAsking)) {
      const next = this.#waiting.shift();
      if (next === undefined) return;
      this.#isAsking = true;
      this.#start().then(
        (channel) => this.#opened(channel, next),
        (error: unknown) => this.#failed(error, next),
      );
    }
  }

  #opened(channel: Channel, { resolve }: Waiting<Channel>): void {
    this.#open += 1;
    this.#isAsking = false;
    this.#isShort = this.#isShort && this.#waiting.length > 0;
    this.#refusedSince = undefined;
    // All that the server has may be in use now: the next one waits for a channel to close.
    this.#pause = LONGEST_PAUSE_MS;
    channel.once("close", () => {
      this.#open -= 1;
      this.#pause = FIRST_PAUSE_MS;
      clearTimeout(this.#retry);
      this.#retry = undefined;
      this.#startNext();
    });
    resolve(channel);
    this.#startNext();
  }

  #failed(error: unknown, waiting: Waiting<Channel>): void {
    this.#isAsking = false;
    if (this.#ended !== undefined) {
      waiting.reject(this.#ended.why);
      return;
    }
    if (error instanceof ChannelRefused) {
      this.#isShort = true;
      this.#refusedSince ??= Date.now();
      if (this.#open > 0 || Date.now() - this.#refusedSince < this.#patience) {
        this.#waiting.unshift(waiting);
        this.#pauseThenStart();
        return;
      }
    }
    waiting.reject(error);
    this.#startNext();
  }

  #pauseThenStart(): void {
    if (this.#retry !== undefined) return;
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      this.#startNext();
    }, this.#pause);
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE_MS);
  }
}
