import { pino, type Logger } from "pino";
import { escapedInJson, isTerminalHere, layoutHere, plainLine } from "./text/terminal.ts";

export type Log = Logger;

/** A line longer than this has its texts cut. */
const LONGEST_LINE = 16_384;
const LONGEST_TEXT = 2_000;
const MOST_ITEMS = 50;
/** Of characters that could not be written. */
const MOST_WAITING = 1_048_576;

/** What is written of one of pino's lines. */
export type LogLine = (line: string) => string;

/** Lines on standard output, written at once: nothing of a log is lost in a crash. */
export function openLog(level: string, lineOf: LogLine = plainLogLine): Log {
  // A reader that is gone, or a full disk, ends no worker: then lines are dropped.
  const destination = pino.destination({ sync: true, maxLength: MOST_WAITING });
  destination.on("error", () => undefined);
  return pino(
    {
      ...{ level, base: null, timestamp: pino.stdTimeFunctions.isoTime },
      formatters: { level: (name) => ({ level: name }) },
    },
    { write: (line: string) => destination.write(lineOf(line)) },
  );
}

/** JSON as pino writes it: of bounded length, and without characters that a terminal acts on. */
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

/** Lines for a person on a terminal; JSON in a pipe, or where pino-pretty was left out at installation. */
export async function logLines(): Promise<LogLine> {
  if (!isTerminalHere()) return plainLogLine;
  const pretty = await import("pino-pretty").catch(() => undefined);
  return pretty === undefined ? plainLogLine : readableLines(pretty.prettyFactory, layoutHere().hasColour);
}

export function readableLines(
  factory: typeof import("pino-pretty").prettyFactory,
  hasColour: boolean,
): LogLine {
  const format = factory({ colorize: hasColour, translateTime: "SYS:HH:MM:ss", singleLine: true });
  return (line) => format(plainValues(JSON.parse(plainLogLine(line))));
}

/** With no character that a terminal acts on: pino-pretty prints texts as they are. */
function plainValues(value: unknown): unknown {
  if (typeof value === "string") return plainLine(value);
  if (Array.isArray(value)) return value.map(plainValues);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [plainLine(key), plainValues(one)]));
}
