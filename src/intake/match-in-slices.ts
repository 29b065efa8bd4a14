import { yieldForLarge } from "../messages/yield-for-large.ts";
import type { TriggerInput } from "../messages/trigger-input.ts";
import { matchTriggers } from "../triggers/match.ts";
import type { Trigger } from "../triggers/trigger-config.ts";

/** As {@link matchTriggers}; globs of many triggers on many long paths take their time. */
export async function matchInSlices(
  input: TriggerInput,
  bytes: number,
  triggers: readonly Trigger[],
): Promise<ReturnType<typeof matchTriggers>> {
  const all: ReturnType<typeof matchTriggers>[] = [];
  for (const trigger of triggers) {
    await yieldForLarge(bytes);
    all.push(matchTriggers(input, [trigger]));
  }
  return {
    matched: all.flatMap(({ matched }) => matched),
    unmatched: all.flatMap(({ unmatched }) => unmatched),
  };
}
