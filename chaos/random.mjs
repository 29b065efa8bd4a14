/** Numbers that a seed decides: mulberry32, which is small, quick, and random enough to choose faults with. */
export class Random {
  #state;

  /** @param {number} seed an integer from 0 to 2^32 - 1 */
  constructor(seed) {
    this.#state = seed >>> 0;
  }

  /** From 0, to less than 1. */
  share() {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /**
   * An integer; both ends can come.
   *
   * @param {number} low
   * @param {number} high
   */
  integer(low, high) {
    return low + Math.floor(this.share() * (high - low + 1));
  }

  /**
   * @template T
   * @param {readonly T[]} list
   * @returns {T[]}
   */
  shuffled(list) {
    const result = [...list];
    for (let at = result.length - 1; at > 0; at--) {
      const other = this.integer(0, at);
      [result[at], result[other]] = [/** @type {T} */ (result[other]), /** @type {T} */ (result[at])];
    }
    return result;
  }
}
