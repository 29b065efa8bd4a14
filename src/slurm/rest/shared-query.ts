import { within } from "../../time/within.ts";
/** How old an answer may be, and how long nobody asks again after a failure. */
const GOOD_FOR_MS = 3000;

/** A server that works has answered by then, on a busy machine too. */
const ANSWERS_WITHIN_MS = 2000;

interface Look<T> {
  askedAt: number;
  answer: Promise<T>;
  /** Milliseconds; Infinity while it is under way. */
  until: number;
  failed: { why: unknown } | undefined;
  /** Of the look before. */
  before: { why: unknown } | undefined;
}

/**
 * A question that is asked once for all who want to know. Failures are shared as answers are; and while somebody asks
 * again after one, the others wait a moment at most and are then told the last: whoever waits for a server that hangs
 * keeps others from their turn, and whoever does not wait at all comes back long after one that works again.
 */
export class SharedQuery<T> {
  readonly #ask: () => Promise<T>;
  #last: Look<T> | undefined;

  constructor(ask: () => Promise<T>) {
    this.#ask = ask;
  }

  /** What was said seconds ago will do, if it was asked for not before this time (milliseconds). */
  async get(notBefore: number): Promise<T> {
    const last = this.#last;
    if (last === undefined || Date.now() >= last.until || last.askedAt < notBefore) return this.#askAgain();
    if (last.until !== Infinity || last.before === undefined) return last.answer;
    return orAfter(last.askedAt + ANSWERS_WITHIN_MS - Date.now(), last.before.why, last.answer);
  }

  /** Seen by somebody who asked something else. */
  fail(why: Error): void {
    const last = this.#last;
    // Under way, it will find out for itself.
    if (last?.until === Infinity) return;
    const answer = Promise.reject(why);
    answer.catch(() => undefined);
    const askedAt = Date.now();
    this.#last = { askedAt, answer, until: askedAt + GOOD_FOR_MS, failed: { why }, before: undefined };
  }

  #askAgain(): Promise<T> {
    const last = this.#last;
    const look: Look<T> = {
      askedAt: Date.now(),
      answer: this.#ask(),
      until: Infinity,
      failed: undefined,
      before: last?.until === Infinity ? last.before : last?.failed,
    };
    this.#last = look;
    const settled = (failed?: { why: unknown }) => {
      look.failed = failed;
      look.until = Date.now() + GOOD_FOR_MS;
    };
    look.answer.then(
      () => settled(),
      (why: unknown) => settled({ why }),
    );
    return look.answer;
  }
}

/** The answer, or this failure if there is none in so many milliseconds. */
async function orAfter<T>(milliseconds: number, why: unknown, answer: Promise<T>): Promise<T> {
  if (milliseconds <= 0) throw why;
  const first = await within(milliseconds, answer);
  if ("isLate" in first) throw why;
  return first.value;
}
