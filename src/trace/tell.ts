import { posix } from "node:path";
import type { JobEventData } from "../messages/job-event.ts";
import type { Unmatched } from "../triggers/match.ts";
import { lastMomentOf, type Announced, type JobStory, type Story } from "./stories.ts";
import { duration, firstSentence, pendingWords, standingOf, type Standing } from "./words.ts";

export interface DataNow {
  isThere: boolean;
  /** What else lies in its folder, and how old it is. */
  newest: { name: string; ageSeconds: number } | null;
}

/** What is true now of a story, as far as it could be asked. */
export interface Live {
  now: Date;
  group: string;
  broker: {
    /** Why the broker takes no messages. */
    blocked: string | undefined;
    /** Of the group's intake queue; undefined: there is none. */
    intake: { waiting: number; consumers: number } | undefined;
    triggerQueues: readonly { trigger: string; waiting: number }[];
  };
  /** What today's configuration would make of the message; null if it is not in the history, or cannot be read. */
  today: { matched: readonly string[]; unmatched: readonly Unmatched[] } | null;
  /** What Slurm says, by its own ids. */
  slurm: ReadonlyMap<string, { state: string; reason: string }>;
  /** Is the data there now? By the path. */
  data: ReadonlyMap<string, DataNow>;
  /** The last lines of the logs of failed jobs, by the jobs' ids. */
  logs: ReadonlyMap<string, readonly string[]>;
  /** How many jobs of the same trigger failed alike, by the jobs' ids, and since when. */
  alike: ReadonlyMap<string, { count: number; since: number }>;
  /** What could not be asked, and why. */
  unasked: readonly string[];
}

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

export interface Told {
  standing: Standing;
  /** What became of it, in a sentence; then what else is to be known first. */
  answer: string;
  more: readonly string[];
  title: string;
  lines: readonly StoryLine[];
  todo: string;
  commands: readonly string[];
}

/** The story of one message, and why its data was not processed if it was not. */
export function tell(story: Story, live: Live): Told {
  const jobs = [...story.jobs.values()];
  const { standing, answer, more = [], todo, commands = [] } = answerOf(story, jobs, live);
  return { standing, answer, more, todo, commands, title: titleOf(story), lines: linesOf(story, jobs, live) };
}

type Answer = Pick<Told, "standing" | "answer" | "todo"> & Partial<Pick<Told, "more" | "commands">>;

function answerOf(story: Story, jobs: readonly JobStory[], live: Live): Answer {
  const bad = jobs.find(({ data }) => ["failed", "lost"].includes(data.job.state));
  const last = lastAnnouncement(story);
  if (last?.outcome === "rejected") return rejected(last);
  if (bad !== undefined) return failed(bad, jobs, live);
  const unfinished = jobs.find(({ data }) => ["submitted", "started"].includes(data.job.state));
  if (unfinished !== undefined) return goesOn(unfinished, live);
  if (last?.outcome === "deferred" && last.at > lastEndOf(jobs)) return waits(last, live);
  const cancelled = jobs.find(({ data }) => data.job.state === "cancelled");
  if (cancelled !== undefined) return wasCancelled(cancelled);
  if (jobs.length > 0) return completed(story, jobs);
  if (last?.outcome === "ignored") return ignored(last, live);
  return untaken(story, live);
}

/** Of a message that runs again after it was given up, what came before no longer counts. */
function lastAnnouncement(story: Story): Announced | undefined {
  return story.announced.at(-1);
}

function lastEndOf(jobs: readonly JobStory[]): number {
  return Math.max(
    0,
    ...jobs.map(({ data: { times } }) => Date.parse(times.ended ?? times.submitted ?? "") || 0),
  );
}

function rejected({ data: { error }, at }: Announced): Answer {
  return {
    standing: "rejected",
    answer: `Rejected [${error?.code ?? "unknown"}]: ${error?.message ?? "nobody knows why"}`,
    more: ["It is kept as a dead letter since " + clock(at) + "."],
    todo: error?.hint ?? "See the dead letter.",
    commands: ["mento dead list"],
  };
}

function failed({ data }: JobStory, jobs: readonly JobStory[], { logs, alike }: Live): Answer {
  const { job, error, slurm } = data;
  const others = jobs.filter((one) => one.data.job.id !== job.id);
  const same = alike.get(job.id);
  const lastLine = (logs.get(job.id) ?? []).filter((line) => line.trim() !== "").at(-1);
  const why = firstSentence(error?.message ?? "nobody knows why");
  if (job.state === "lost") {
    return {
      standing: "lost",
      answer: `${job.trigger} is lost: ${error?.message ?? "nothing was seen of it for too long"}`,
      todo: error?.hint ?? "Look on its node what became of it.",
      commands: [`mento logs ${job.id}`],
    };
  }
  const isKnown = lastLine === undefined || why.includes(lastLine.trim());
  return {
    standing: "failed",
    answer: `${job.trigger} failed: ${why}${isKnown ? "" : `. ${lastLine.trim()}`}`,
    more: [
      [
        ...(same !== undefined && same.count > 1
          ? [`${same.count} of ${job.trigger} failed alike since ${clock(same.since)}.`]
          : []),
        ...(others.length > 0 ? [`${others.map(stateWords).join(", ")}.`] : []),
      ].join(" "),
    ].filter((line) => line !== ""),
    todo: todoOfFailure(data),
    commands: [`mento logs ${slurm.jobId ?? job.id}`, ...againCommands(data)],
  };
}

/** What helps against each kind of end. */
function todoOfFailure({ exit, error }: JobEventData): string {
  const hints: Record<string, string> = {
    "out-of-memory": "ask for more memory in the trigger's slurm.options (--mem), then run it again",
    timeout: "give the trigger more slurm.time, or make the program faster; then run it again",
    deadline: "its reservation ended while it ran; run it again in one that lasts longer",
    "node-failure": "run it again; if it goes on, tell who looks after the nodes",
    "reservation-deleted": "have the reservation made again, then run it again",
    "launch-failed": "see Slurm's reason in the story; it is the node's or the script's, not the data's",
    "not-prepared": error?.hint ?? "read its log",
  };
  return hints[exit?.reason ?? ""] ?? "read the whole log, mend the program or its data, and run it again";
}

function againCommands({ job, times }: JobEventData): string[] {
  const since = times.received ?? times.submitted;
  return since === null ? [] : [`mento replay --trigger ${job.trigger} --since ${since} --again --dry-run`];
}

function goesOn({ data }: JobStory, { now, slurm, unasked }: Live): Answer {
  const { job, times, slurm: of, process } = data;
  const standing = standingOf(data);
  const follow = [`mento logs ${of.jobId ?? job.id} --follow`];
  if (standing === "running") {
    const since = Date.parse(times.started ?? times.submitted ?? "");
    const where = process === null ? of.nodes.join(", ") : process.host;
    const answer = `${job.trigger} is running since ${duration(now.getTime() - since)} on ${where || "an unknown node"}.`;
    return { standing, answer, todo: "nothing yet", commands: follow };
  }
  const said = slurm.get(of.jobId ?? "");
  const since = duration(now.getTime() - Date.parse(times.submitted ?? ""));
  const id = `Slurm job ${of.jobId ?? "?"}`;
  if (said === undefined) {
    const why =
      unasked.length > 0 ? unasked.join("; ") : "Slurm does not list it any more; its end will be announced";
    return {
      standing,
      answer: `${job.trigger} was submitted ${since} ago as ${id}; its state is not known: ${why}.`,
      todo: "see whether the node answers",
      commands: ["mento doctor"],
    };
  }
  if (said.state !== "PENDING")
    return {
      standing: "running",
      answer: `${job.trigger} is ${said.state} in Slurm as ${id}; its start is not announced yet.`,
      todo: "nothing yet",
      commands: follow,
    };
  return {
    standing,
    answer: `${job.trigger} is pending since ${since}: ${pendingWords(said.reason, of.reservation)}.`,
    todo: "nothing while jobs before it end; else see the reservation",
    commands: [`mento ssh -- scontrol show job ${of.jobId ?? ""}`],
  };
}

function waits({ data: { error, paths }, at }: Announced, { now, data }: Live): Answer {
  const since = duration(now.getTime() - at);
  const code = error?.code ?? "";
  const isOfData = code === "data-not-there" || code === "data-changing";
  const there = data.get(paths[0] ?? "");
  const more = isOfData && there?.isThere === true ? ["It is there by now: the next look takes it."] : [];
  const newest = there?.newest ?? null;
  return {
    standing: "waiting",
    answer: `Waiting since ${since} [${code}]: ${error?.message ?? ""}`,
    more:
      newest === null
        ? more
        : [...more, `Newest in its folder: ${newest.name}, ${duration(newest.ageSeconds * 1000)} old.`],
    todo: error?.hint ?? "nothing yet",
    commands: isOfData ? [] : ["mento doctor"],
  };
}

function wasCancelled({ data: { job, cancelledBy, times } }: JobStory): Answer {
  const who =
    cancelledBy === null
      ? "in Slurm (scancel); by whom is not known"
      : `by ${cancelledBy.who}${cancelledBy.reason === null ? "" : `: "${cancelledBy.reason}"`}`;
  return {
    standing: "cancelled",
    answer: `${job.trigger} was cancelled at ${clock(Date.parse(times.ended ?? ""))} ${who}.`,
    todo: "ask whoever cancelled it; --again runs it once more",
    commands: [],
  };
}

function completed(story: Story, jobs: readonly JobStory[]): Answer {
  const ready = Date.parse(story.ready ?? "");
  const after = Number.isNaN(ready) ? "" : `, ${duration(lastEndOf(jobs) - ready)} after ready`;
  const [one] = jobs;
  const what =
    jobs.length === 1 ? `${one?.data.job.trigger ?? ""} completed` : `All ${jobs.length} jobs completed`;
  const results = jobs.reduce((sum, { data }) => sum + data.results.length + (data.resultsCut ?? 0), 0);
  const none = results === 0 ? ["No result was found: see the trigger's results."] : [];
  return { standing: "completed", answer: `${what}${after}.`, more: none, todo: "nothing" };
}

function ignored({ data: { reasons } }: Announced, { today, group }: Live): Answer {
  const superseded = reasons.find(({ reason }) => reason.startsWith("superseded"));
  if (superseded !== undefined)
    return {
      standing: "ignored",
      answer: `${superseded.trigger} did not run it: ${superseded.reason}.`,
      todo: "nothing: the trigger shows the latest data only",
    };
  const [nearest] = reasons;
  const wanted = today?.matched ?? [];
  return {
    standing: "ignored",
    answer:
      nearest === undefined
        ? `No trigger wants it: group ${group} has none.`
        : `No trigger wants it. ${nearest.trigger}: ${nearest.reason}.`,
    more: [
      wanted.length > 0
        ? `Under today's configuration ${wanted.join(", ")} would run.`
        : "Under today's configuration: the same.",
    ],
    todo:
      wanted.length > 0
        ? "replay it"
        : "have it sent again as the trigger wants it; or change the trigger's `on`, and then replay it",
    commands: wanted.map((trigger) => `mento replay --trigger ${trigger} --since 1d --dry-run`),
  };
}

/** It is in the history, and nothing was announced of it. */
function untaken(story: Story, { broker, group, now, today }: Live): Answer {
  const age = Number.isNaN(Date.parse(story.ready ?? ""))
    ? ""
    : `, ${duration(now.getTime() - Date.parse(story.ready ?? ""))} after ready`;
  const { blocked, intake, triggerQueues } = broker;
  if (intake === undefined || intake.consumers === 0)
    return {
      standing: "published",
      answer: `No worker has taken it${age}: group ${group} has none. ${intake?.waiting ?? 0} messages wait.`,
      todo: "start a worker",
      commands: ["mento worker"],
    };
  if (blocked !== undefined)
    return {
      standing: "published",
      answer: `RabbitMQ blocks whoever publishes (${blocked}), so no worker takes messages until it has room.`,
      todo: "free memory or disk on the broker's host",
      commands: ["rabbitmqctl status"],
    };
  const queued = triggerQueues.filter(
    ({ trigger, waiting }) => waiting > 0 && today?.matched.includes(trigger) === true,
  );
  if (queued.length > 0)
    return {
      standing: "waiting",
      answer: `It waits for its turn: ${queued.map(({ trigger, waiting }) => `${waiting} in the queue of ${trigger}`).join(", ")}.`,
      todo: "nothing while jobs of that trigger end; else see its jobs",
      commands: queued.map(({ trigger }) => `mento jobs --trigger ${trigger}`),
    };
  return {
    standing: "published",
    answer: `A worker of group ${group} has it, or will soon${age}: ${intake.waiting} messages wait before the workers.`,
    todo: "if that lasts, see what the workers do",
    commands: ["mento status"],
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
    lines.push(line(received, null, null, `received by group ${group ?? "?"}; session ${session ?? "none"}`));
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

function announcedLines(
  { outcome, at, data: { error, reasons } }: Announced,
  next: Announced | undefined,
  story: Story,
  jobs: readonly JobStory[],
): StoryLine[] {
  if (outcome === "ignored") {
    const why = reasons.map(({ trigger, reason }) => line(null, null, null, `${trigger}: ${reason}`));
    return [line(at, null, "ignored", "no trigger wanted it:"), ...why];
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
  if (data.error !== null) lines.push(line(null, null, null, `${indent}${data.error.message}`));
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

function stateWords({ data }: JobStory): string {
  return `${data.job.trigger} ${standingOf(data)}`;
}

function seconds(milliseconds: number): string {
  return milliseconds < 60_000 ? `${(milliseconds / 1000).toFixed(1)} s` : duration(milliseconds);
}

/** Of this host's zone; with the day if it is another one. */
export function clock(at: number, now = new Date()): string {
  const time = new Date(at);
  if (Number.isNaN(at)) return "an unknown time";
  const two = (value: number) => String(value).padStart(2, "0");
  const text = `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
  const isToday = time.toDateString() === now.toDateString();
  return isToday ? text : `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} ${text}`;
}

/** The newest first. */
export function newestFirst(stories: readonly Story[]): Story[] {
  return [...stories].sort((one, other) => lastMomentOf(other) - lastMomentOf(one));
}
