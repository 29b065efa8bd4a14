import { MentoError, Misconfigured, Rejected } from "../errors.ts";
import { decodeMessage, type MessageProperties } from "../messages/cloud-event.ts";
import { readTriggerInput, type TriggerInput } from "../messages/trigger-input.ts";
import { matchTriggers, type Unmatched } from "../triggers/match.ts";
import type { Trigger } from "../triggers/trigger-config.ts";

/** What a worker of this configuration would do with a message, as far as the message alone tells. */
export interface Outlook {
  input: TriggerInput | undefined;
  /** Names of the triggers that would run. */
  triggers: string[];
  /** Why each other would not. */
  unmatched: Unmatched[];
  /** Why it would be rejected. */
  error: { code: string; message: string; hint: string } | null;
}

/** `only` is the trigger that the message is sent for, whatever the trigger's `on` says. */
export function outlookOf(
  body: Uint8Array,
  properties: MessageProperties,
  triggers: readonly Trigger[],
  only?: string,
): Outlook {
  try {
    const input = readTriggerInput(decodeMessage(body, properties));
    if (only !== undefined) {
      const trigger = requireTrigger(only, triggers);
      return { input, triggers: [trigger.name], unmatched: [], error: null };
    }
    const { matched, unmatched } = matchTriggers(input, triggers);
    return { input, triggers: matched.map(({ name }) => name), unmatched, error: null };
  } catch (error) {
    const isFinal =
      error instanceof MentoError && (error instanceof Rejected || error.code === "unknown-trigger");
    if (!isFinal) throw error;
    const { code, message, hint } = error;
    return { input: undefined, triggers: [], unmatched: [], error: { code, message, hint } };
  }
}

/** `would run azimuthal, powder`. */
export function outlookLine({ triggers, unmatched, error }: Outlook): string {
  if (error !== null) return `would be rejected again: ${error.message} [${error.code}]`;
  if (triggers.length > 0) return `would run ${triggers.join(", ")}`;
  const reasons = unmatched.map(({ trigger, reason }) => `${trigger}: ${reason}`).join("; ");
  return `no trigger would want it: ${reasons || "none is configured"}`;
}

/**
 * @throws Misconfigured `unknown-trigger`
 */
export function requireTrigger(name: string, triggers: readonly Trigger[]): Trigger {
  const found = triggers.find((trigger) => trigger.name === name);
  if (found !== undefined) return found;
  throw new Misconfigured({
    code: "unknown-trigger",
    message: `The configuration has no trigger ${name}.`,
    hint: `It has ${triggers.map((trigger) => trigger.name).join(", ") || "none"}; -c names another configuration.`,
  });
}
