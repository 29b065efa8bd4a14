import { asList } from "./condition.ts";
import { globFits } from "./fits.ts";
import { meant } from "../text/nearest.ts";
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

/** `results[0].beamlinePath` of jobs whose results are not copied to the beamline: there is none. */
export function uncopiedResults(triggers: Triggers, group: string): TriggerMistake[] {
  return triggers.flatMap(({ index, trigger: { on, run } }) => {
    if (asList(on.group ?? group).some((one) => one !== group)) return [];
    const causes = asList(on.trigger).flatMap((wanted) =>
      triggers.flatMap(({ trigger }) => (globFits(wanted, trigger.name) ? [trigger] : [])),
    );
    const isSeen = ({ method, copyBack }: Trigger) =>
      method === "local-bash-script" || copyBack !== undefined;
    const [cause] = causes;
    if (cause === undefined || causes.some(isSeen)) return [];
    return run.flatMap((template, place) => {
      const named = /results\[\d+\]\.beamlinePath/.exec(template)?.[0];
      if (named === undefined) return [];
      const message = `${named}: the results of ${cause.name} are not copied to the beamline; give it copyBack, or take ${named.replace("beamlinePath", "path")}`;
      return [{ trigger: index, place: ["run", place], message }];
    });
  });
}

/** Triggers that start one another for ever: each circle once, at its first trigger. */
export function circles(triggers: Triggers, group: string): TriggerMistake[] {
  const startedBy = new Map(
    triggers.map((one) => [one, triggers.filter(({ trigger }) => starts(one.trigger, trigger, group))]),
  );
  const seen = new Set<number>();
  const mistakes: TriggerMistake[] = [];
  for (const first of triggers) {
    if (seen.has(first.index)) continue;
    const circle = shortestCircle(first, startedBy);
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

type One = Triggers[number];

function shortestCircle(first: One, startedBy: ReadonlyMap<One, Triggers>): Triggers | undefined {
  /** By which each was reached; in the order in which they were. */
  const reached = new Map<One, One>();
  const wayTo = (one: One): One[] => {
    const before = reached.get(one);
    return one === first || before === undefined ? [first] : [...wayTo(before), one];
  };
  const queue = [first];
  for (const last of queue) {
    for (const next of startedBy.get(last) ?? []) {
      if (next === first) return wayTo(last);
      if (reached.has(next)) continue;
      reached.set(next, last);
      queue.push(next);
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
