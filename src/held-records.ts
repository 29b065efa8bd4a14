import { setTimeout as sleep } from "node:timers/promises";

/** Tracking records of one queue that a worker holds at most. */
export const MAX_HELD = 5_000;
const LOOK_EVERY_MS = 5_000;
const HAND_ON_AT_MOST = 1_000;

export interface HeldRecordsEffects {
  /** So many records wait in the queue. */
  waiting(): Promise<number>;
  /** Has so many records go back to the queue's end. */
  handOn(count: number): void;
  /** When it does, no record is held any more. */
  lost: Promise<unknown>;
}

/**
 * The records of one queue that a worker holds. While it holds as many as it may, and others wait, it lets go of some: no
 * number of old jobs keeps a new one from being watched.
 */
export class HeldRecords {
  readonly #effects: HeldRecordsEffects;
  readonly #gone = new AbortController();
  #count = 0;
  #isTakingTurns = false;

  constructor(effects: HeldRecordsEffects) {
    this.#effects = effects;
    void effects.lost.then(() => this.#gone.abort());
  }

  /** @returns to be called when it is let go; more than once does no harm */
  take(): () => void {
    this.#count += 1;
    if (this.#count >= MAX_HELD) void this.#takeTurns();
    let isHeld = true;
    return () => {
      if (isHeld) this.#count -= 1;
      isHeld = false;
    };
  }

  async #takeTurns(): Promise<void> {
    if (this.#isTakingTurns) return;
    this.#isTakingTurns = true;
    const { signal } = this.#gone;
    while (this.#count >= MAX_HELD && !signal.aborted) {
      // A link that cannot tell is lost soon.
      const waiting = await this.#effects.waiting().catch(() => 0);
      if (waiting > 0) this.#effects.handOn(Math.min(waiting, HAND_ON_AT_MOST));
      await sleep(LOOK_EVERY_MS, undefined, { signal }).catch(() => undefined);
    }
    this.#isTakingTurns = false;
  }
}
