import * as z from "zod";
import { cut } from "../text/cut.ts";
import { nearest } from "../text/nearest.ts";

const MOST_ISSUES = 10;
const LONGEST_ISSUE = 200;

/**
 * Checks what others wrote against a schema. Lists are counted first, by `most` (a dotted name → how many items it may
 * have): zod collects every mistake of every item, and a list of a stranger's has half a million.
 */
export function checkForm<T>(
  schema: z.ZodType<T>,
  value: unknown,
  most: Readonly<Record<string, number>>,
): { data: T; mistake?: undefined } | { mistake: string } {
  for (const [name, items] of Object.entries(most)) {
    const list = name.split(".").reduce((found, key) => propertyOf(found, key), value);
    if (Array.isArray(list) && list.length > items) {
      return { mistake: `data.${name}: has ${list.length} items; ${items} are the most` };
    }
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return { data: parsed.data };
  const known = schema instanceof z.ZodObject ? Object.keys(schema.shape) : [];
  return { mistake: describeIssues(parsed.error, value, ["data"], known) };
}

function propertyOf(value: unknown, key: string): unknown {
  if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
  return (value as Record<string, unknown>)[key];
}

/** Mistakes that zod found, in one line: `data.path: must be text, not 17; …`. The first ten, and a count. */
export function describeIssues(
  error: z.ZodError,
  value: unknown,
  prefix: readonly PropertyKey[] = [],
  known: readonly string[] = [],
): string {
  const shown = error.issues.slice(0, MOST_ISSUES).map((issue) => {
    const place = [...prefix, ...issue.path].map(String).join(".");
    const message = cut(wordsOf(issue, value, known), LONGEST_ISSUE);
    return place === "" ? message : `${cut(place, LONGEST_ISSUE)}: ${message}`;
  });
  const more = error.issues.length - shown.length;
  return [...shown, ...(more > 0 ? [`and ${more} more`] : [])].join("; ");
}

const KINDS: Readonly<Record<string, string>> = {
  string: "text",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
  array: "a list",
  object: "an object",
  record: "an object",
  null: "null",
};

/** What is expected, and what was found. */
function wordsOf(issue: z.core.$ZodIssue, value: unknown, known: readonly string[]): string {
  const found = foundIn(issue.path.reduce<unknown>((inner, step) => propertyOf(inner, String(step)), value));
  switch (issue.code) {
    case "unrecognized_keys": {
      const keys = issue.keys.slice(0, MOST_ISSUES).map((key) => {
        const near = issue.path.length === 0 ? nearest(cut(key, LONGEST_FOUND), known) : undefined;
        return (
          JSON.stringify(cut(key, LONGEST_FOUND)) + (near === undefined ? "" : ` (did you mean ${near}?)`)
        );
      });
      return `has ${keys.join(", ")}, which Mento does not know`;
    }
    case "invalid_type":
      return isZods(issue) ? `must be ${KINDS[issue.expected] ?? issue.expected}, ${found}` : issue.message;
    case "invalid_value":
      return `must be ${issue.values.map(String).join(" or ")}, ${found}`;
    case "too_small": {
      const least = issue.inclusive === false ? "more than" : "at least";
      if (issue.origin === "string" && issue.minimum === 1) return "must not be empty";
      return `must ${issue.origin === "array" ? "have" : "be"} ${least} ${issue.minimum}${unitOf(issue.origin)}`;
    }
    case "too_big": {
      const most = issue.inclusive === false ? "less than" : "at most";
      return `must ${issue.origin === "array" ? "have" : "be"} ${most} ${issue.maximum}${unitOf(issue.origin)}`;
    }
    default:
      if (isZods(issue))
        return found === foundIn(undefined) ? "is missing" : `has another form than it must have, ${found}`;
      return issue.message.startsWith("must be ") ? `${issue.message}, ${found}` : issue.message;
  }
}

function isZods({ message }: z.core.$ZodIssue): boolean {
  return message.startsWith("Invalid");
}

function unitOf(origin: string): string {
  if (origin === "array") return " items";
  return origin === "string" ? " characters" : "";
}

const LONGEST_FOUND = 60;

function foundIn(value: unknown): string {
  if (value === undefined) return "and is missing";
  if (Array.isArray(value)) return "not a list";
  if (typeof value === "object" && value !== null) return "not an object";
  if (typeof value === "string") return `not the text ${JSON.stringify(cut(value, LONGEST_FOUND))}`;
  return `not ${typeof value === "number" ? value : JSON.stringify(value)}`;
}
