import { MentoError, Misconfigured, Rejected } from "../errors.ts";
import { decodeMessage } from "../messages/cloud-event.ts";
import { isJobCancel, readJobCancel } from "../messages/job-cancel.ts";
import { readTriggerInput, requireFromEvents, type TriggerInput } from "../messages/trigger-input.ts";
import { matchTriggers, type Unmatched } from "../triggers/match.ts";
import type { Trigger } from "../triggers/trigger-config.ts";
import type { MessageProperties } from "../messages/message-properties.ts";

/** What a worker of this configuration would do with a message, as far as the message alone tells. */
export interface ReplayPreview {
  input: TriggerInput | undefined;
  /** Names of the triggers that would run. */
  triggers: string[];
  /** The jobs that it would cancel, if its sender may. */
  cancels: string[];
  /** Why each other would not. */
  unmatched: Unmatched[];
  /** Why it would be rejected. */
  error: { code: string; message: string; hint: string } | null;
}

/** `only` is the trigger that the message is sent for, whatever the trigger's `on` says. */
export function previewOf(
  body: Uint8Array,
  properties: MessageProperties,
  triggers: readonly Trigger[],
  only?: string,
  isFromEvents = true,
): ReplayPreview {
  const none = { input: undefined, triggers: [], cancels: [], unmatched: [], error: null };
  try {
    const event = decodeMessage(body, properties);
    if (isJobCancel(event.type)) return { ...none, cancels: readJobCancel(event).jobs };
    const input = readTriggerInput(event);
    requireFromEvents(input, isFromEvents);
    if (only !== undefined) {
      const trigger = requireTrigger(only, triggers);
      return { ...none, input, triggers: [trigger.name] };
    }
    const { matched, unmatched } = matchTriggers(input, triggers);
    return { ...none, input, triggers: matched.map(({ name }) => name), unmatched };
  } catch (error) {
    const isFinal =
      error instanceof MentoError && (error instanceof Rejected || error.code === "unknown-trigger");
    if (!isFinal) throw error;
    const { code, message, hint } = error;
    return { ...none, error: { code, message, hint } };
  }
}

/** `would run azimuthal, powder`. */
export function previewLine({ triggers, cancels, unmatched, error }: ReplayPreview): string {
  if (error !== null) return `would be rejected again: ${error.message} [${error.code}]`;
  if (triggers.length > 0) return `would run ${triggers.join(", ")}`;
  if (cancels.length > 0) return `would cancel ${cancels.join(", ")}, if its sender may`;
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
