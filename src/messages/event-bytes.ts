import type { CloudEvent } from "./cloud-event.ts";
import { cut, cutId } from "../text/cut.ts";
import type { OutgoingEvent } from "./job-event.ts";
import { writeJson } from "./json.ts";

/** Every event fits into so much, whatever is in it: see the last of {@link STEPS}. */
export const LEAST_EVENT_BYTES = 16 * 1024;

export type EventData = OutgoingEvent["data"];

/**
 * What is left out of an event that is too large, one after the other until it fits: results, the reasons of an ignored
 * message, the end of an error's text, parameters, paths, the end of every long text. What is missing from a list is
 * counted; the event is still of its schema, and its id is the same.
 */
const STEPS: readonly ((data: EventData, over: number) => EventData)[] = [
  (data, over) => ("results" in data ? { ...data, ...shortened(data, "results", over) } : data),
  (data, over) => ("reasons" in data ? { ...data, ...shortened(data, "reasons", over) } : data),
  (data) => ({ ...data, error: data.error && (withShortTexts(data.error, 1000) as typeof data.error) }),
  (data) =>
    "message" in data ? { ...data, message: { ...data.message, parameters: {} }, parametersCut: true } : data,
  (data, over) => ({ ...data, ...shortened(data, "paths", over) }),
  (data) => withShortTexts(data, 1000) as EventData,
  (data) =>
    "slurm" in data ? { ...data, slurm: { ...data.slurm, nodes: data.slurm.nodes.slice(0, 20) } } : data,
  (data) => ("chain" in data ? { ...data, chain: data.chain.slice(0, 16) } : data),
  (data) => withShortTexts(data, 200) as EventData,
  (data) => withShortTexts(data, 50) as EventData,
  (data) =>
    "job" in data ? { ...data, slurm: { ...data.slurm, nodes: [] }, chain: data.chain.slice(0, 4) } : data,
];

/** Those that leave every path, id and state as it is. */
const STEPS_OF_RECORDS = STEPS.slice(0, 5);

/** The bytes of an event to publish, at most so many. */
export function eventBytes(event: CloudEvent & { data: EventData }, most: number): Buffer {
  return fitted(event.data, most, STEPS, (data) => ({ ...event, data }));
}

/** The bytes of an event's data alone, as a message's sender is answered with, at most so many. */
export function answerBytes(answer: EventData, most: number): Buffer {
  return fitted(answer, most, STEPS, (data) => data);
}

/** The same of a job's tracking record: at most so many, if what its message said is all that is too large. */
export function recordBytes(record: { data: EventData }, most: number): Buffer {
  return fitted(record.data, most, STEPS_OF_RECORDS, (data) => ({ ...record, data }));
}

function fitted(
  whole: EventData,
  most: number,
  steps: typeof STEPS,
  around: (data: EventData) => object,
): Buffer {
  let data = whole;
  let bytes = Buffer.from(writeJson(around(data)));
  for (const step of steps) {
    if (bytes.byteLength <= most) break;
    data = step(data, bytes.byteLength - most);
    bytes = Buffer.from(writeJson(around(data)));
  }
  return bytes;
}

/** Room for `"resultsCut":123456,`. */
const COUNT_BYTES = 32;

/** The list without so many bytes of its end, and how many items are missing in all. */
function shortened(data: EventData, list: "results" | "reasons" | "paths", over: number): Partial<EventData> {
  const values = data as unknown as Record<string, unknown>;
  const items = values[list] as unknown[];
  if (items.length === 0) return {};
  let kept = items.length;
  for (let gained = -COUNT_BYTES; gained < over && kept > 0; kept--) {
    gained += Buffer.byteLength(writeJson(items[kept - 1])) + 1;
  }
  const before = (values[`${list}Cut`] as number | undefined) ?? 0;
  return { [list]: items.slice(0, kept), [`${list}Cut`]: before + items.length - kept };
}

/** Ids are still different ones; names of states and the like are shorter than any limit here. */
function withShortTexts(value: unknown, most: number, name = ""): unknown {
  if (typeof value === "string") return /^(id|source)$/.test(name) ? cutId(value, most) : cut(value, most);
  if (Array.isArray(value)) return value.map((one) => withShortTexts(one, most));
  if (typeof value !== "object" || value === null || Object.getPrototypeOf(value) !== Object.prototype)
    return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, withShortTexts(one, most, key)]));
}
