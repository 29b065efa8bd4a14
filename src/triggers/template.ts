import { Rejected } from "../errors.ts";
import type { JobResult } from "../messages/job-event.ts";

/**
 * Templates fill single arguments of a program, never a command line. `{{ name }}` stands for a value;
 * an argument that is nothing but one `{{ name }}` whose value is a list becomes several arguments.
 */
const PLACE = /\{\{\s*([^{}]*?)\s*\}\}/g;
const WHOLE = /^\{\{\s*([^{}]*?)\s*\}\}$/;

/** What a trigger's templates can name. Below `parameters`, any key of the message's parameters. */
export const TEMPLATE_NAMES = [
  "path",
  "paths",
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

export type TemplateValues = Partial<Record<(typeof TEMPLATE_NAMES)[number], unknown>> & {
  parameters: Record<string, unknown>;
  /** Of the job whose event this is: named `results[0].path`. */
  causeResults?: readonly JobResult[] | undefined;
};

/** Why a template can never be filled, or undefined. For the configuration's check at load. */
export function templateMistake(template: string): string | undefined {
  for (const [place, name = ""] of template.matchAll(PLACE)) {
    if (/^parameters(\.[^.\s]+)+$/.test(name)) continue;
    if (!(TEMPLATE_NAMES as readonly string[]).includes(name)) {
      return `${place} names no known value; known are ${TEMPLATE_NAMES.join(", ")} and parameters.NAME`;
    }
  }
  const rest = template.replace(PLACE, "");
  return rest.includes("{{") || rest.includes("}}") ? "has a {{ or }} without its other half" : undefined;
}

/**
 * @throws Rejected `template-value-missing`: names the template and the value
 */
export function fillArguments(templates: readonly string[], values: TemplateValues): string[] {
  return templates.flatMap((template) => {
    const name = WHOLE.exec(template)?.[1];
    const value = name === undefined ? undefined : lookUp(name, template, values);
    if (Array.isArray(value)) return value.map(asText);
    return [fillText(template, values)];
  });
}

/** One text, whatever it names. Throws as {@link fillArguments}. */
export function fillText(template: string, values: TemplateValues): string {
  return template.replace(PLACE, (_, name: string) => asText(lookUp(name, template, values)));
}

function lookUp(name: string, template: string, values: TemplateValues): unknown {
  let value: unknown = Object.hasOwn(values, name) ? values[name as keyof TemplateValues] : undefined;
  if (name.startsWith("parameters.")) {
    value = values.parameters;
    for (const key of name.split(".").slice(1)) {
      value = isObject(value) && Object.hasOwn(value, key) ? value[key] : undefined;
    }
  }
  if (value !== undefined && value !== null) return value;
  throw new Rejected({
    code: "template-value-missing",
    message: `The trigger's argument ${JSON.stringify(template)} needs ${name}, which the message does not have.`,
    hint: "Send the value in the message, or let the trigger match only messages that have it.",
  });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function asText(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}
