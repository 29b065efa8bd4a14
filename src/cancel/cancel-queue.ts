import { Deferred } from "../errors.ts";
import type { CancelRequest } from "../jobs/cancel-request.ts";
import type { CancelOutcome } from "../messages/job-cancel.ts";
import { within } from "../time/within.ts";

type Cancel = (
  names: readonly string[],
  request: CancelRequest,
  told: (outcome: CancelOutcome) => void,
) => Promise<CancelOutcome[]>;

interface Waiting {
  names: readonly string[];
  request: CancelRequest;
  resolve: (outcomes: CancelOutcome[]) => void;
  reject: (error: unknown) => void;
}

/** Jobs that are looked for at once. */
const MOST_AT_ONCE = 1_000;
/** A look that takes longer waits for a node, and uses next to nothing: the next one need not wait for it. */
const NEXT_AFTER_MS = 500;

/**
 * Requests to cancel jobs, one look at all places after the other: each starts processes on every session's node and here,
 * and reads the history. Those of the same sender, for the same reason, that wait meanwhile share the next look; each is
 * answered when its own jobs are settled, for a node may hang.
 */
export class CancelQueue {
  readonly #cancel: Cancel;
  readonly #mostHeld: number;
  readonly #waitSeconds: () => number;
  #waiting: Waiting[] = [];
  #held = 0;
  #isWorking = false;

  /**
   * @param mostHeld requests that are here; those beyond wait on the broker
   * @param waitSeconds how long one more waits there
   */
  constructor(cancel: Cancel, mostHeld: number, waitSeconds: () => number) {
    this.#cancel = cancel;
    this.#mostHeld = mostHeld;
    this.#waitSeconds = waitSeconds;
  }

  /**
   * One outcome for each name, in their order.
   *
   * @throws Deferred `cancel-busy` where many are here already
   */
  async run(names: readonly string[], request: CancelRequest): Promise<CancelOutcome[]> {
    if (this.#held >= this.#mostHeld) throw busy(this.#waitSeconds());
    this.#held += 1;
    try {
      return await new Promise((resolve, reject) => {
        this.#waiting.push({ names, request, resolve, reject });
        void this.#work();
      });
    } finally {
      this.#held -= 1;
    }
  }

  /** Those that wait do not get a turn any more. */
  refuseWaiting(why: Error): void {
    for (const { reject } of this.#waiting.splice(0)) reject(why);
  }

  async #work(): Promise<void> {
    if (this.#isWorking) return;
    this.#isWorking = true;
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift())
      await within(NEXT_AFTER_MS, this.#look([next, ...this.#takeAlike(next)], next.request));
    this.#isWorking = false;
  }

  /** Never rejects. */
  async #look(together: readonly Waiting[], request: CancelRequest): Promise<void> {
    const outcomes = new Map<string, CancelOutcome>();
    const open = together.map((one) => ({ ...one, missing: new Set(one.names) }));
    const told = (outcome: CancelOutcome) => {
      outcomes.set(outcome.job, outcome);
      for (const { names, missing, resolve } of open)
        if (missing.delete(outcome.job) && missing.size === 0)
          resolve([...new Set(names)].flatMap((name) => outcomes.get(name) ?? []));
    };
    try {
      const all = new Set(together.flatMap(({ names }) => names));
      for (const outcome of await this.#cancel([...all], request, told)) told(outcome);
    } catch (error) {
      for (const { reject } of together) reject(error);
    }
  }

  #takeAlike({ names, request }: Waiting): Waiting[] {
    let count = names.length;
    const alike = this.#waiting.filter((one) => {
      const isSame = one.request.who === request.who && one.request.reason === request.reason;
      if (!isSame || count + one.names.length > MOST_AT_ONCE) return false;
      count += one.names.length;
      return true;
    });
    this.#waiting = this.#waiting.filter((one) => !alike.includes(one));
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
