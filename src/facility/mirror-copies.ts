import type { SourceFacts, Step } from "./mirror-plan.ts";

export type CopyStep = Extract<Step, { do: "copy" }>;

const LARGE_BYTES = 64 * 1024 * 1024;
const SMALL_AT_ONCE = 4;
const LARGE_AT_ONCE = 2;

interface Lane {
  readonly waiting: Map<string, CopyStep>;
  readonly most: number;
  running: number;
}

/** The copies that wait and are under way: large files in a lane of their own, so that small ones do not wait for them. */
export class MirrorCopies {
  readonly #copy: (step: CopyStep) => Promise<void>;
  readonly #small: Lane = { waiting: new Map(), most: SMALL_AT_ONCE, running: 0 };
  readonly #large: Lane = { waiting: new Map(), most: LARGE_AT_ONCE, running: 0 };
  readonly #underWay = new Map<string, Promise<void>>();

  /** @param copy sees for itself whether the file is still as the step says; never rejects */
  constructor(copy: (step: CopyStep) => Promise<void>) {
    this.#copy = copy;
  }

  add(step: CopyStep): void {
    const lane = step.facts.size < LARGE_BYTES ? this.#small : this.#large;
    lane.waiting.set(step.path, step);
    this.#startNext(lane);
  }

  isUnderWay(path: string): boolean {
    return this.#underWay.has(path);
  }

  /** The file as it was when its copy was planned, if that still waits. */
  waiting(path: string): SourceFacts | undefined {
    return (this.#small.waiting.get(path) ?? this.#large.waiting.get(path))?.facts;
  }

  /** It is planned anew. */
  drop(path: string): void {
    this.#small.waiting.delete(path);
    this.#large.waiting.delete(path);
  }

  async done(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.race(this.#underWay.values());
  }

  #startNext(lane: Lane): void {
    for (const [path, step] of lane.waiting) {
      if (lane.running >= lane.most) return;
      lane.waiting.delete(path);
      lane.running++;
      const copying = this.#copy(step).finally(() => {
        lane.running--;
        this.#underWay.delete(path);
        this.#startNext(lane);
      });
      this.#underWay.set(path, copying);
    }
  }
}
