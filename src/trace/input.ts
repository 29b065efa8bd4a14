import { decodeMessage } from "../messages/cloud-event.ts";
import { readTriggerInput, type TriggerInput } from "../messages/trigger-input.ts";
import type { Story } from "./stories.ts";

/** What triggers are matched with; null: the history does not have the message any more, or nobody can read it. */
export function inputOf({ message }: Story): TriggerInput | null {
  if (message === null) return null;
  try {
    return readTriggerInput(decodeMessage(message.body, message.properties));
  } catch {
    return null;
  }
}
