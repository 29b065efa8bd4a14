/** Clocks of nodes and workers that differ by more are no clocks. */
export const CLOCKS_DIFFER_MS = 15 * 60_000;
/** What a record of a year ago tells, nobody asks for any more. */
const OLDEST_MS = 366 * 24 * 3600_000;

/** Whether a time that a job's account tells of a job can be true: not to come, and of the last year. Milliseconds since 1970. */
export function canBe(time: number, now = Date.now()): boolean {
  return time >= now - OLDEST_MS && time <= now + CLOCKS_DIFFER_MS;
}
