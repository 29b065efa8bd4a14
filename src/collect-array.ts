import type { Session } from "./beamtime/session.ts";
import type { Place, SubmitOptions, SubmittedJob } from "./methods/method.ts";
import type { ArrayMember } from "./methods/sbatch-array.ts";
import type { PlaceWish } from "./session-places.ts";
import type { JobPlan } from "./triggers/plan.ts";
import type { Trigger } from "./triggers/trigger-config.ts";

/** What submitting an array needs from outside. */
export interface ArrayEffects {
  /** Waits for the session's turn to submit; an array is one submit. */
  enter: (session: Session, jobs: number, priority: number) => Promise<() => void>;
  placeFor: (session: Session | null, wish: PlaceWish) => Promise<Place>;
  submitArray: (
    members: readonly ArrayMember[],
    place: Place,
  ) => Promise<PromiseSettledResult<SubmittedJob>[]>;
}

/** A submitted job, and where it was submitted. */
export interface Collected {
  job: SubmittedJob;
  place: Place;
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
  timer: NodeJS.Timeout | undefined;
}

/**
 * Jobs that wait for others of their trigger and session, to become one array with them: until `size` are there, or
 * `window` has passed since the first. They wait without a turn, for those who have one would keep the others out. Their
 * messages are un-acked meanwhile: if the worker ends, none is lost, for nothing was done yet.
 */
export class ArrayCollector {
  readonly #effects: ArrayEffects;
  readonly #collections = new Map<string, Collection>();
  #isHurried = false;
  #refusal: Error | undefined;

  constructor(effects: ArrayEffects) {
    this.#effects = effects;
  }

  /** Throws what keeps this job from being submitted, or all of them: as `enter`, `placeFor` and `Method.submit`. */
  collect(session: Session, plan: JobPlan, options: SubmitOptions): Promise<Collected> {
    return new Promise((resolve, reject) => {
      if (this.#refusal !== undefined) {
        reject(this.#refusal);
        return;
      }
      const { trigger } = plan;
      const { size = 1, window = 0 } = trigger.array ?? {};
      const [program] = plan.argv;
      // A user's own sbatch script says for itself what it needs of Slurm.
      const key = JSON.stringify([trigger.name, session.id, program]);
      const collection: Collection = this.#collections.get(key) ?? {
        ...{ session, trigger, program, waiting: [] },
        timer: setTimeout(() => this.#submit(key), window * 1000),
      };
      this.#collections.set(key, collection);
      collection.session = session;
      collection.waiting.push({ plan, options, resolve, reject });
      if (this.#isHurried || collection.waiting.length >= size) this.#submit(key);
    });
  }

  /** The worker is about to stop: what has come together is submitted now, and nothing waits any more. */
  hurry(): void {
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
    const { enter, placeFor, submitArray } = this.#effects;
    const leave = await enter(session, 1, trigger.priority);
    try {
      const place = await placeFor(session, { ...trigger, program, jobs: waiting.length });
      const ends = await submitArray(waiting, place);
      ends.forEach((end, at) => {
        if (end.status === "fulfilled") waiting[at]?.resolve({ job: end.value, place });
        else waiting[at]?.reject(end.reason);
      });
    } finally {
      leave();
    }
  }
}

/** So many messages are held at most until their arrays have come together. */
export function arraySizes(triggers: readonly Trigger[]): number {
  return triggers.reduce((sum, { array }) => sum + (array?.size ?? 0), 0);
}
