import { Rejected } from "../errors.ts";

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
  "results",
  "corePath",
  "beamline",
  "beamtimeId",
  "detector",
  "technique",
  "scan",
  "sample",
  "jobId",
] as const;

export type TemplateValues = Record<(typeof TEMPLATE_NAMES)[number], unknown> & {
  parameters: Record<string, unknown>;
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
    return [template.replace(PLACE, (_, inner: string) => asText(lookUp(inner, template, values)))];
  });
}

function lookUp(name: string, template: string, values: TemplateValues): unknown {
  let value: unknown = values;
  for (const key of name.split(".")) {
    value = isObject(value) && Object.hasOwn(value, key) ? value[key] : undefined;
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
