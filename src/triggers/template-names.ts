import { JobResult, type JobMethod } from "../messages/job-event.ts";
import type { InputType } from "../messages/trigger-input.ts";
import { meant } from "../text/nearest.ts";
import { stepsOf } from "./value-name.ts";

/** What a trigger's templates can name. Below `parameters`, any key of the message's parameters. */
export const TEMPLATE_NAMES = [
  "path",
  "paths",
  "path.name",
  "path.stem",
  "path.folder",
  "path.core",
  "paths.core",
  "path.beamline",
  "paths.beamline",
  "path.node",
  "paths.node",
  "results",
  "jobId",
  "corePath",
  "beamline",
  "beamtimeId",
  "session.core",
  "session.beamline",
  "session.node",
  "message.id",
  "message.source",
  "message.time",
  "cause.results",
  "cause.job",
  "cause.trigger",
  "cause.directory",
  "cause.exitCode",
  "detector",
  "technique",
  "scan",
  "sample",
] as const;
export type TemplateName = (typeof TEMPLATE_NAMES)[number];

/** Of these, single values are named by index: `paths[0]`. */
const LISTS: readonly string[] = ["paths", "paths.core", "paths.beamline", "paths.node", "cause.results"];
const RESULT_KEYS = Object.keys(JobResult.shape);

/** What is known of a trigger when its templates are checked. */
export interface TemplateScope {
  types: readonly InputType[];
  method: JobMethod;
}

/** Where a name's value is: one of {@link TEMPLATE_NAMES}, the parameters or the results of the cause's job; and below. */
export interface Named {
  base: TemplateName | "parameters" | "causeResults";
  steps: (string | number)[];
}

/** What a name of a template means; or a sentence: why nothing. */
export function readName(name: string): Named | string {
  const steps = stepsOf(name);
  if (steps === undefined) return "is no name";
  const [first, second] = steps;
  if (first === "parameters") {
    if (typeof second !== "string") return "needs the parameter's name: parameters.NAME";
    return { base: "parameters", steps: steps.slice(1) };
  }
  if (first === "results" && steps.length > 1) return readResult(steps);
  const index = steps.findIndex((step) => typeof step === "number");
  const base = steps.slice(0, index === -1 ? undefined : index).join(".");
  const below = index === -1 ? [] : steps.slice(index);
  if (!isTemplateName(base)) {
    return `names no known value${meant(base, [...TEMPLATE_NAMES, "results[0].path", "parameters.NAME"])}`;
  }
  if (below.length === 0 || (below.length === 1 && LISTS.includes(base))) return { base, steps: below };
  return LISTS.includes(base) ? `is too deep: ${base}[0] is a path` : `has no items: ${base} is one value`;
}

/** `results` alone is this job's folder; `results[0].path` a file of the job whose event this is. */
function readResult(steps: (string | number)[]): Named | string {
  const [, index, key] = steps;
  if (typeof index !== "number" || typeof key !== "string" || steps.length > 3) {
    return "must be a result's path: results[0].path or results[0].beamlinePath";
  }
  if (!RESULT_KEYS.includes(key)) return `names nothing of a result${meant(key, RESULT_KEYS)}`;
  return { base: "causeResults", steps: [index, key] };
}

function isTemplateName(name: string): name is TemplateName {
  return (TEMPLATE_NAMES as readonly string[]).includes(name);
}

/** Why a name can never have a value for a trigger of this kind, or undefined. */
export function scopeMistake({ base }: Named, { types, method }: TemplateScope): string | undefined {
  const isOfJobs = base === "causeResults" || base.startsWith("cause.");
  if (isOfJobs && types.every((type) => type === "data.ready")) {
    return "is of a job's event, and this trigger starts on data.ready; set on.type to job.completed, say";
  }
  if (base === "results" && method.startsWith("local-")) {
    return "is a folder on the core file system; a job of the worker's account has its own in $MENTO_RESULTS_DIR";
  }
  return undefined;
}
