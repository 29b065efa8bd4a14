import picomatch from "picomatch";
import type { TriggerInput } from "../messages/trigger-input.ts";
import type { Trigger, TriggerCondition } from "./trigger-config.ts";

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
    const reason = whyNot(input, trigger.on);
    if (reason === undefined) matched.push(trigger);
    else unmatched.push({ trigger: trigger.name, reason });
  }
  return { matched, unmatched };
}

function whyNot(input: TriggerInput, on: TriggerCondition): string | undefined {
  const types = asList(on.type);
  if (!types.includes(input.type)) return `it is ${input.type}; the trigger wants ${types.join(" or ")}`;
  const triggers = asList(on.trigger);
  const trigger = input.job?.job.trigger;
  if (triggers.length > 0 && (trigger === undefined || !triggers.includes(trigger))) {
    return `its trigger is ${trigger ?? "none"}; the trigger wants ${triggers.join(" or ")}`;
  }
  for (const field of ["detector", "technique", "scan", "sample"] as const) {
    const wanted = asList<string | number>(on[field]);
    const value = input.facts[field];
    if (wanted.length === 0) continue;
    if (value === null) return `the message has no ${field}; the trigger wants ${wanted.join(" or ")}`;
    if (!wanted.some((one) => String(one) === String(value))) {
      return `${field} is ${value}; the trigger wants ${wanted.join(" or ")}`;
    }
  }
  const globs = asList(on.path);
  if (globs.length === 0) return undefined;
  const fits = picomatch(globs, { dot: true });
  const odd = input.paths.find((path) => !fits(path));
  return odd === undefined ? undefined : `the path ${odd} does not fit ${globs.join(" or ")}`;
}

function asList<T>(value: T | T[] | undefined): T[] {
  if (value === undefined) return [];
  return Array.isArray(value) ? value : [value];
}
