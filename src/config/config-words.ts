import * as z from "zod";
import { MentoConfig } from "./config-schema.ts";
import { meant, nearest } from "../text/nearest.ts";

export interface Issue {
  path: PropertyKey[];
  message: string;
}

/** What is wrong, for a person who knows YAML and the field, not our types. `config` is what was checked. */
export function wordsOf(issue: z.core.$ZodIssue, config: unknown): Issue[] {
  const { path } = issue;
  switch (issue.code) {
    case "unrecognized_keys":
      // zod puts all of an object's into one; each is a mistake of its own, at its own line.
      return issue.keys.map((key) => ({ path: [...path, key], message: unknownKey(key, path) }));
    case "invalid_union":
      return wordsOfUnion(issue, config);
    case "invalid_key":
      return [{ path, message: issue.issues[0]?.message ?? issue.message }];
    case "invalid_value": {
      if (isOurs(issue)) return [{ path, message: issue.message }];
      const options = issue.values.map(String);
      const value = valueAt(config, path);
      const near = typeof value === "string" ? nearest(value, options) : undefined;
      const hint = near === undefined ? "" : `; did you mean ${near}?`;
      return [
        { path, message: `must be ${options.length === 1 ? "" : "one of "}${options.join(", ")}${hint}` },
      ];
    }
    case "invalid_type": {
      return [
        { path, message: isOurs(issue) ? issue.message : mustBe([issue.expected], valueAt(config, path)) },
      ];
    }
    case "too_small":
      return [{ path, message: tooSmall(issue) }];
    case "too_big":
      return [{ path, message: tooBig(issue) }];
    default:
      return [{ path, message: issue.message }];
  }
}

/** Not zod's own words. */
function isOurs({ message }: z.core.$ZodIssue): boolean {
  return !/^Invalid (input|option)/.test(message);
}

function wordsOfUnion(issue: z.core.$ZodIssueInvalidUnion, config: unknown): Issue[] {
  const value = valueAt(config, issue.path);
  // If the value is of the type that one of them wants, that one says what is wrong with it.
  const fitting = issue.errors.filter((branch) => !branch.some((one) => isOfAnotherType(one, value)));
  const [only] = fitting;
  if (fitting.length === 1 && only !== undefined) {
    return only.flatMap((inner) => wordsOf({ ...inner, path: [...issue.path, ...inner.path] }, config));
  }
  const branches = fitting.length === 0 ? issue.errors : fitting;
  const kinds = branches.flat().flatMap(kindsOf);
  if (fitting.length === 0) return [{ path: issue.path, message: mustBe(kinds, value) }];
  const messages = branches.flat().flatMap((inner) => wordsOf(inner, value).map(({ message }) => message));
  return [{ path: issue.path, message: [...new Set(messages)].join(", or ") || issue.message }];
}

function isOfAnotherType(issue: z.core.$ZodIssue, value: unknown): boolean {
  if (issue.path.length > 0) return false;
  if (issue.code === "invalid_type") return true;
  if (issue.code === "invalid_value") return issue.values.every((one) => typeof one !== typeof value);
  return (
    issue.code === "invalid_union" &&
    issue.errors.every((branch) => branch.some((one) => isOfAnotherType(one, value)))
  );
}

/** The kinds of value that the issue's schema takes. */
function kindsOf(issue: z.core.$ZodIssue): string[] {
  if (issue.code === "invalid_type") return [issue.expected];
  if (issue.code === "invalid_value") return issue.values.map(String);
  return issue.code === "invalid_union" ? issue.errors.flat().flatMap(kindsOf) : [];
}

const KINDS: Record<string, string> = {
  string: "text",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
  array: "a list",
  object: "a mapping of keys to values",
  record: "a mapping of keys to values",
};

function mustBe(kinds: readonly string[], value: unknown): string {
  const wanted = [...new Set(kinds.map((kind) => KINDS[kind] ?? kind))].join(", or ");
  if (value === undefined || value === null) return `is missing: must be ${wanted}`;
  const isScalar = typeof value === "number" || typeof value === "boolean";
  const isQuotable = isScalar && kinds.every((kind) => kind === "string");
  const quotes = isQuotable ? `; put it in quotes: "${String(value)}"` : "";
  return `must be ${wanted}, not ${kindOf(value)}${quotes}${unquotedTemplate(value)}`;
}

/** YAML takes `{{ path }}` for a mapping in a mapping. */
function unquotedTemplate(value: unknown): string {
  const [, name] = /^\{"\{ ([^"]*) \}":null\}$/.exec(JSON.stringify(value)) ?? [];
  return name === undefined ? "" : `; put it in quotes: "{{ ${name} }}"`;
}

function kindOf(value: unknown): string {
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "a mapping";
  // JSON has neither Infinity nor NaN.
  if (typeof value === "number") return String(value);
  return typeof value === "string" ? `the text ${JSON.stringify(value)}` : JSON.stringify(value);
}

function tooSmall({ origin, minimum, inclusive }: z.core.$ZodIssueTooSmall): string {
  if (origin === "string") return "must not be empty";
  if (origin === "array") return "must have at least one item";
  return inclusive === false ? `must be more than ${minimum}` : `must be at least ${minimum}`;
}

function tooBig({ origin, maximum }: z.core.$ZodIssueTooBig): string {
  return `must ${origin === "array" ? "have" : "be"} at most ${maximum}`;
}

function valueAt(config: unknown, path: readonly PropertyKey[]): unknown {
  let value = config;
  for (const step of path) {
    value =
      typeof value === "object" && value !== null ? (value as Record<PropertyKey, unknown>)[step] : undefined;
  }
  return value;
}

function unknownKey(key: string, path: PropertyKey[]): string {
  const known = keysAt(path);
  const within = path.at(-1);
  if (typeof within === "string" && keysAt(path.slice(0, -1)).includes(key)) {
    return `unknown key; ${key} stands beside ${within}, not in it`;
  }
  const part = known.find((name) => keysAt([...path, name]).includes(key));
  if (part !== undefined) return `unknown key; ${key} stands in ${part}`;
  const words = meant(key, known).replace("; known are", "; known here are");
  return `unknown key${words}`;
}

/** The keys that the schema has at a place. */
function keysAt(path: PropertyKey[]): string[] {
  let schemas: unknown[] = [MentoConfig];
  for (const step of path) {
    schemas = schemas.flatMap(branches).flatMap((schema): unknown[] => {
      if (schema instanceof z.ZodObject) return [schema.shape[String(step)]];
      if (schema instanceof z.ZodArray) return [schema.element];
      return schema instanceof z.ZodRecord ? [schema.valueType] : [];
    });
  }
  const objects = schemas.flatMap(branches).filter((schema) => schema instanceof z.ZodObject);
  return [...new Set(objects.flatMap((object) => Object.keys(object.shape)))];
}

function branches(schema: unknown): unknown[] {
  const inner = unwrap(schema);
  if (!(inner instanceof z.ZodUnion)) return [inner];
  const options: readonly unknown[] = inner.options;
  return options.flatMap(branches);
}

/** Without default and optional. */
export function unwrap(schema: unknown): unknown {
  let inner = schema;
  while (inner instanceof z.ZodDefault || inner instanceof z.ZodPrefault || inner instanceof z.ZodOptional) {
    inner = inner.unwrap();
  }
  return inner;
}
