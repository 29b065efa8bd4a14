import { rmSync } from "node:fs";
import { errorText, Misconfigured } from "../errors.ts";
import { writePlainFile } from "../files/plain-file.ts";

const TOUCH_EVERY_MS = 10_000;
const READY_FILE = { links: "refuse", mode: 0o644 } as const;

/**
 * Shows, to whoever watches over the process, that a worker takes messages and watches jobs: the file is there as long as it does, and its
 * time is renewed every 10 s by the same event loop that works. Returns what ends it.
 *
 * @param file null: none is wanted
 * @param isFirst what cannot be written now is a mistake; later it ends no worker, and is tried again
 * @throws Misconfigured `wrong-configuration`: it cannot be written
 */
export function showReady(file: string | null, isFirst: boolean): () => void {
  if (file === null) return () => undefined;
  const touch = () => writePlainFile(file, `${new Date().toISOString()}\n`, READY_FILE);
  try {
    touch();
  } catch (cause) {
    if (isFirst)
      throw new Misconfigured({
        code: "wrong-configuration",
        message: `worker.readyFile cannot be written: ${errorText(cause)}.`,
        hint: "Name a file in a folder that the worker's account can write to.",
        cause,
      });
  }
  const touching = setInterval(() => {
    try {
      touch();
    } catch {
      // It grows old, and so says what is to be said.
    }
  }, TOUCH_EVERY_MS);
  return () => {
    clearInterval(touching);
    hideReady(file);
  };
}

/** Before the first time too: one that was killed has left its file. */
export function hideReady(file: string | null): void {
  try {
    if (file !== null) rmSync(file, { force: true });
  } catch {
    // It grows old.
  }
}
