import { LineCounter, isMap, isNode, isSeq, parse, parseDocument, visit, type Document } from "yaml";
import { z } from "zod";
import { Broker, MentoConfig, Site, SlurmRest, Ssh, Worker } from "./config-schema.ts";

/** One mistake in a configuration. `line` counts from 1; null if it is not in the file. */
export interface ConfigMistake {
  line: number | null;
  place: string;
  message: string;
}

/** Every mistake at once, or the configuration. */
export function parseConfig(
  text: string,
  environment: NodeJS.ProcessEnv,
): { config: MentoConfig; mistakes: [] } | { config?: undefined; mistakes: ConfigMistake[] } {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const broken: ConfigMistake[] = document.errors.map((error) => ({
    line: lines.linePos(error.pos[0]).line,
    place: "",
    message: `not YAML: ${error.message}`,
  }));
  visit(document, {
    Alias: (_, alias) => {
      if (alias.resolve(document) !== undefined) return;
      const line = lines.linePos(alias.range?.[0] ?? 0).line;
      broken.push({ line, place: "", message: `*${alias.source} begins with *: put it in quotes` });
    },
  });
  if (broken.length > 0) return { mistakes: broken };
  const overridden = overrideFromEnvironment(document.toJS() as unknown, environment);
  const parsed = MentoConfig.safeParse(overridden.value);
  if (parsed.success) return { config: parsed.data, mistakes: [] };
  const mistakes = parsed.error.issues.flatMap(expandIssue).map(({ path, message }) => ({
    line: overridden.places.has(path.slice(0, 2).join(".")) ? null : lineOf(document, lines, path),
    place: path.join("."),
    message,
  }));
  return { mistakes: mistakes.sort((a, b) => (a.line ?? 0) - (b.line ?? 0)) };
}

interface Issue {
  path: PropertyKey[];
  message: string;
}

/** zod puts all unknown keys of an object into one issue; each is a mistake of its own, at its own line. */
function expandIssue(issue: z.core.$ZodIssue): Issue[] {
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => ({ path: [...issue.path, key], message: unknownKey(key, issue.path) }));
  }
  if (issue.code === "invalid_union") {
    // If the value is of the type that one of them wants, that one says what is wrong with it.
    const fitting = issue.errors.filter((branch) => !branch.some(isOfAnotherType));
    if (fitting.length === 1) {
      return (fitting[0] ?? []).map(({ path, message }) => ({ path: [...issue.path, ...path], message }));
    }
    const messages = issue.errors.flat().map(({ message }) => message);
    return [{ path: issue.path, message: [...new Set(messages)].join(", or ") || issue.message }];
  }
  return [{ path: issue.path, message: issue.message }];
}

function isOfAnotherType({ code, path }: z.core.$ZodIssue): boolean {
  return code === "invalid_type" && path.length === 0;
}

function unknownKey(key: string, path: PropertyKey[]): string {
  const known = keysAt(path);
  const near = known.find((one) => distance(one.toLowerCase(), key.toLowerCase()) <= 2);
  if (near !== undefined) return `unknown key; did you mean ${near}?`;
  return known.length === 0 ? "unknown key" : `unknown key; known here are ${known.join(", ")}`;
}

/** The keys that the schema has at a place. */
function keysAt(path: PropertyKey[]): string[] {
  let schema: unknown = MentoConfig;
  for (const step of path) {
    schema = unwrap(schema);
    if (schema instanceof z.ZodObject) schema = schema.shape[String(step)];
    else if (schema instanceof z.ZodArray) schema = schema.element;
    else if (schema instanceof z.ZodRecord) schema = schema.valueType;
  }
  const object = unwrap(schema);
  return object instanceof z.ZodObject ? Object.keys(object.shape) : [];
}

function unwrap(schema: unknown): unknown {
  let inner = schema;
  while (inner instanceof z.ZodDefault || inner instanceof z.ZodPrefault || inner instanceof z.ZodOptional) {
    inner = inner.unwrap();
  }
  return inner;
}

/** Levenshtein's distance. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

/** The line of the deepest part of the path that the document has: of the key, where there is one. */
function lineOf(document: Document, lines: LineCounter, path: PropertyKey[]): number {
  let offset = 0;
  let node: unknown = document.contents;
  for (const step of path) {
    if (isMap(node)) {
      const pair = node.items.find((item) => String(item.key) === String(step));
      if (pair === undefined) break;
      if (isNode(pair.key)) offset = pair.key.range?.[0] ?? offset;
      node = pair.value;
    } else if (isSeq(node)) {
      node = node.items[Number(step)];
      if (isNode(node)) offset = node.range?.[0] ?? offset;
    } else break;
  }
  return lines.linePos(offset).line;
}

/** `MENTO_BROKER_URL` → `broker.url`. Lists and numbers are written as YAML: `MENTO_WORKER_KEYS='["p11.#"]'`. */
function overrideFromEnvironment(
  value: unknown,
  environment: NodeJS.ProcessEnv,
): { value: unknown; places: Set<string> } {
  const sections = { broker: Broker, worker: Worker, site: Site, ssh: Ssh, slurmRest: SlurmRest };
  const places = new Set<string>();
  const result = value === null || value === undefined ? {} : value;
  if (typeof result !== "object" || Array.isArray(result)) return { value: result, places };
  const config = { ...(result as Record<string, unknown>) };
  for (const [section, schema] of Object.entries(sections)) {
    for (const [key, field] of Object.entries(schema.shape)) {
      const name = `MENTO_${`${section}_${key}`.replace(/[A-Z]/g, "_$&").toUpperCase()}`;
      const text = environment[name];
      if (text === undefined) continue;
      const old = config[section];
      const isText = unwrap(field) instanceof z.ZodString;
      config[section] = {
        ...(typeof old === "object" ? old : {}),
        [key]: isText ? text : fromYaml(text),
      };
      places.add(`${section}.${key}`);
    }
  }
  return { value: config, places };
}

/** What is not YAML stays text, and is then reported as such. */
function fromYaml(text: string): unknown {
  try {
    return parse(text) as unknown;
  } catch {
    return text;
  }
}
