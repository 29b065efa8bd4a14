import { turnToRead } from "../messages/large-turns.ts";
import type { TriggerInput } from "../messages/trigger-input.ts";
import { matchTriggers } from "../triggers/match.ts";
import type { Trigger } from "../triggers/trigger-config.ts";

/** As {@link matchTriggers}; globs of many triggers on many long paths take their time. */
export async function matchInTurns(
  input: TriggerInput,
  bytes: number,
  triggers: readonly Trigger[],
): Promise<ReturnType<typeof matchTriggers>> {
  const all: ReturnType<typeof matchTriggers>[] = [];
  for (const trigger of triggers) {
    await turnToRead(bytes);
    all.push(matchTriggers(input, [trigger]));
  }
  return {
    matched: all.flatMap(({ matched }) => matched),
    unmatched: all.flatMap(({ unmatched }) => unmatched),
  };
}
