import { WrittenNumber, writeJson } from "../messages/json.ts";
import { asList, type Condition } from "./condition.ts";

/** One of a condition's alternatives. */
type Wanted =
  | string
  | number
  | boolean
  | { min?: number | undefined; max?: number | undefined; exists?: boolean | undefined };

/** A condition as a function, and in words: `saxs or waxs`, `5 to 9`. A list among the values fits if one of its items does. */
export function compileCondition(condition: Condition): {
  fits: (value: unknown) => boolean;
  wanted: string;
} {
  const all = asList<Wanted>(condition).map(compileOne);
  const fitsOne = (value: unknown) => all.some(({ fits }) => fits(value));
  return {
    fits: (value) =>
      fitsOne(value) || (Array.isArray(value) && value.some((item) => item != null && fitsOne(item))),
    wanted: all.map(({ words }) => words).join(" or "),
  };
}

function compileOne(wanted: Wanted): { fits: (value: unknown) => boolean; words: string } {
  if (typeof wanted === "string") {
    const isGlob = /[*?]/.test(wanted);
    const fits = (value: unknown) =>
      textsOf(value).some((text) => (isGlob ? globFits(wanted, text) : text === wanted));
    return { fits, words: wanted };
  }
  if (typeof wanted === "number") {
    return { fits: (value) => asNumber(value) === wanted, words: String(wanted) };
  }
  if (typeof wanted === "boolean") {
    return { fits: (value) => textsOf(value).includes(String(wanted)), words: String(wanted) };
  }
  const { min = -Infinity, max = Infinity, exists } = wanted;
  if (exists !== undefined) {
    return { fits: (value) => (value != null) === exists, words: exists ? "any value" : "none" };
  }
  const fits = (value: unknown) => {
    const number = asNumber(value);
    return number !== undefined && number >= min && number <= max;
  };
  return { fits, words: rangeWords(min, max) };
}

/** A value for a sentence, not longer than one can read. */
export function shown(value: unknown): string {
  // Else a blank at its end, or nothing at all, would not be seen.
  const isPlain = typeof value === "string" && value !== "" && value === value.trim();
  const text = isPlain ? value : writeJson(value ?? null);
  return text.length <= 200 ? text : `${text.slice(0, 200).toWellFormed()}…`;
}

/**
 * `*` is any text, `?` one character, all else itself. Not by a regular expression: the text comes from outside, and
 * some would take that for ever.
 */
export function globFits(glob: string, text: string): boolean {
  let [at, from] = [0, 0];
  /** Where to go on when what follows the last `*` does not fit: the `*` takes one character more. */
  let star: { at: number; from: number } | undefined;
  while (from < text.length) {
    if (glob[at] === "*") star = { at: ++at, from };
    else if (glob[at] === "?" || glob[at] === text[from]) {
      at += 1;
      from += 1;
    } else if (star === undefined) return false;
    else {
      star.from += 1;
      ({ at, from } = star);
    }
  }
  while (glob[at] === "*") at += 1;
  return at === glob.length;
}

/** A number fits as it was written, `1.0`, and as it is usually, `1`. */
function textsOf(value: unknown): string[] {
  if (value instanceof WrittenNumber) return [value.value, String(Number(value.value))];
  const isPlain = typeof value === "string" || typeof value === "number" || typeof value === "boolean";
  return isPlain ? [String(value)] : [];
}

/** Longer texts are no numbers that anybody writes. */
const LONGEST_NUMBER = 100;

/** Also of a text that is a decimal number: control systems send scan numbers so. */
function asNumber(value: unknown): number | undefined {
  if (typeof value === "number") return value;
  if (value instanceof WrittenNumber) return Number(value.value);
  if (typeof value !== "string" || value.length > LONGEST_NUMBER) return undefined;
  return /^\s*[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?\s*$/i.test(value) ? Number(value) : undefined;
}

function rangeWords(min: number, max: number): string {
  if (min === -Infinity) return `at most ${max}`;
  return max === Infinity ? `at least ${min}` : `${min} to ${max}`;
}
