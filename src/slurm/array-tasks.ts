import { fieldsOf } from "../shells/answer-lines.ts";

/** Slurm's own limit of an array's indices (MaxArraySize) is below. */
const MAX_INDEX = 4_000_001;

/** Tasks of an array that Slurm tells of in one entry, which have not begun: `4711_[0-4%2]`, `4711_[1,3,5-9:2]`. */
export interface TaskList {
  arrayJobId: string;
  /** How many it has, at least 1: what a look into it costs. */
  ranges: number;
  /** Whether the task of this index is one of them; undefined if the list was cut before it could say. */
  has(index: number): boolean | undefined;
}

/** Whether it looks like one. */
export function isTaskList(id: string): boolean {
  return /^\d{1,10}_\[/.test(id);
}

/** @returns undefined if it is no such list, has more ranges than `most`, or a part of it is not understood */
export function parseTaskList(id: string, most = Infinity): TaskList | undefined {
  const [, arrayJobId, text = ""] = /^(\d+)_\[([^\]]*)\]?$/.exec(id) ?? [];
  if (arrayJobId === undefined) return undefined;
  // Behind `%` stands how many may run at once. Slurm ends a list that is too long for it with dots.
  const [list = ""] = text.split("%");
  const isCut = /\.\.\.$/.test(list) || !id.endsWith("]");
  const split = fieldsOf(list.replace(/,?\.\.\.$/, ""), ",", Math.min(most, MAX_INDEX) + 1);
  if (split.length > most) return undefined;
  const parts = split.filter((part) => part !== "");
  // What stands right before the cut may be a part of a number.
  const known = isCut && !list.endsWith(",...") ? parts.slice(0, -1) : parts;
  const ranges = known.map(parseRange);
  if (ranges.some((range) => range === undefined)) return undefined;
  const all = ranges.filter((range) => range !== undefined);
  const last = all.reduce((most, { to }) => Math.max(most, to), -1);
  const isIn = (index: number) =>
    all.some(({ from, to, step }) => index >= from && index <= to && (index - from) % step === 0);
  return {
    arrayJobId,
    ranges: Math.max(1, all.length),
    has: (index) => isIn(index) || (isCut && index > last ? undefined : false),
  };
}

function parseRange(text: string): { from: number; to: number; step: number } | undefined {
  const [, first, last = first, every = "1"] = /^(\d{1,7})(?:-(\d{1,7})(?::(\d{1,7}))?)?$/.exec(text) ?? [];
  const [from, to, step] = [Number(first), Number(last), Number(every)];
  return first !== undefined && from <= to && to < MAX_INDEX && step > 0 ? { from, to, step } : undefined;
}
