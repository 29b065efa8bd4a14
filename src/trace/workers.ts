import { HEARTBEAT_EVERY_MS, type Heartbeat } from "../messages/heartbeat.ts";

/** A worker that is there, or ended without a word. */
export interface WorkerSeen extends Heartbeat {
  /** Milliseconds since it said so last, by the clocks of its host and of this one. */
  silentFor: number;
  isSilent: boolean;
}

const SILENT_AFTER_MS = 4 * HEARTBEAT_EVERY_MS;

/** The last of each worker that has not stopped, by host and process; those that have been replaced on their host go. */
export function workersIn(beats: readonly Heartbeat[], now: number): WorkerSeen[] {
  const last = new Map<string, Heartbeat>();
  for (const beat of beats) last.set(beat.worker, beat);
  const all = [...last.values()]
    .filter(({ state }) => state !== "stopped")
    .map((beat) => {
      const silentFor = Math.max(0, now - Date.parse(beat.time));
      return { ...beat, silentFor, isSilent: silentFor > SILENT_AFTER_MS };
    });
  // One that was killed, and started again: the new one is what counts.
  const isReplaced = ({ isSilent, host, group, time }: WorkerSeen) =>
    isSilent && all.some((other) => other.host === host && other.group === group && other.since > time);
  return all.filter((one) => !isReplaced(one)).sort((one, other) => one.host.localeCompare(other.host));
}
