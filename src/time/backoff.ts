/**
 * Milliseconds before the next attempt: `first`, then twice as long each time, at most `longest`; and up to a fifth more at
 * random, so that those who failed together do not come back together.
 *
 * @param attempt 0 before the first repetition
 */
export function backoff(attempt: number, { first, longest }: { first: number; longest: number }): number {
  return Math.min(first * 2 ** attempt, longest) * (1 + Math.random() / 5);
}
