import { setTimeout as sleep } from "node:timers/promises";

/** Waits until `look` gives something; an error that names `what` after the time, which is long: machines may be slow. */
export async function eventually<T>(
  what: string | (() => string),
  look: () => T | undefined | Promise<T | undefined>,
  milliseconds = 150_000,
): Promise<T> {
  const until = Date.now() + milliseconds;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (Date.now() > until) {
      throw new Error(`not within ${milliseconds} ms: ${typeof what === "string" ? what : what()}`);
    }
    await sleep(50);
  }
}
