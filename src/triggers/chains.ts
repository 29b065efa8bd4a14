import { asList } from "./condition.ts";
import { globFits } from "./fits.ts";
import { meant } from "./nearest.ts";
import type { Trigger } from "./trigger-config.ts";

/** A mistake of one trigger: where in it, and what would be right. */
export interface TriggerMistake {
  trigger: number;
  place: (string | number)[];
  message: string;
}

/** Triggers of a configuration by their places in it; those with other mistakes are missing. */
export type Triggers = readonly { index: number; trigger: Trigger }[];

/** Names in `on.trigger` and `unless.trigger` that no trigger of this group has. */
export function unknownTriggers(
  triggers: Triggers,
  names: readonly string[],
  group: string,
): TriggerMistake[] {
  return triggers.flatMap(({ index, trigger }) =>
    (["on", "unless"] as const).flatMap((key) => {
      const isOfJobs = asList(trigger.on.type).some((type) => type !== "data.ready");
      const groups = asList(trigger[key]?.group ?? trigger.on.group);
      if (!isOfJobs || groups.some((one) => one !== group)) return [];
      return asList(trigger[key]?.trigger).flatMap((wanted, place) => {
        if (names.some((name) => globFits(wanted, name))) return [];
        const steps = [key, "trigger", ...(Array.isArray(trigger[key]?.trigger) ? [place] : [])];
        const message = `no trigger of this configuration is ${wanted}${meant(wanted, names)}; for another group's, set ${key}.group`;
        return [{ trigger: index, place: steps, message }];
      });
    }),
  );
}

/** Triggers that start one another for ever: each circle once, at its first trigger. */
export function circles(triggers: Triggers, group: string): TriggerMistake[] {
  const seen = new Set<number>();
  const mistakes: TriggerMistake[] = [];
  for (const first of triggers) {
    if (seen.has(first.index)) continue;
    const circle = shortestCircle(first, triggers, group);
    if (circle === undefined) continue;
    for (const { index } of circle) seen.add(index);
    const names = circle.map(({ trigger }) => trigger.name);
    const message =
      names.length === 1
        ? `${names[0] ?? ""} would start itself again and again; name other triggers in on.trigger, or exclude it: unless: { trigger: ${names[0] ?? ""} }`
        : `a circle without end: ${[...names, names[0]].join(" → ")}; name what starts each in on.trigger, or exclude with unless`;
    mistakes.push({ trigger: first.index, place: ["on"], message });
  }
  return mistakes;
}

function shortestCircle(first: Triggers[number], triggers: Triggers, group: string): Triggers | undefined {
  const ways: Triggers[number][][] = [[first]];
  const reached = new Set<number>();
  for (const way of ways) {
    const last = way.at(-1);
    for (const next of triggers) {
      if (last === undefined || !starts(last.trigger, next.trigger, group)) continue;
      if (next.index === first.index) return way;
      if (reached.has(next.index)) continue;
      reached.add(next.index);
      ways.push([...way, next]);
    }
  }
  return undefined;
}

/** Whether the end of a job of one trigger can start the other, by what is known before there is a message. */
function starts({ name }: Trigger, { on, unless }: Trigger, group: string): boolean {
  const fits = (wanted: string | readonly string[] | undefined, value: string) =>
    wanted === undefined || asList(wanted).some((one) => globFits(one, value));
  if (!fits(on.trigger, name) || !fits(on.group, group)) return false;
  return asList(on.type).some((type) => {
    if (type === "data.ready") return false;
    if (unless === undefined) return true;
    const { type: types, trigger, group: groups, ...others } = unless;
    const mayStillStart = Object.values(others).some((field) => field !== undefined);
    const isExcluded =
      fits(trigger, name) && fits(groups, group) && (types === undefined || asList(types).includes(type));
    return mayStillStart || !isExcluded;
  });
}
