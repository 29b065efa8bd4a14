import { CLOCKS_DIFFER_MS } from "../time/can-be.ts";
import type { JobRecords } from "./records.ts";

/** The time of the host where a job's records lie: what it said when they were read, unless that is no clock. */
export function timeThere(readAt: number | null, now: Date): Date {
  const isClock = readAt !== null && Math.abs(readAt - now.getTime()) <= CLOCKS_DIFFER_MS;
  return isClock ? new Date(readAt) : now;
}

/**
 * The records with times that can be: none before the submit, none after now, no end before its start. Where clocks differ
 * a little, both times are moved by what the one is off, so that the time between them stays; a record that is further off
 * is left out.
 *
 * @param submitted RFC 3339; null: not known
 * @param now by the clock that has told `submitted`
 */
export function withPlausibleTimes(
  records: JobRecords,
  submitted: string | null,
  now: Date,
): { records: JobRecords; refused: string[] } {
  const { started, ended, ...others } = records;
  const refused: string[] = [];
  const earliest = submitted === null ? -Infinity : Date.parse(submitted);
  const latest = Math.max(now.getTime(), earliest);
  const timeOf = (kind: string, at: string | undefined, notBefore: number): number | undefined => {
    if (at === undefined) return undefined;
    const time = Date.parse(at);
    const isTooEarly = time < notBefore - CLOCKS_DIFFER_MS;
    if (!isTooEarly && time <= latest + CLOCKS_DIFFER_MS) return time;
    refused.push(`${kind} is of ${at}, which is ${isTooEarly ? "before the job was submitted" : "to come"}`);
    return undefined;
  };
  const begun = timeOf("started", started?.at, earliest);
  const over = timeOf("ended", ended?.record.at, begun ?? earliest);
  const told = [begun, over].filter((time) => time !== undefined);
  // By so much their clock is ahead at least, or, below 0, behind.
  const ahead = Math.max(0, ...told.map((time) => time - latest));
  const off = ahead > 0 ? ahead : Math.min(0, ...told.map((time) => time - earliest));
  const moved = (at: string, notBefore: number) => {
    const time = Math.max(Math.min(Date.parse(at) - off, latest), notBefore);
    return time === Date.parse(at) ? at : new Date(time).toISOString();
  };
  const kept: JobRecords = { ...others };
  if (started !== undefined && begun !== undefined) {
    kept.started = { ...started, at: moved(started.at, earliest) };
  }
  if (ended !== undefined && over !== undefined) {
    const { record } = ended;
    const notBefore = kept.started === undefined ? earliest : Date.parse(kept.started.at);
    kept.ended = { ...ended, record: { ...record, at: moved(record.at, notBefore) } };
  }
  return { records: kept, refused };
}
