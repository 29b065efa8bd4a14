import { setTimeout as sleep } from "node:timers/promises";

/** Tracking records of one queue that a worker holds at most. */
export const MAX_HELD = 5_000;
/** What they have in all: as objects of JavaScript's they take ten times as much. */
const MOST_HELD_BYTES = 32 * 1024 * 1024;
/** So many more are asked for, time and again, while few bytes are held. */
const STEP = 250;
const LOOK_EVERY_MS = 5_000;
const HAND_ON_AT_MOST = 1_000;

export interface HeldRecordsEffects {
  /** So many records wait in the queue. */
  waiting(): Promise<number>;
  /** Has so many records go back to the queue's end. */
  handOn(count: number): void;
  /** So many are to be held at once from now on. */
  widen(prefetch: number): void;
  /** When it does, no record is held any more. */
  lost: Promise<unknown>;
}

/**
 * The records of one queue that a worker holds, by number and bytes. While it holds as many as it may, and others wait, it
 * lets go of some: no number of old jobs keeps a new one from being watched.
 */
export class HeldRecords {
  readonly #effects: HeldRecordsEffects;
  readonly #gone = new AbortController();
  #count = 0;
  #bytes = 0;
  #prefetch = STEP;
  #isTakingTurns = false;

  constructor(effects: HeldRecordsEffects) {
    this.#effects = effects;
    void effects.lost.then(() => this.#gone.abort());
  }

  /** So many are to be held at once. */
  get prefetch(): number {
    return this.#prefetch;
  }

  /** @returns to be called when it is let go; more than once does no harm */
  take(bytes: number): () => void {
    this.#count += 1;
    this.#bytes += bytes;
    if (this.#isFull) void this.#takeTurns();
    else if (this.#count >= this.#prefetch) {
      this.#prefetch += STEP;
      this.#effects.widen(this.#prefetch);
    }
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      this.#count -= 1;
      this.#bytes -= bytes;
    };
  }

  get #isFull(): boolean {
    return this.#count >= MAX_HELD || this.#bytes >= MOST_HELD_BYTES;
  }

  async #takeTurns(): Promise<void> {
    if (this.#isTakingTurns) return;
    this.#isTakingTurns = true;
    const { signal } = this.#gone;
    while (this.#isFull && !signal.aborted) {
      // A link that cannot tell is lost soon.
      const waiting = await this.#effects.waiting().catch(() => 0);
      if (waiting > 0) this.#effects.handOn(Math.min(waiting, HAND_ON_AT_MOST));
      await sleep(LOOK_EVERY_MS, undefined, { signal }).catch(() => undefined);
    }
    this.#isTakingTurns = false;
  }
}
