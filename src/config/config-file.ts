import * as z from "zod";
import { Broker, MentoConfig, MOST_TRIGGERS, Site, SlurmRest, Ssh, Worker } from "./config-schema.ts";
import { unwrap, wordsOf, type Issue } from "./config-words.ts";
import { readYaml, type ConfigMistake } from "./config-yaml.ts";
import { asList } from "../triggers/condition.ts";
import { triggerMistakes } from "../triggers/trigger-mistakes.ts";

/** Every mistake at once, or the configuration. */
export function parseConfig(
  text: string,
  environment: NodeJS.ProcessEnv,
): { config: MentoConfig; mistakes: [] } | { config?: undefined; mistakes: ConfigMistake[] } {
  const written = readYaml(text);
  if (written.placeOf === undefined) return { mistakes: written.mistakes };
  const { value, places } = overrideFromEnvironment(written.value, environment);
  const parsed = MentoConfig.safeParse(value);
  const issues = [
    ...(parsed.error?.issues ?? []).flatMap((issue) => wordsOf(issue, value)),
    ...mistakesOfTriggers(value),
  ];
  if (parsed.success && issues.length === 0) return { config: withOwnGroup(parsed.data), mistakes: [] };
  const mistakes = issues.map(({ path, message }) => ({
    ...(places.has(path.slice(0, 2).join(".")) ? { line: null, column: null } : written.placeOf(path)),
    place: path.join("."),
    message,
  }));
  return { mistakes: mistakes.sort((a, b) => (a.line ?? 0) - (b.line ?? 0)) };
}

function mistakesOfTriggers(value: unknown): Issue[] {
  const { triggers, worker, slurmRest } = value as Record<"triggers" | "slurmRest", unknown> & {
    worker?: { group?: unknown };
  };
  if (!Array.isArray(triggers) || triggers.length > MOST_TRIGGERS) return [];
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
  const read = readYaml(text);
  return read.placeOf === undefined ? text : read.value;
}
