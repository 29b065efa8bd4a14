import {
  isMap,
  isNode,
  isSeq,
  Lexer,
  LineCounter,
  parse,
  parseDocument,
  Parser,
  visit,
  type Document,
} from "yaml";
import { z } from "zod";
import { Broker, MentoConfig, Site, SlurmRest, Ssh, Worker } from "./config-schema.ts";
import { unwrap, wordsOf, type Issue } from "./config-words.ts";
import { asList } from "./triggers/condition.ts";
import { triggerMistakes } from "./triggers/trigger-mistakes.ts";

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
  const tooDeep = lineTooDeep(text);
  if (tooDeep !== undefined) return { mistakes: [notYaml(new Error("nested too deeply"), tooDeep)] };
  const lines = new LineCounter();
  const options = { lineCounter: lines, prettyErrors: false, logLevel: "error" } as const;
  const document = attempt(() => parseDocument(text, options));
  if (document instanceof Error) return { mistakes: [notYaml(document, 1)] };
  const broken = document.errors.map((error) => notYaml(error, lines.linePos(error.pos[0]).line));
  let lastAlias = 1;
  visit(document, {
    Alias: (_, alias, ancestors) => {
      const line = lines.linePos(alias.range?.[0] ?? 0).line;
      const named = alias.resolve(document);
      lastAlias = line;
      if (named === undefined) {
        broken.push({ line, place: "", message: `*${alias.source} begins with *: put it in quotes` });
      } else if (ancestors.includes(named)) {
        broken.push({ line, place: "", message: `*${alias.source} stands inside of what it stands for` });
      }
    },
  });
  if (broken.length > 0) return { mistakes: broken };
  const written = attempt(() => document.toJS() as unknown);
  if (written instanceof Error) return { mistakes: [notYaml(written, lastAlias)] };
  const overridden = overrideFromEnvironment(written, environment);
  const { value, places } = overridden;
  const parsed = MentoConfig.safeParse(value);
  const issues = [
    ...(parsed.error?.issues ?? []).flatMap((issue) => wordsOf(issue, value)),
    ...mistakesOfTriggers(value),
  ];
  if (parsed.success && issues.length === 0) return { config: withOwnGroup(parsed.data), mistakes: [] };
  const mistakes = issues.map(({ path, message }) => ({
    line: places.has(path.slice(0, 2).join(".")) ? null : lineOf(document, lines, path),
    place: path.join("."),
    message,
  }));
  return { mistakes: mistakes.sort((a, b) => (a.line ?? 0) - (b.line ?? 0)) };
}

/** What the parser throws for what nests or repeats itself beyond all measure. */
function attempt<T>(work: () => T): T | Error {
  try {
    return work();
  } catch (error) {
    if (error instanceof RangeError || error instanceof ReferenceError) return error;
    throw error;
  }
}

/** No configuration is nested so deeply. What builds values of it is recursive: at a stack's end V8 can end the process. */
const DEEPEST = 200;

/** The line on which the text becomes nested too deeply; tokens are read without recursion. */
function lineTooDeep(text: string): number | undefined {
  const parser = new Parser();
  let line = 1;
  for (const lexeme of new Lexer().lex(text)) {
    Array.from(parser.next(lexeme));
    if (parser.stack.length > DEEPEST) return line;
    line += lexeme.split("\n").length - 1;
  }
  return undefined;
}

function notYaml({ message }: Error, line: number): ConfigMistake {
  return { line, place: "", message: `not YAML: ${message}` };
}

function mistakesOfTriggers(value: unknown): Issue[] {
  const { triggers, worker, slurmRest } = value as Record<"triggers" | "slurmRest", unknown> & {
    worker?: { group?: unknown };
  };
  if (!Array.isArray(triggers)) return [];
  const group = Worker.shape.group.safeParse(worker?.group).data ?? "default";
  return triggerMistakes(triggers, { group, hasSlurmRest: slurmRest !== undefined }).map(
    ({ trigger, place, message }) => ({
      path: ["triggers", trigger, ...place],
      message,
    }),
  );
}

/** Events of all groups come to every group that starts on jobs: unless a trigger says so, those of others are not its. */
function withOwnGroup(config: MentoConfig): MentoConfig {
  const triggers = config.triggers.map((trigger) => {
    const { on } = trigger;
    const isOfJobs = asList(on.type).some((type) => type !== "data.ready");
    return isOfJobs && on.group === undefined
      ? { ...trigger, on: { ...on, group: config.worker.group } }
      : trigger;
  });
  return { ...config, triggers };
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
    return lineTooDeep(text) === undefined ? (parse(text) as unknown) : text;
  } catch {
    return text;
  }
}
