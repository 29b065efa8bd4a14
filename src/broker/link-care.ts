import type { Origin } from "../messages/origin.ts";

export interface LinkCareOptions {
  /** A link that was given up within so many seconds may have been lost by a message. */
  soonSeconds: number;
  /** The same for one that the broker or the network closed: only of a broker that accepts and closes at once. */
  atOnceSeconds: number;
}

/** A publish that is not confirmed gives its link up after 15 s. */
const USUAL: LinkCareOptions = { soonSeconds: 20, atOnceSeconds: 3 };

/** After so many links in a row that were lost soon, messages are handled one at a time. */
const CAREFUL_AFTER = 2;
/** What alone was being handled when a link was lost, so often, is what loses them. */
const BLAMED_AFTER = 2;

/**
 * Finds the message that loses a worker's link to the broker, time and again: the broker closes a channel for what was
 * published on it, and with the link all other messages come back, too. A worker whose links are lost soon, one after the
 * other, handles one message at a time until it knows which one does it.
 */
export class LinkCare {
  readonly #options: LinkCareOptions;
  #openedAt = 0;
  #lostSoon = 0;
  #isCareful = false;
  #ending: NodeJS.Timeout | undefined;
  #whenCalm: (() => void)[] = [];
  #turn: Promise<void> = Promise.resolve();
  #inHand: { message: string } | undefined;
  /** How often a link was lost while this alone was being handled. */
  readonly #blames = new Map<string, number>();

  constructor(options = USUAL) {
    this.#options = options;
  }

  /** How many links in a row were lost soon. */
  get lostSoon(): number {
    return this.#lostSoon;
  }

  /** Whether messages are handled one at a time. */
  get isCareful(): boolean {
    return this.#isCareful;
  }

  opened(): void {
    this.#openedAt = Date.now();
    this.#turn = Promise.resolve();
    this.#inHand = undefined;
    this.#isCareful = this.#lostSoon >= CAREFUL_AFTER;
    this.hasComeBack();
  }

  /** @param wasGivenUp by this worker, or for what it had sent */
  lost(wasGivenUp: boolean): void {
    const { soonSeconds, atOnceSeconds } = this.#options;
    const lasted = (Date.now() - this.#openedAt) / 1000;
    const isSoon = this.#isCareful || lasted < (wasGivenUp ? soonSeconds : atOnceSeconds);
    this.#lostSoon = isSoon ? this.#lostSoon + 1 : 0;
    clearTimeout(this.#ending);
    if (!isSoon) this.#blames.clear();
    if (!wasGivenUp || this.#inHand === undefined) return;
    const { message } = this.#inHand;
    this.#blames.set(message, (this.#blames.get(message) ?? 0) + 1);
  }

  /** A message was delivered again: what came back with it is still to come, and care goes on. */
  hasComeBack(): void {
    if (!this.#isCareful) return;
    clearTimeout(this.#ending);
    this.#ending = setTimeout(() => this.#end(), this.#options.soonSeconds * 1000).unref();
  }

  /** Resolves when several may be handled at a time again; never on a link that is lost before. */
  whenCalm(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#isCareful) this.#whenCalm.push(resolve);
      else resolve();
    });
  }

  /** Does this part of the handling of a message; while there is care, when no other is being handled. */
  async handle<T>(message: string, work: () => Promise<T>): Promise<T> {
    if (!this.#isCareful) return work();
    const [before, openedAt] = [this.#turn, this.#openedAt];
    let done = (): void => undefined;
    this.#turn = new Promise((resolve) => (done = resolve));
    await before;
    const inHand = { message };
    // What is left of a link that was lost is to blame for nothing on the next.
    if (openedAt === this.#openedAt) this.#inHand = inHand;
    try {
      return await work();
    } finally {
      if (this.#inHand === inHand) this.#inHand = undefined;
      done();
    }
  }

  losesLinks(message: string): boolean {
    return (this.#blames.get(message) ?? 0) >= BLAMED_AFTER;
  }

  /** It is put away: sent again, it is tried again. */
  forget(message: string): void {
    this.#blames.delete(message);
  }

  #end(): void {
    this.#isCareful = false;
    this.#openedAt = Date.now();
    for (const resolve of this.#whenCalm.splice(0)) resolve();
  }
}

/** By which {@link LinkCare} knows a message. */
export function careName({ cause }: Pick<Origin, "cause">): string {
  return JSON.stringify([cause.source, cause.id]);
}
