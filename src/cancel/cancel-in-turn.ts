import { Deferred } from "../errors.ts";
import type { CancelRequest } from "../jobs/cancel-request.ts";
import type { CancelOutcome } from "../messages/job-cancel.ts";

type Cancel = (names: readonly string[], request: CancelRequest) => Promise<CancelOutcome[]>;

interface Waiting {
  names: readonly string[];
  request: CancelRequest;
  resolve: (outcomes: CancelOutcome[]) => void;
  reject: (error: unknown) => void;
}

/** Jobs that are looked for at once. */
const MOST_AT_ONCE = 1_000;

/**
 * Requests to cancel jobs, one look at all places after the other: each starts processes on every session's node and here,
 * and reads the history. Those of the same sender, for the same reason, that wait meanwhile share the next look.
 */
export class CancelInTurn {
  readonly #cancel: Cancel;
  readonly #mostWaiting: number;
  readonly #waitSeconds: () => number;
  readonly #waiting: Waiting[] = [];
  #isRunning = false;

  /**
   * @param mostWaiting requests that wait here; those beyond wait on the broker
   * @param waitSeconds how long one more waits there
   */
  constructor(cancel: Cancel, mostWaiting: number, waitSeconds: () => number) {
    this.#cancel = cancel;
    this.#mostWaiting = mostWaiting;
    this.#waitSeconds = waitSeconds;
  }

  /**
   * One outcome for each name, in their order.
   *
   * @throws Deferred `cancel-busy` where many wait already
   */
  async run(names: readonly string[], request: CancelRequest): Promise<CancelOutcome[]> {
    if (this.#waiting.length >= this.#mostWaiting) throw busy(this.#waitSeconds());
    return new Promise((resolve, reject) => {
      this.#waiting.push({ names, request, resolve, reject });
      void this.#work();
    });
  }

  async #work(): Promise<void> {
    if (this.#isRunning) return;
    this.#isRunning = true;
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      const together = [next, ...this.#takeAlike(next)];
      try {
        const all = new Set(together.flatMap(({ names }) => names));
        const outcomes = new Map(
          (await this.#cancel([...all], next.request)).map((outcome) => [outcome.job, outcome]),
        );
        for (const { names, resolve } of together)
          resolve([...new Set(names)].flatMap((name) => outcomes.get(name) ?? []));
      } catch (error) {
        for (const { reject } of together) reject(error);
      }
    }
    this.#isRunning = false;
  }

  #takeAlike({ names, request }: Waiting): Waiting[] {
    let count = names.length;
    const alike: Waiting[] = [];
    for (const one of [...this.#waiting]) {
      const isSame = one.request.who === request.who && one.request.reason === request.reason;
      if (!isSame || count + one.names.length > MOST_AT_ONCE) continue;
      count += one.names.length;
      alike.push(one);
      this.#waiting.splice(this.#waiting.indexOf(one), 1);
    }
    return alike;
  }
}

/** Silent: the message comes again after so many seconds, or somewhat later. */
function busy(waitSeconds: number): Deferred {
  return new Deferred({
    code: "cancel-busy",
    message: "Many requests to cancel jobs wait already, and are done one after the other.",
    hint: "The message comes again by itself; one message can name 1,000 jobs.",
    giveUpAfterSeconds: Infinity,
    isSilent: true,
    waitSeconds,
  });
}
