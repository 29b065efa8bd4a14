import { pino, type Logger } from "pino";

export type Log = Logger;

/** JSON lines on standard output, written at once: nothing of a log is lost in a crash. */
export function openLog(level: string): Log {
  return pino(
    { level, base: null, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ sync: true }),
  );
}
