import { posix } from "node:path";
import type { JobEventData } from "../messages/job-event.ts";
import type { Story } from "./stories.ts";
import { firstSentence, standingOf, type Standing } from "./words.ts";

/** A job, or a message that has none yet, in a table. */
export interface Row {
  standing: Standing;
  /** When its message came, in milliseconds since 1970; 0: nothing tells. */
  arrived: number;
  /** Since when it is in this state. */
  since: number;
  name: string;
  path: string;
  /** Empty of a message without jobs. */
  trigger: string;
  session: string | null;
  node: string;
  slurmId: string;
  jobId: string;
  why: string;
}

export interface RowFilter {
  session?: string | undefined;
  trigger?: string | undefined;
  state?: readonly Standing[] | undefined;
  path?: string | undefined;
}

/** The newest first. */
export function rowsOf(stories: readonly Story[], wanted: RowFilter = {}): Row[] {
  const rows = stories.flatMap((story) => [...jobRows(story), ...messageRows(story)]);
  const fits = (row: Row) =>
    (wanted.session === undefined || row.session === wanted.session) &&
    (wanted.trigger === undefined || row.trigger === wanted.trigger) &&
    (wanted.state === undefined || wanted.state.includes(row.standing)) &&
    (wanted.path === undefined || row.path.includes(wanted.path));
  return rows.filter(fits).sort((one, other) => other.arrived - one.arrived || other.since - one.since);
}

function jobRows(story: Story): Row[] {
  return [...story.jobs.values()].map(({ data }) => {
    const { job, slurm, process, times, paths, session } = data;
    const [path = story.paths[0] ?? ""] = paths;
    const since = Date.parse(times.ended ?? times.started ?? times.submitted ?? "");
    return {
      ...{
        standing: standingOf(data),
        arrived: story.arrived,
        since,
      },
      ...{ name: posix.basename(path), path, trigger: job.trigger, session: session.id },
      node: process?.host ?? slurm.nodes.join(","),
      slurmId: slurm.jobId ?? "",
      jobId: job.id,
      why: whyOf(data),
    };
  });
}

function whyOf({ error, cancelledBy, job }: JobEventData): string {
  if (job.state === "cancelled")
    return cancelledBy === null
      ? "with scancel, by whom is not known"
      : `by ${cancelledBy.who}${cancelledBy.reason === null ? "" : `: "${cancelledBy.reason}"`}`;
  if (error !== null) return firstSentence(error.message);
  return "";
}

/** A message whose last word is not a job: it waits, was rejected, no trigger wanted it, or nobody has taken it. */
function messageRows(story: Story): Row[] {
  const last = story.announced.at(-1);
  const isOver = last === undefined || last.data.reason === "already-run";
  if (isOver && story.jobs.size > 0) return [];
  const ofJobs = [...story.jobs.values()].map(({ data: { times } }) => momentOf(times.submitted));
  if (last !== undefined && Math.max(-Infinity, ...ofJobs) >= last.at) return [];
  const [path = ""] = story.paths;
  const standing: Standing =
    last === undefined ? "published" : last.outcome === "deferred" ? "waiting" : last.outcome;
  const { arrived } = story;
  return [
    {
      ...{
        standing,
        arrived,
        since: last?.at ?? arrived,
        name: posix.basename(path) || story.cause.id,
        path,
      },
      ...{ trigger: "", session: story.beamtimeId, node: "", slurmId: "", jobId: "" },
      why:
        last === undefined
          ? "nothing was announced of it yet"
          : last.data.error === null
            ? last.data.reasons.map(({ trigger, reason }) => `${trigger}: ${reason}`).join("; ") ||
              "no trigger is configured"
            : firstSentence(last.data.error.message),
    },
  ];
}

function momentOf(time: string | null): number {
  return Date.parse(time ?? "") || 0;
}
