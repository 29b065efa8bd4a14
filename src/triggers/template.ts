import { Rejected } from "../errors.ts";
import type { JobResult } from "../messages/job-event.ts";
import { writeJson } from "../messages/json.ts";
import { readName, scopeMistake, type TemplateName, type TemplateScope } from "./template-names.ts";
import { parseTemplate, type Placeholder } from "./template-syntax.ts";
import { valueAt } from "./value-name.ts";

export type TemplateValues = Partial<Record<TemplateName, unknown>> & {
  parameters: Record<string, unknown>;
  /** Of the job whose event this is: named `results[0].path`. */
  causeResults?: readonly JobResult[] | undefined;
};

/** Why a template can never be filled, or undefined. For the configuration's check at load. */
export function templateMistake(template: string, scope?: TemplateScope): string | undefined {
  const parsed = parseTemplate(template);
  if ("mistake" in parsed) return parsed.mistake;
  for (const part of parsed.parts) {
    if (typeof part === "string" || "text" in part.term) continue;
    const named = readName(part.term.name);
    const mistake = typeof named === "string" ? named : scope && scopeMistake(named, scope);
    if (mistake !== undefined) return `${part.source} ${mistake}`;
  }
  return undefined;
}

/**
 * `{{ name }}` stands for a value; an argument that is nothing but one `{{ name }}` whose value is a list becomes several
 * arguments.
 *
 * @throws Rejected `template-value-missing`: names the template and the value
 */
export function fillArguments(templates: readonly string[], values: TemplateValues): string[] {
  return templates.flatMap((template) => {
    const parts = partsOf(template);
    const [only] = parts;
    if (parts.length === 1 && typeof only === "object" && only.join === undefined) {
      const value = valueOf(only, template, values);
      return Array.isArray(value) ? value.map(asText) : [asText(value)];
    }
    return [filled(parts, template, values)];
  });
}

/** One text, whatever it names. Throws as {@link fillArguments}. */
export function fillText(template: string, values: TemplateValues): string {
  return filled(partsOf(template), template, values);
}

/** Whether it asks for a path as the beamline sees it, by name: then that is what the program wants. */
export function asksForBeamlineView(template: string): boolean {
  return partsOf(template).some((part) => {
    if (typeof part === "string" || "text" in part.term) return false;
    return /^(paths?|session)\.beamline\b|\.beamlinePath$/.test(part.term.name);
  });
}

/**
 * Whether an argument that begins so has that from a name or path of the message. Not from its parameters, from the
 * template's own text, or from a default.
 */
export function beginsWithWord(template: string, filled: string): boolean {
  for (const part of partsOf(template)) {
    if (typeof part === "string" || "text" in part.term) return false;
    if (filled === String(part.default)) return false;
    if (!part.term.name.startsWith("parameters.")) return true;
  }
  return false;
}

function partsOf(template: string): readonly (string | Placeholder)[] {
  const parsed = parseTemplate(template);
  // The configuration's check lets none of these through.
  if ("mistake" in parsed) throw new Error(`the template ${JSON.stringify(template)} ${parsed.mistake}`);
  return parsed.parts;
}

function filled(parts: readonly (string | Placeholder)[], template: string, values: TemplateValues): string {
  const texts = parts.map((part) => {
    if (typeof part === "string") return part;
    const value = valueOf(part, template, values);
    return Array.isArray(value) && part.join !== undefined
      ? value.map(asText).join(part.join)
      : asText(value);
  });
  return texts.join("");
}

function valueOf(placeholder: Placeholder, template: string, values: TemplateValues): unknown {
  if ("text" in placeholder.term) return placeholder.term.text;
  const { name } = placeholder.term;
  const named = readName(name);
  if (typeof named === "string") throw new Error(`${placeholder.source} ${named}`);
  const found = valueAt(Object.hasOwn(values, named.base) ? values[named.base] : undefined, named.steps);
  const value = found ?? placeholder.default;
  if (value !== undefined) return value;
  throw new Rejected({
    code: "template-value-missing",
    message: `The trigger's argument ${JSON.stringify(template)} needs ${name}, which the message does not have.`,
    hint: "Send the value in the message, give the template a default, or let the trigger match only messages that have it.",
  });
}

function asText(value: unknown): string {
  return typeof value === "string" ? value : writeJson(value);
}
