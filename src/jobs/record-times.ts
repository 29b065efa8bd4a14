import type { JobRecords } from "./records.ts";

/** Clocks of nodes and workers that differ by more are no clocks. */
const CLOCKS_DIFFER_MS = 15 * 60_000;

/**
 * The records with times that can be: none before the submit, none after now, no end before its start. Where clocks differ
 * a little, a time is moved to what it can be at most; a record that is further off is left out.
 *
 * @param submitted RFC 3339; null: not known
 */
export function withPlausibleTimes(
  records: JobRecords,
  submitted: string | null,
  now: Date,
): { records: JobRecords; refused: string[] } {
  const { started, ended, ...others } = records;
  const refused: string[] = [];
  let earliest = submitted === null ? -Infinity : Date.parse(submitted);
  const plausible = (kind: string, at: string): string | undefined => {
    const time = Date.parse(at);
    const isTooEarly = time < earliest - CLOCKS_DIFFER_MS;
    if (isTooEarly || time > now.getTime() + CLOCKS_DIFFER_MS) {
      refused.push(
        `${kind} is of ${at}, which is ${isTooEarly ? "before the job was submitted" : "to come"}`,
      );
      return undefined;
    }
    const moved = Math.max(Math.min(time, now.getTime()), earliest);
    return moved === time ? at : new Date(moved).toISOString();
  };
  const begun = started && plausible("started", started.at);
  if (begun !== undefined) earliest = Date.parse(begun);
  const over = ended && plausible("ended", ended.record.at);
  const kept: JobRecords = { ...others };
  if (started !== undefined && begun !== undefined) kept.started = { ...started, at: begun };
  if (ended !== undefined && over !== undefined) {
    kept.ended = { ...ended, record: { ...ended.record, at: over } };
  }
  return { records: kept, refused };
}
