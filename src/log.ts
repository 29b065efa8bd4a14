import { pino, type Logger } from "pino";
import { escapedInJson } from "./text/terminal.ts";

export type Log = Logger;

/** A line longer than this has its texts cut. */
const LONGEST_LINE = 16_384;
const LONGEST_TEXT = 2_000;
const MOST_ITEMS = 50;
/** Of characters that could not be written. */
const MOST_WAITING = 1_048_576;

/** JSON lines on standard output, written at once: nothing of a log is lost in a crash. */
export function openLog(level: string): Log {
  // A reader that is gone, or a full disk, ends no worker: then lines are dropped.
  const destination = pino.destination({ sync: true, maxLength: MOST_WAITING });
  destination.on("error", () => undefined);
  return pino(
    { level, base: null, timestamp: pino.stdTimeFunctions.isoTime },
    { write: (line: string) => destination.write(plainLogLine(line)) },
  );
}

/** A line of pino's as it is written: of bounded length, and without characters that a terminal acts on. */
export function plainLogLine(line: string): string {
  const json = line.trimEnd();
  return `${escapedInJson(json.length <= LONGEST_LINE ? json : shortened(json))}\n`;
}

/** Texts and lists are cut; what is still too long keeps only what was said, and when. */
function shortened(json: string): string {
  const parsed = JSON.parse(json) as Record<string, unknown>;
  const short = JSON.stringify(parsed, cut);
  if (short.length <= LONGEST_LINE) return short;
  const { level, time, msg } = parsed;
  return JSON.stringify({ level, time, msg, leftOut: `${json.length} characters` }, cut);
}

function cut(_key: string, value: unknown): unknown {
  if (typeof value === "string" && value.length > LONGEST_TEXT) {
    return `${value.slice(0, LONGEST_TEXT)}… (${value.length} characters)`;
  }
  if (Array.isArray(value) && value.length > MOST_ITEMS) {
    return [...(value as unknown[]).slice(0, MOST_ITEMS), `… (${value.length} items)`];
  }
  return value;
}
