import type { CloudEvent } from "../messages/cloud-event.ts";
import { JobEventData, MessageEventData, type CancelledBy } from "../messages/job-event.ts";
import { plainLine } from "../text/terminal.ts";

/** A message or an error can be as long as its sender likes. */
const LONGEST_FACT = 1000;
const LONGEST_NAME = 150;

/** One line for a person: when, what, which job or message, and the one fact that matters then. */
export function eventLine(event: CloudEvent): string {
  const [time = ""] = /(?<=T)\d\d:\d\d:\d\d/.exec(event.time ?? "") ?? [];
  const what = plainLine(event.type.replace(/^mento\./, "").replace(/\.v\d+$/, ""), LONGEST_NAME);
  const facts = factsOf(event).map((fact) => plainLine(fact, LONGEST_FACT));
  return [time.padEnd(8), what.padEnd(16), ...facts].join("  ");
}

function factsOf(event: CloudEvent): string[] {
  const job = JobEventData.safeParse(event.data);
  if (job.success) {
    const { job: one, slurm, process, paths, times, error, cancelledBy } = job.data;
    const facts: Record<string, string> = {
      submitted:
        process === null
          ? `Slurm job ${slurm.jobId ?? "?"}, reservation ${slurm.reservation ?? "none"}`
          : `process ${process.pid} on ${process.host}`,
      started: `on ${slurm.nodes.join(", ")}`,
      completed: `in ${seconds(times.started, times.ended)}, ${countOf(job.data)}`,
      cancelled: cancelledBy === null ? "by scancel" : byWhom(cancelledBy),
    };
    const what = error?.message ?? facts[one.state] ?? "";
    return [one.trigger, fileOf(paths), what];
  }
  const message = MessageEventData.safeParse(event.data);
  if (!message.success) return [event.id];
  const { error, reasons, paths, cause } = message.data;
  const why =
    error === null ? reasons.map((one) => `${one.trigger}: ${one.reason}`).join("; ") : error.message;
  return [fileOf(paths) || cause.id, why || "no trigger is configured"];
}

function countOf({ results, resultsCut = 0, resultsUnknown }: JobEventData): string {
  if (resultsUnknown === true) return "its results are unknown";
  const count = results.length + resultsCut;
  return `${count} result${count === 1 ? "" : "s"}`;
}

/** `by daq: wrong geometry`, with what others have written made plain. */
export function byWhom({ who, reason }: CancelledBy): string {
  return `by ${plainLine(who, 100)}${reason === null ? "" : `: ${plainLine(reason, 200)}`}`;
}

/** The first path's file name, and how many more there are. */
export function fileOf(paths: readonly string[]): string {
  const [first = ""] = paths;
  const name = plainLine(first.slice(first.lastIndexOf("/") + 1), LONGEST_NAME);
  return paths.length > 1 ? `${name} (+${paths.length - 1})` : name;
}

/** `2.3 s` between two times of an event. */
export function seconds(from: string | null, to: string | null): string {
  if (from === null || to === null) return "?";
  return `${((Date.parse(to) - Date.parse(from)) / 1000).toFixed(1)} s`;
}
