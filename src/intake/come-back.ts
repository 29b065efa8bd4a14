import { BUSY_WAIT_SECONDS } from "../broker/topology.ts";

/**
 * Messages that wait on the broker, because there is no room for them now. The more there are, the longer the next one
 * waits: the queue that all come back to is to be empty again before they do.
 */
export class ComeBack {
  readonly #perSecond: number;
  /** Until when (milliseconds), and how many. */
  #away: { until: number; count: number }[] = [];

  /** @param perSecond so many may come back a second */
  constructor(perSecond: number) {
    this.#perSecond = perSecond;
  }

  get isEmpty(): boolean {
    const now = Date.now();
    return !this.#away.some(({ until }) => until > now);
  }

  /**
   * So many seconds one more message waits.
   *
   * @param weight as how many it counts
   */
  secondsForOneMore(weight = 1): number {
    const now = Date.now();
    this.#away = this.#away.filter(({ until }) => until > now);
    const count = this.#away.reduce((sum, one) => sum + one.count, weight);
    const wanted = count / this.#perSecond;
    const seconds = BUSY_WAIT_SECONDS.find((one) => one >= wanted) ?? Math.max(...BUSY_WAIT_SECONDS);
    const until = now + seconds * 1000;
    const last = this.#away.at(-1);
    if (last !== undefined && until - last.until < 1000 && until >= last.until) last.count += weight;
    else this.#away.push({ until, count: weight });
    return seconds;
  }
}
