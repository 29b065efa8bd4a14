import { LosslessNumber, parse, stringify } from "lossless-json";
import * as z from "zod";

/**
 * A number whose text JavaScript would not write again: `9007199254740993`, `1.0`, `-0`, `1e400`. It stays as its sender
 * wrote it; all others are plain numbers.
 */
export class WrittenNumber extends LosslessNumber {
  /** For `JSON.stringify`, in a log line say: the nearest number that there is. */
  toJSON(): number | string {
    const nearest = Number(this.value);
    return Number.isFinite(nearest) ? nearest : this.value;
  }
}

export type JsonValue =
  string | number | boolean | null | WrittenNumber | JsonValue[] | { [key: string]: JsonValue };

/** Any JSON, with numbers as they were written. One mistake, however much is wrong. */
export const JsonValue = z.unknown().refine((value) => isJson(value, 0), "must be JSON") as z.ZodType<
  JsonValue,
  JsonValue
>;

/** A key that stands twice in one object: which one counts, programs do not agree about. */
export class DuplicateKey extends Error {}

/** Deeper, nothing that others wrote may be: what follows it down must not run out of stack. */
export const MAX_JSON_LEVELS = 250;

export class TooDeep extends SyntaxError {
  constructor() {
    super(`it is nested more than ${MAX_JSON_LEVELS} levels deep`);
  }
}

/**
 * JSON text → its value, with JavaScript's numbers.
 *
 * @throws SyntaxError, TooDeep
 */
export function parsePlainJson(text: string): unknown {
  if (shapeOf(text).levels > MAX_JSON_LEVELS) throw new TooDeep();
  return JSON.parse(text);
}

/** The same of text that may be anything; undefined for what is no JSON, or has more values. */
export function tryPlainJson(text: string, mostValues = Infinity): unknown {
  try {
    const { levels, values } = shapeOf(text);
    return levels > MAX_JSON_LEVELS || values > mostValues ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}

/**
 * JSON text → its value, numbers as they were written.
 *
 * @throws DuplicateKey for keys with different values; SyntaxError, TooDeep
 */
export function parseJson(text: string): unknown {
  // Its errors have the places of this text.
  parsePlainJson(text);
  const { short, longOnes } = withoutLongStrings(text);
  const restored = (one: string) =>
    one.startsWith(STANDS_FOR) ? (longOnes[Number(one.slice(1))] ?? one) : one;
  const value: unknown = parse(short, undefined, {
    parseNumber,
    onDuplicateKey: ({ key }) => {
      throw new DuplicateKey(restored(key));
    },
  });
  return longOnes.length === 0 ? value : withStrings(value, restored);
}

/** lossless-json adds a string up character by character: 1 MiB of them takes 40 MB and a quarter of a second. */
const LONGEST_SHORT = 16;
const STANDS_FOR = "@";

/** The text with `"@0"`, `"@1"` for its long strings, and what these are. Equal strings have one number. */
function withoutLongStrings(text: string): { short: string; longOnes: string[] } {
  const numbers = new Map<string, number>();
  const shortened = (literal: string) => {
    const isSimple = literal.length <= LONGEST_SHORT + 2 && !literal.includes("\\");
    if (isSimple && literal[1] !== STANDS_FOR) return literal;
    const value = JSON.parse(literal) as string;
    if (value.length <= LONGEST_SHORT && !value.startsWith(STANDS_FOR)) return JSON.stringify(value);
    const number = numbers.get(value) ?? numbers.size;
    numbers.set(value, number);
    return `"${STANDS_FOR}${number}"`;
  };
  let short = "";
  let from = 0;
  for (let start = text.indexOf('"'); start !== -1; start = text.indexOf('"', from)) {
    const end = endOfString(text, start) + 1;
    short += text.slice(from, start) + shortened(text.slice(start, end));
    from = end;
  }
  return { short: short + text.slice(from), longOnes: [...numbers.keys()] };
}

function withStrings(value: unknown, restored: (text: string) => string): unknown {
  if (typeof value === "string") return restored(value);
  if (typeof value !== "object" || value === null || value instanceof LosslessNumber) return value;
  if (Array.isArray(value)) return value.map((one) => withStrings(one, restored));
  return Object.fromEntries(
    Object.entries(value).map(([key, one]) => [restored(key), withStrings(one, restored)]),
  );
}

function parseNumber(text: string): number | WrittenNumber {
  const number = Number(text);
  return JSON.stringify(number) === text ? number : new WrittenNumber(text);
}

/** A value → JSON text, each {@link WrittenNumber} as it came. */
export function writeJson(value: unknown, indent?: number): string {
  return stringify(value, undefined, indent) ?? "null";
}

/**
 * Of all values in one message: as objects of JavaScript's they have many times the bytes of their text, and a worker holds
 * hundreds of messages, and the records of thousands of jobs.
 */
export const MAX_JSON_VALUES = 10_000;
/** A job's event has its message's, and its results. */
export const MAX_EVENT_VALUES = 2 * MAX_JSON_VALUES;

const [QUOTE, BACKSLASH, COMMA] = [0x22, 0x5c, 0x2c];
const [OPENING_BRACE, CLOSING_BRACE, OPENING_BRACKET, CLOSING_BRACKET] = [0x7b, 0x7d, 0x5b, 0x5d];

/** How deep objects and lists lie in one another, and how many values there are; of text that may not be JSON at all. */
export function shapeOf(text: string): { levels: number; values: number } {
  let level = 0;
  let levels = 0;
  let values = 1;
  for (let at = 0; at < text.length; at++) {
    const character = text.charCodeAt(at);
    if (character === QUOTE) at = endOfString(text, at);
    else if (character === COMMA) values += 1;
    else if (character === OPENING_BRACE || character === OPENING_BRACKET) {
      level += 1;
      values += 1;
      if (level > levels) levels = level;
    } else if (character === CLOSING_BRACE || character === CLOSING_BRACKET) level -= 1;
  }
  return { levels, values };
}

/** Where the quote is that ends the string which begins here; the text's end, if none does. */
function endOfString(text: string, start: number): number {
  let at = start + 1;
  while (at < text.length && text.charCodeAt(at) !== QUOTE) at += text.charCodeAt(at) === BACKSLASH ? 2 : 1;
  return Math.min(at, text.length);
}

/** A value with the nearest plain number for each {@link WrittenNumber}, in all but the parts to be kept. */
export function plainNumbers(value: unknown, kept: readonly unknown[]): unknown {
  // What no number of JavaScript's can be stays as it was written, as text.
  if (value instanceof LosslessNumber)
    return Number.isFinite(Number(value.value)) ? Number(value.value) : value.value;
  if (typeof value !== "object" || value === null || kept.includes(value)) return value;
  if (Array.isArray(value)) return value.map((one) => plainNumbers(one, kept));
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, plainNumbers(one, kept)]));
}

function isJson(value: unknown, level: number): boolean {
  if (value === null || value instanceof LosslessNumber) return true;
  if (typeof value !== "object") {
    return typeof value === "string" || typeof value === "boolean" || Number.isFinite(value);
  }
  if (level > MAX_JSON_LEVELS) return false;
  if (
    !Array.isArray(value) &&
    ![Object.prototype, null].includes(Object.getPrototypeOf(value) as object | null)
  ) {
    return false;
  }
  return Object.values(value).every((one) => isJson(one, level + 1));
}
