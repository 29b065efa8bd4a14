import type { z } from "zod";
import { cut } from "./cut.ts";

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
  return parsed.success ? { data: parsed.data } : { mistake: describeIssues(parsed.error, ["data"]) };
}

function propertyOf(value: unknown, key: string): unknown {
  if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
  return (value as Record<string, unknown>)[key];
}

/** Mistakes that zod found, in one line: `data.path: expected string, received number; …`. The first ten, and a count. */
export function describeIssues(error: z.ZodError, prefix: readonly PropertyKey[] = []): string {
  const shown = error.issues.slice(0, MOST_ISSUES).map((issue) => {
    const place = [...prefix, ...issue.path].map(String).join(".");
    const message = cut(issue.message, LONGEST_ISSUE);
    return place === "" ? message : `${cut(place, LONGEST_ISSUE)}: ${message}`;
  });
  const more = error.issues.length - shown.length;
  return [...shown, ...(more > 0 ? [`and ${more} more`] : [])].join("; ");
}
