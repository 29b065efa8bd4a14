import { posix } from "node:path";
import { answerOf, type Answer, type Live } from "./answer.ts";
import { lastMomentOf, type Announced, type JobStory, type Story } from "./stories.ts";
import { duration, firstSentence, standingOf, type Standing } from "./words.ts";

/** A line of the story: when it began, how long it took, what it was. */
export interface StoryLine {
  /** Milliseconds since 1970; null: it belongs to the line above. */
  at: number | null;
  /** Milliseconds; null: not known, or no matter. */
  took: number | null;
  standing: Standing | null;
  text: string;
  /** A path or a log's line: never broken. */
  isWhole?: true;
}

export interface Told extends Answer {
  title: string;
  lines: readonly StoryLine[];
}

/** The story of one message, and why its data was not processed if it was not. */
export function tell(story: Story, live: Live): Told {
  return {
    ...answerOf(story, live),
    title: titleOf(story),
    lines: linesOf(story, [...story.jobs.values()], live),
  };
}

function titleOf({ paths, facts, cause }: Story): string {
  const [first = ""] = paths;
  const more = paths.length > 1 ? ` and ${paths.length - 1} more` : "";
  const scan = facts?.scan == null ? [] : [`scan ${facts.scan}`];
  const sample = facts?.sample == null ? [] : [facts.sample];
  const name = first === "" ? [] : [`${posix.basename(first)}${more}`];
  return [...name, ...scan, ...sample, `message ${cause.id}`].join(" · ");
}

function linesOf(story: Story, jobs: readonly JobStory[], live: Live): StoryLine[] {
  const { cause, ready, paths, announced } = story;
  const first = jobs[0]?.data;
  const received = Date.parse(first?.times.received ?? "");
  const group = jobs[0]?.group ?? announced[0]?.group;
  const session = first?.session.id ?? announced[0]?.data.beamtimeId ?? story.beamtimeId;
  const lines: StoryLine[] = paths
    .slice(0, 3)
    .map((path) => ({ at: null, took: null, standing: null, text: path, isWhole: true }));
  lines.push(line(Date.parse(ready ?? ""), null, null, `ready, says ${cause.source}`));
  if (!Number.isNaN(received))
    lines.push(
      line(received, null, null, `received by group ${group ?? "?"}; ${sessionWords(session, story)}`),
    );
  for (const [at, one] of announced.entries())
    lines.push(...announcedLines(one, announced[at + 1], story, jobs));
  for (const job of jobs.filter(({ data }) => data.chain.length === 0))
    lines.push(...jobLines(job, jobs, live, ""));
  const { today } = live;
  const ran = new Set(jobs.map(({ data }) => data.job.trigger));
  const didNot = (today?.unmatched ?? []).filter(({ trigger }) => !ran.has(trigger));
  if (jobs.length > 0)
    for (const { trigger, reason } of didNot) lines.push(line(null, null, null, `not ${trigger}: ${reason}`));
  return lines;
}

function sessionWords(session: string | null | undefined, { message, namesBeamtime }: Story): string {
  if (session == null) return "no session";
  const why = message === null ? "" : ` (${namesBeamtime ? "the message names it" : "its path lies there"})`;
  return `session ${session}${why}`;
}

const IGNORED = {
  "no-trigger": "no trigger wanted it:",
  superseded: "a newer one has overtaken it:",
  "already-run": "sent again, and nothing ran again:",
};

function announcedLines(
  { outcome, at, data: { error, reason, reasons } }: Announced,
  next: Announced | undefined,
  story: Story,
  jobs: readonly JobStory[],
): StoryLine[] {
  if (outcome === "ignored") {
    const why = reasons.map(({ trigger, reason: text }) => line(null, null, null, `${trigger}: ${text}`));
    return [line(at, null, "ignored", IGNORED[reason ?? "no-trigger"]), ...why];
  }
  if (outcome === "rejected")
    return [line(at, null, "rejected", `rejected [${error?.code ?? ""}]: ${error?.message ?? ""}`)];
  const submitted = jobs.map(({ data }) => Date.parse(data.times.submitted ?? "")).filter((one) => one >= at);
  const until = next?.at ?? (submitted.length > 0 ? Math.min(...submitted) : NaN);
  return [line(at, until - at, "waiting", `waiting [${error?.code ?? ""}]: ${error?.message ?? ""}`)];
}

function jobLines(job: JobStory, jobs: readonly JobStory[], live: Live, indent: string): StoryLine[] {
  const { data } = job;
  const { times, slurm, process, results } = data;
  const standing = standingOf(data);
  const from = Date.parse(times.submitted ?? "");
  const took = Date.parse(times.ended ?? "") - from;
  const where = [
    slurm.jobId === null
      ? process === null
        ? ""
        : `process ${process.pid} on ${process.host}`
      : `Slurm ${slurm.jobId}`,
    slurm.nodes.length > 0 ? `on ${slurm.nodes.join(", ")}` : "",
    slurm.reservation === null ? "" : `in reservation ${slurm.reservation}`,
  ].filter((one) => one !== "");
  const started = Date.parse(times.started ?? "");
  const phases = Number.isNaN(started)
    ? ""
    : `: pending ${seconds(started - from)}${Number.isNaN(took) ? "" : `, running ${seconds(from + took - started)}`}`;
  const lines = [
    line(from, took, standing, `${indent}${data.job.trigger} ${standing}, ${where.join(" ")}${phases}`),
  ];
  for (const note of job.notes) lines.push(line(null, null, null, `${indent}${note}`));
  const log = live.logs.get(data.job.id) ?? [];
  const why = data.error?.message ?? "";
  if (why !== "") lines.push(line(null, null, null, `${indent}${log.length > 0 ? firstSentence(why) : why}`));
  for (const text of live.logs.get(data.job.id) ?? [])
    lines.push({ ...line(null, null, null, text), isWhole: true });
  if (["failed", "lost"].includes(data.job.state))
    lines.push({ ...line(null, null, null, `${data.job.directory}/job.log`), isWhole: true });
  for (const result of results.slice(0, 10))
    lines.push({ ...line(null, null, null, result.path), isWhole: true });
  const left = results.length - 10 + (data.resultsCut ?? 0);
  if (left > 0) lines.push(line(null, null, null, `${indent}and ${left} more results`));
  const isNext = (one: JobStory) => one.data.chain.at(-1)?.job === data.job.id;
  for (const next of jobs.filter(isNext)) lines.push(...jobLines(next, jobs, live, `${indent}└ `));
  return lines;
}

function line(at: number | null, took: number | null, standing: Standing | null, text: string): StoryLine {
  const known = (value: number | null) => (value === null || Number.isNaN(value) ? null : value);
  return { at: known(at), took: known(took), standing, text };
}

function seconds(milliseconds: number): string {
  return milliseconds < 60_000 ? `${(milliseconds / 1000).toFixed(1)} s` : duration(milliseconds);
}

/** The newest first. */
export function newestFirst(stories: readonly Story[]): Story[] {
  return [...stories].sort((one, other) => lastMomentOf(other) - lastMomentOf(one));
}
