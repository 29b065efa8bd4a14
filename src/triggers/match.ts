import type { TriggerInput } from "../messages/trigger-input.ts";
import { normalPath } from "../messages/path-text.ts";
import { asList, type Condition, type Exclusion, type TriggerCondition } from "./condition.ts";
import { compileCondition, shown } from "./fits.ts";
import { compilePathGlob } from "./path-glob.ts";
import type { Trigger } from "./trigger-config.ts";
import { stepsOf, valueAt } from "./value-name.ts";

export interface Unmatched {
  trigger: string;
  /** A sentence: which field did not fit, what it is and what the trigger wants. */
  reason: string;
}

/** Which triggers want this message, and why each other does not. */
export function matchTriggers(
  input: TriggerInput,
  triggers: readonly Trigger[],
): { matched: Trigger[]; unmatched: Unmatched[] } {
  const matched: Trigger[] = [];
  const unmatched: Unmatched[] = [];
  for (const trigger of triggers) {
    const reason = whyNot(input, trigger);
    if (reason === undefined) matched.push(trigger);
    else unmatched.push({ trigger: trigger.name, reason });
  }
  return { matched, unmatched };
}

function whyNot(input: TriggerInput, { on, unless }: Trigger): string | undefined {
  return unfitting(input, on).next().value?.whyNot(input) ?? whyExcluded(input, unless);
}

/** Each condition of the trigger that the message fails: none if the trigger wants it. */
export function missesOf(
  input: TriggerInput,
  { on, unless }: Pick<Trigger, "on" | "unless">,
): { field: string; reason: string }[] {
  const misses = [...unfitting(input, on)].map((field) => ({
    field: field.name,
    reason: field.whyNot(input),
  }));
  const excluded = whyExcluded(input, unless);
  return excluded === undefined ? misses : [...misses, { field: "unless", reason: excluded }];
}

function* unfitting(input: TriggerInput, on: TriggerCondition): Generator<Field, undefined, undefined> {
  for (const field of compiled(on)) {
    // Data is of no group: it only tells whose jobs count.
    if (field.name === "group" && input.job === null) continue;
    if (!field.fits(input)) yield field;
  }
}

function whyExcluded(input: TriggerInput, unless: Exclusion | undefined): string | undefined {
  if (unless === undefined) return undefined;
  const exclusion = compiled(unless);
  if (!exclusion.every((field) => field.fits(input))) return undefined;
  return `${exclusion.map((field) => field.is(input)).join(" and ")}, which the trigger excludes (unless)`;
}

/** One field of `on` or `unless`, ready for many messages. */
interface Field {
  name: string;
  fits(input: TriggerInput): boolean;
  /** `technique is xpcs`. */
  is(input: TriggerInput): string;
  whyNot(input: TriggerInput): string;
}

// Globs are costly to compile, and every message is held against every trigger.
const known = new WeakMap<object, readonly Field[]>();

function compiled(conditions: TriggerCondition | Exclusion): readonly Field[] {
  const found = known.get(conditions);
  if (found !== undefined) return found;
  const fields = fieldsOf(conditions);
  known.set(conditions, fields);
  return fields;
}

function fieldsOf(conditions: TriggerCondition | Exclusion): Field[] {
  const { type, path, parameters } = conditions;
  const values = Object.entries(VALUES).flatMap(([name, read]) => {
    const condition = conditions[name as keyof typeof VALUES];
    return condition === undefined ? [] : [valueField(name, read, condition)];
  });
  const ofParameters = Object.entries(parameters ?? {}).map(([name, condition]) => {
    const steps = stepsOf(name) ?? [];
    return valueField(`parameters.${name}`, ({ facts }) => valueAt(facts.parameters, steps), condition);
  });
  return [
    ...(type === undefined ? [] : [typeField(asList(type))]),
    ...values,
    ...(path === undefined ? [] : [pathField(asList(path))]),
    ...ofParameters,
  ];
}

/** What a message says for each field that holds one value; undefined or null where it says nothing. */
const VALUES = {
  trigger: ({ job }: TriggerInput) => job?.job.trigger,
  group: ({ job, event }: TriggerInput) =>
    job === null ? undefined : /^\/mento\/(.+)$/.exec(event.source)?.[1],
  exitCode: ({ job }: TriggerInput) => job?.exit?.code,
  reason: ({ job }: TriggerInput) => job?.exit?.reason,
  detector: ({ facts }: TriggerInput) => facts.detector,
  technique: ({ facts }: TriggerInput) => facts.technique,
  scan: ({ facts }: TriggerInput) => facts.scan,
  sample: ({ facts }: TriggerInput) => facts.sample,
  beamline: ({ beamline }: TriggerInput) => beamline,
  beamtimeId: ({ beamtimeId }: TriggerInput) => beamtimeId,
  source: ({ cause }: TriggerInput) => cause.source,
  bytes: ({ bytes }: TriggerInput) => bytes?.reduce((sum, size) => sum + size, 0),
} as const satisfies Record<
  Exclude<keyof TriggerCondition, "type" | "path" | "parameters">,
  (input: TriggerInput) => unknown
>;

function valueField(name: string, read: (input: TriggerInput) => unknown, condition: Condition): Field {
  const { fits, wanted } = compileCondition(condition);
  const is = (input: TriggerInput) => {
    const value = read(input);
    return value == null
      ? `the ${input.job === null ? "message" : "event"} has no ${name}`
      : `${name} is ${shown(value)}`;
  };
  return {
    name,
    fits: (input) => fits(read(input)),
    is,
    whyNot: (input) => `${is(input)}; the trigger wants ${wanted}`,
  };
}

function typeField(types: readonly string[]): Field {
  const is = ({ type }: TriggerInput) => `it is ${type}`;
  return {
    name: "type",
    fits: ({ type }) => types.includes(type),
    is,
    whyNot: (input) => `${is(input)}; the trigger wants ${types.join(" or ")}`,
  };
}

/** Linux's limits of a path and of a name in it: what is longer is no file. */
const CAN_BE_FILE = /^(?=[^]{1,4096}$)[^/]{0,255}(\/[^/]{0,255})*$/;

function pathField(globs: readonly string[]): Field {
  const matches = globs.map(compilePathGlob);
  const fits = (path: string) => {
    if (!CAN_BE_FILE.test(path)) return false;
    // A folder may be named with or without a slash at its end.
    const file = normalPath(path).replace(/(?<=.)\/$/s, "");
    return matches.some((match) => match(file));
  };
  const wanted = globs.join(" or ");
  return {
    name: "path",
    fits: ({ paths }) => paths.length > 0 && paths.every((path) => fits(path)),
    is: ({ paths }) => `the path ${shown(paths[0])} fits ${wanted}`,
    whyNot: ({ paths }) =>
      paths.length === 0
        ? `it has no path; the trigger wants ${wanted}`
        : `the path ${shown(paths.find((path) => !fits(path)))} does not fit ${wanted}`,
  };
}
