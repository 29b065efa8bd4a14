import { missesOf } from "../triggers/match.ts";
import type { Trigger } from "../triggers/trigger-config.ts";
import { inputOf } from "./input.ts";
import type { Story } from "./stories.ts";

/** What kept messages from a trigger that none has matched. */
export interface NearMiss {
  trigger: string;
  /** The one condition that they failed: most of them this one. */
  reason: string;
  /** How many messages failed it, and no other. */
  count: number;
}

/** So many messages are held against such triggers, the newest. */
const MOST_READ = 2_000;

/** Of the triggers without a job in these stories, which no message matched either: the condition that was nearest to it. */
export function nearMissesOf(stories: readonly Story[], triggers: readonly Trigger[]): NearMiss[] {
  const ran = new Set(stories.flatMap(({ jobs }) => [...jobs.values()].map(({ data }) => data.job.trigger)));
  const idle = triggers.filter(({ name }) => !ran.has(name));
  if (idle.length === 0) return [];
  const inputs = stories.slice(-MOST_READ).flatMap((story) => inputOf(story) ?? []);
  return idle.flatMap((trigger) => {
    const counts = new Map<string, number>();
    for (const input of inputs) {
      const misses = missesOf(input, trigger);
      if (misses.length === 0) return [];
      const [only] = misses;
      if (only === undefined || misses.length > 1 || only.field === "type") continue;
      counts.set(only.reason, (counts.get(only.reason) ?? 0) + 1);
    }
    const [most] = [...counts].sort(([, one], [, other]) => other - one);
    return most === undefined ? [] : [{ trigger: trigger.name, reason: most[0], count: most[1] }];
  });
}
