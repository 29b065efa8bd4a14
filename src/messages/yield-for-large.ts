import { setImmediate } from "node:timers/promises";

/** What is smaller is read within milliseconds, whatever it holds. */
const LARGE_BYTES = 4 * 1024;

let last: Promise<void> = Promise.resolve();

/**
 * Resolves when a message of so many bytes may be read, or planned: at once if it is small; of large ones one after the
 * other, and between two of them all else that waits has its turn.
 */
export async function yieldForLarge(bytes: number): Promise<void> {
  if (bytes < LARGE_BYTES) return;
  last = last.then(() => setImmediate());
  await last;
}
