import { within } from "../time/within.ts";

/** Tracking records of one queue that a worker holds at most, give or take {@link RECORDS_AT_ONCE}. */
export const MAX_HELD = 5_000;
/** The bytes of those together, twice as many in memory if their texts are not Latin. One has 1 MiB at most. */
export const MAX_HELD_BYTES = 64 * 1024 * 1024;
/** So many are asked for at once: between, a worker looks at how much it holds. */
export const RECORDS_AT_ONCE = 64;
const LOOK_EVERY_MS = 5_000;

export interface HeldRecordsDeps {
  /** Has {@link RECORDS_AT_ONCE} more records delivered, however many are un-acked. */
  ask(): Promise<void>;
  /** So many records wait in the queue. */
  waiting(): Promise<number>;
  /** Has so many records go back to the queue's end. */
  handOn(count: number): void;
  /** When it does, no record is held any more. */
  lost: Promise<unknown>;
}

/**
 * The records of one queue that a worker holds. While it holds as many as it may, and others wait, it lets go of some: no
 * number of old jobs, and no size of their messages, keeps a new one from being watched.
 */
export class HeldRecords {
  readonly #deps: HeldRecordsDeps;
  readonly #gone = new AbortController();
  #count = 0;
  #bytes = 0;
  /** How often records were asked for, and how many of the last ones may still come. */
  #asked = 0;
  #toCome = RECORDS_AT_ONCE;
  #isAsking = false;
  #isRotating = false;

  constructor(deps: HeldRecordsDeps) {
    this.#deps = deps;
    void deps.lost.then(() => this.#gone.abort());
  }

  /** @returns to be called when it is let go; more than once does no harm */
  take(bytes: number): () => void {
    this.#count += 1;
    this.#bytes += bytes;
    this.#toCome -= 1;
    const asked = this.#asked;
    void this.#askForMore();
    if (this.#isFull) void this.#rotate();
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      this.#count -= 1;
      this.#bytes -= bytes;
      // RabbitMQ sends another for it.
      if (asked === this.#asked) this.#toCome += 1;
      void this.#askForMore();
    };
  }

  get #isFull(): boolean {
    return this.#count >= MAX_HELD || this.#bytes >= MAX_HELD_BYTES;
  }

  async #askForMore(): Promise<void> {
    if (this.#toCome > 0 || this.#isFull || this.#isAsking || this.#gone.signal.aborted) return;
    this.#isAsking = true;
    this.#asked += 1;
    this.#toCome = RECORDS_AT_ONCE;
    // A link that does not answer is lost.
    await this.#deps.ask().catch(() => undefined);
    this.#isAsking = false;
    void this.#askForMore();
  }

  async #rotate(): Promise<void> {
    if (this.#isRotating) return;
    this.#isRotating = true;
    const { signal } = this.#gone;
    while (this.#isFull && !signal.aborted) {
      // A link that cannot tell is lost soon.
      const waiting = await this.#deps.waiting().catch(() => 0);
      // Large ones are few.
      const part = this.#count >= MAX_HELD ? 5 : 2;
      if (waiting > 0) this.#deps.handOn(Math.min(waiting, Math.ceil(this.#count / part)));
      await within(LOOK_EVERY_MS, this.#deps.lost);
    }
    this.#isRotating = false;
  }
}
