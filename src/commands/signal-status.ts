import { constants } from "node:os";

/** The exit status of what a signal has ended, as a POSIX shell gives it: 128 and the signal's number. */
export function signalStatus(signal: string): number {
  return 128 + ((constants.signals as Record<string, number>)[signal] ?? 0);
}
