import { busy } from "./admission.ts";
import type { Session } from "../beamtime/session.ts";
import type { SubmitTarget, SubmitOptions, SubmittedJob } from "../submission/method.ts";
import type { ArrayMember } from "../submission/sbatch-array.ts";
import type { Requirements } from "../submission/submit-targets.ts";
import type { JobPlan } from "../triggers/plan.ts";
import type { Trigger } from "../triggers/trigger-config.ts";

/** What submitting an array needs from outside. */
export interface ArrayDeps {
  /** Waits for the session's turn to submit; an array is one submit. */
  enter: (session: Session, jobs: number, priority: number) => Promise<() => void>;
  targetFor: (session: Session | null, requirements: Requirements) => Promise<SubmitTarget>;
  submitArray: (
    members: readonly ArrayMember[],
    target: SubmitTarget,
  ) => Promise<PromiseSettledResult<SubmittedJob>[]>;
  /** Whether this is the one session whose messages come. */
  isOnlySession: (session: Session) => Promise<boolean>;
}

/** A submitted job, and where it was submitted. */
export interface Collected {
  job: SubmittedJob;
  target: SubmitTarget;
}

interface Waiting extends ArrayMember {
  resolve: (collected: Collected) => void;
  reject: (error: unknown) => void;
}

interface Collection {
  session: Session;
  trigger: Trigger;
  program: string | undefined;
  waiting: Waiting[];
  /** What messages give the jobs, in all. */
  givenBytes: number;
  timer: NodeJS.Timeout | undefined;
}

/** Of all that is held; what a larger message gives its job waits on the broker. */
const MOST_HELD_BYTES = 64 * 1024 * 1024;
const SMALL_BYTES = 64 * 1024;
/** An array's scripts are one command; what one message gives its job is half of this at most. */
const MOST_GIVEN_BYTES = 8 * 1024 * 1024;

/**
 * Jobs that wait for others of their trigger and session, to become one array with them: until `size` are there, or
 * `window` has passed since the first; sooner, if that many messages wait for other arrays. They wait without a turn, for
 * those who have one would keep the others out. Their messages are un-acked meanwhile: if the worker ends, none is lost,
 * for nothing was done yet.
 */
export class ArrayCollector {
  readonly #deps: ArrayDeps;
  readonly #mostWaiting: number;
  /** The oldest first. */
  readonly #collections = new Map<string, Collection>();
  /** Jobs of each session that wait, or are being submitted. */
  readonly #held = new Map<string, number>();
  /** What messages give them, in all. */
  #heldBytes = 0;
  #isHurried = false;
  #refusal: Error | undefined;

  /** @param mostWaiting so many jobs wait for others at most, in all; twice as many are held with those being submitted */
  constructor(deps: ArrayDeps, mostWaiting: number) {
    this.#deps = deps;
    this.#mostWaiting = mostWaiting;
  }

  /** Throws what keeps this job from being submitted, or all of them: as `enter`, `placeFor` and `Method.submit`. */
  async collect(session: Session, plan: JobPlan, options: SubmitOptions): Promise<Collected> {
    if (this.#hasItsShare(session) && !(await this.#deps.isOnlySession(session))) throw busy(session);
    const { givenBytes } = plan;
    if (givenBytes > SMALL_BYTES && this.#heldBytes + givenBytes > MOST_HELD_BYTES) throw busy(session);
    if (this.#refusal !== undefined) throw this.#refusal;
    this.#count(session, 1, givenBytes);
    try {
      return await this.#wait(session, plan, options);
    } finally {
      this.#count(session, -1, -givenBytes);
    }
  }

  /** As many are held as may be, and of this session as many as there are for each that has some. */
  #hasItsShare({ id }: Session): boolean {
    const most = 2 * this.#mostWaiting;
    const held = this.#held.get(id) ?? 0;
    const all = [...this.#held.values()].reduce((sum, count) => sum + count, 0);
    return all >= most && held >= most / Math.max(this.#held.size, 1);
  }

  #count({ id }: Session, change: number, bytes: number): void {
    this.#heldBytes += bytes;
    const held = (this.#held.get(id) ?? 0) + change;
    if (held > 0) this.#held.set(id, held);
    else this.#held.delete(id);
  }

  #wait(session: Session, plan: JobPlan, options: SubmitOptions): Promise<Collected> {
    return new Promise((resolve, reject) => {
      const { trigger, givenBytes } = plan;
      const { size = 1, window = 0 } = trigger.array ?? {};
      const [program] = plan.argv;
      // A user's own sbatch script says for itself what it needs of Slurm.
      const key = JSON.stringify([trigger.name, session.id, program]);
      const known = this.#collections.get(key);
      if (known !== undefined && known.givenBytes + givenBytes > MOST_GIVEN_BYTES) this.#submit(key);
      const collection: Collection = this.#collections.get(key) ?? {
        ...{ session, trigger, program, waiting: [], givenBytes: 0 },
        timer: setTimeout(() => this.#submit(key), window * 1000),
      };
      this.#collections.set(key, collection);
      collection.session = session;
      collection.givenBytes += givenBytes;
      collection.waiting.push({ plan, options, resolve, reject });
      if (this.#isHurried || collection.waiting.length >= size) this.#submit(key);
      const [oldest] = this.#collections.keys();
      if (oldest !== undefined && this.#waiting() >= this.#mostWaiting) this.#submit(oldest);
    });
  }

  #waiting(): number {
    return [...this.#collections.values()].reduce((sum, { waiting }) => sum + waiting.length, 0);
  }

  /** The worker is about to stop: what has come together is submitted now, and nothing waits any more. */
  flush(): void {
    this.#isHurried = true;
    for (const key of [...this.#collections.keys()]) this.#submit(key);
  }

  /** Nothing that waits is submitted any more: its messages are delivered again, over another link. */
  refuse(why: Error): void {
    this.#refusal = why;
    for (const { timer, waiting } of this.#collections.values()) {
      clearTimeout(timer);
      for (const { reject } of waiting) reject(why);
    }
    this.#collections.clear();
  }

  #submit(key: string): void {
    const collection = this.#collections.get(key);
    if (collection === undefined) return;
    this.#collections.delete(key);
    clearTimeout(collection.timer);
    this.#submitAll(collection).catch((error: unknown) => {
      for (const { reject } of collection.waiting) reject(error);
    });
  }

  async #submitAll({ session, trigger, program, waiting }: Collection): Promise<void> {
    const { enter, targetFor, submitArray } = this.#deps;
    const leave = await enter(session, 1, trigger.priority);
    try {
      const target = await targetFor(session, { ...trigger, program, jobs: waiting.length });
      const ends = await submitArray(waiting, target);
      ends.forEach((end, at) => {
        if (end.status === "fulfilled") waiting[at]?.resolve({ job: end.value, target });
        else waiting[at]?.reject(end.reason);
      });
    } finally {
      leave();
    }
  }
}

/** So many jobs wait for others at most: one array of each trigger. */
export function arraySizes(triggers: readonly Trigger[]): number {
  return triggers.reduce((sum, { array }) => sum + (array?.size ?? 0), 0);
}
