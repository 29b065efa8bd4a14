import type { CloudEvent } from "./cloud-event.ts";
import { derivedId } from "./derived-id.ts";
import type { JobEventData } from "./job-event.ts";

/** An event that is announced twice comes again soon: within far fewer others than this. */
const REMEMBERED = 50_000;

/**
 * The events that a client has had of late: the same id from the same source is the same event, if it is of the same job's
 * directory. A producer that uses an id in two sessions has two jobs of one id.
 */
export class RecentEvents {
  readonly #seen = new Set<string>();
  readonly #remembered: number;

  constructor(remembered = REMEMBERED) {
    this.#remembered = remembered;
  }

  /** False if it was added before, and not so many others since. */
  add({ source, id, data }: Pick<CloudEvent, "source" | "id" | "data">): boolean {
    const { job } = (data ?? {}) as Partial<JobEventData>;
    // As short for any id: 5 MB in all.
    const key = derivedId(source, id, job?.directory ?? "");
    if (this.#seen.has(key)) return false;
    this.#seen.add(key);
    const [oldest] = this.#seen;
    if (this.#seen.size > this.#remembered && oldest !== undefined) this.#seen.delete(oldest);
    return true;
  }
}
