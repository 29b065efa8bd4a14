/** So many reads of a job's records follow one another at once, and then one each so often. */
const AT_ONCE = 5;
const EVERY_MS = 2_000;
const FIRST_PAUSE_MS = 10_000;
const LONGEST_PAUSE_MS = 10 * 60_000;

/** How often one job's records are read: whoever writes into its directory or the spool cannot make it more. */
export class ReadRate {
  #reads = AT_ONCE;
  #countedAt = -Infinity;
  #notBefore = -Infinity;
  #pause = FIRST_PAUSE_MS;

  /** Whether they may be read now; then that is counted. */
  take(now: number): boolean {
    if (now < this.#notBefore) return false;
    this.#reads = Math.min(AT_ONCE, this.#reads + (now - this.#countedAt) / EVERY_MS);
    this.#countedAt = now;
    if (this.#reads < 1) return false;
    this.#reads -= 1;
    return true;
  }

  /** They could not be read in time: others come first for a while, longer each time. */
  holdOff(now: number): void {
    this.#notBefore = now + this.#pause;
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE_MS);
  }
}
