import * as z from "zod";
import { ExitReason } from "../messages/job-event.ts";
import { INPUT_TYPES } from "../messages/trigger-input.ts";
import { ByteSize } from "./byte-size.ts";
import { globMistake, pathGlobsMistake } from "./glob-mistake.ts";
import { stepsOf } from "./value-name.ts";

/** One value or several of which one must fit. */
function oneOrMore<T extends z.ZodType>(value: T) {
  return z.union([value, z.array(value).min(1)]);
}

/** `{ min, max }` or `{ exists }`. */
function bounds<T extends z.ZodType<number>>(limit: T) {
  return z
    .strictObject({
      min: limit.optional().describe("The least that fits."),
      max: limit.optional().describe("The greatest that fits."),
      exists: z.boolean().optional().describe("true: any value; false: none at all."),
    })
    .superRefine(({ min, max, exists }, context) => {
      const mistake = boundsMistake(min, max, exists);
      if (mistake !== undefined) context.addIssue({ code: "custom", message: mistake });
    });
}

function boundsMistake(min: unknown, max: unknown, exists: unknown): string | undefined {
  const isRange = min !== undefined || max !== undefined;
  if (!isRange && exists === undefined) return "must have min or max, or exists";
  if (isRange && exists !== undefined) return "exists stands alone: a range asks for a value anyway";
  if (!isRange || typeof min !== "number" || typeof max !== "number" || min <= max) return undefined;
  return `min ${min} is greater than max ${max}: nothing can fit`;
}

const text = z.string().min(1);
const anyBounds = bounds(z.number());

/** A value, a list of which one must fit, or bounds. A text with `*` or `?` is a glob. */
const Condition = z.union([
  text,
  z.number(),
  z.boolean(),
  z.array(z.union([text, z.number(), z.boolean(), anyBounds])).min(1),
  anyBounds,
]);
export type Condition = z.infer<typeof Condition>;

function numberCondition<T extends z.ZodType<number>>(limit: T) {
  const range = bounds(limit);
  return z.union([limit, z.array(z.union([limit, range])).min(1), range]);
}

const PathGlob = z.string().min(1).superRefine(reportMistake(globMistake));

const PathGlobs = z.union([
  PathGlob.superRefine(reportMistake((glob) => pathGlobsMistake([glob]))),
  z.array(PathGlob).min(1).superRefine(reportMistake(pathGlobsMistake)),
]);

/** In zod's unions a mistake of one branch must not hide the other's. */
function reportMistake<T>(mistakeOf: (value: T) => string | undefined) {
  return (value: T, context: z.RefinementCtx) => {
    const message = mistakeOf(value);
    if (message !== undefined) context.addIssue({ code: "custom", message });
  };
}

const ParameterName = z
  .string()
  .refine(
    (name) => stepsOf(name) !== undefined,
    "must be a parameter's name, such as exposure or detector.distance",
  );

const OF_MESSAGE = "A value, a glob (*, ?), a list, { min, max } or { exists } for the message's ";

const fields = {
  path: PathGlobs.optional().describe("Globs for the data's paths; every path of the message must fit one."),
  detector: Condition.optional().describe(`${OF_MESSAGE}detector.`),
  technique: Condition.optional().describe(`${OF_MESSAGE}technique.`),
  scan: Condition.optional().describe(`${OF_MESSAGE}scan; a range fits numbers that are sent as text, too.`),
  sample: Condition.optional().describe(`${OF_MESSAGE}sample.`),
  beamline: Condition.optional().describe("As the message names it."),
  beamtimeId: Condition.optional().describe("As the message names it."),
  source: Condition.optional().describe("Who sent the data-ready message."),
  bytes: numberCondition(ByteSize)
    .optional()
    .describe("The sum of the message's sizes; 50MB and such will do."),
  parameters: z
    .record(ParameterName, Condition)
    .refine((names) => Object.keys(names).length > 0, "must name at least one parameter")
    .optional()
    .describe("A parameter's name, dots leading deeper → what it must be."),
  trigger: oneOrMore(text)
    .optional()
    .describe("Of a job's event: the trigger that it ran for; globs will do."),
  group: oneOrMore(text)
    .optional()
    .describe("Of a job's event: the worker group that ran it; globs will do. Default: the worker's own."),
  exitCode: numberCondition(z.int()).optional().describe("Of a job's event."),
  reason: oneOrMore(ExitReason).optional().describe("Of a failed job's event: why."),
};

const types = oneOrMore(z.enum(INPUT_TYPES));

/** Which messages start the trigger. Every field given must fit; a list fits if one of its values does. */
export const TriggerCondition = z.strictObject({
  type: types
    .default("data.ready")
    .describe("What starts the trigger: data, or the end of another trigger's job."),
  ...fields,
});
export type TriggerCondition = z.infer<typeof TriggerCondition>;

/** Which of these do not, after all: those that fit every field given. */
export const Exclusion = z
  .strictObject({ type: types.optional().describe("Of those that the trigger starts on."), ...fields })
  .refine((exclusion) => Object.values(exclusion).some((field) => field !== undefined), {
    message: "must have at least one field: what fits all of them does not start the trigger",
  });
export type Exclusion = z.infer<typeof Exclusion>;

/** Fields that only some messages have. */
export const JOB_FIELDS = ["trigger", "group", "exitCode", "reason"] as const;
export const DATA_FIELDS = ["bytes"] as const;

export function asList<T>(value: T | readonly T[] | undefined): readonly T[] {
  if (value === undefined) return [];
  return (Array.isArray as (one: unknown) => one is readonly T[])(value) ? value : [value];
}
