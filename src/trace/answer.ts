import { WAIT_SECONDS } from "../broker/topology.ts";
import { bindingFits } from "../messages/binding-key.ts";
import type { JobEventData } from "../messages/job-event.ts";
import type { Unmatched } from "../triggers/match.ts";
import type { Announced, JobStory, Story } from "./stories.ts";
import { clock, duration, firstSentence, pendingWords, standingOf, type Standing } from "./words.ts";

export interface DataNow {
  isThere: boolean;
  /** What else lies in its folder, and how old it is. */
  newest: { name: string; ageSeconds: number } | null;
}

/** What Slurm says of a job. */
export interface SlurmSays {
  state: string;
  reason: string;
  /** Among what waits in its reservation, or else in its partition; null: it does not wait, or that is not known. */
  position: { at: number; of: number } | null;
}

/** What is true now of a story, as far as it could be asked. */
export interface Live {
  now: Date;
  group: string;
  /** The routing keys that the group takes. */
  keys: readonly string[];
  broker: {
    /** Why the broker takes no messages. */
    blocked: string | undefined;
    /** Of the group's intake queue; undefined: there is none. */
    intake: { waiting: number; consumers: number } | undefined;
    triggerQueues: readonly { trigger: string; waiting: number }[];
  };
  /** How many messages that came before it may wait in the queue of each trigger that it waits for. */
  ahead: ReadonlyMap<string, number>;
  /** What today's configuration would make of the message; null if it is not in the history, or cannot be read. */
  today: {
    matched: readonly string[];
    unmatched: readonly Unmatched[];
    /** The trigger of which the message fails the fewest conditions. */
    nearest?: string | undefined;
  } | null;
  /** What Slurm says, by its own ids. */
  slurm: ReadonlyMap<string, SlurmSays>;
  /** Is the data there now? By the path. */
  data: ReadonlyMap<string, DataNow>;
  /** The last lines of the logs of failed jobs, by the jobs' ids. */
  logs: ReadonlyMap<string, readonly string[]>;
  /** How many jobs of the same trigger failed alike, by the jobs' ids, and since when. */
  alike: ReadonlyMap<string, { count: number; since: number }>;
  /** What could not be asked, and why. */
  unasked: readonly string[];
}

/** What became of it, in a sentence; what else is to be known first; what to do. */
export interface Answer {
  standing: Standing;
  answer: string;
  more: readonly string[];
  todo: string;
  commands: readonly string[];
}

type Said = Pick<Answer, "standing" | "answer" | "todo"> & Partial<Answer>;

/** Why the data was not processed, or that it was. */
export function answerOf(story: Story, live: Live): Answer {
  const jobs = [...story.jobs.values()];
  const last = lastAnnouncement(story);
  const isSentAgain = last?.data.reason === "already-run";
  const said = isSentAgain && jobs.length === 0 ? ranLongAgo(last) : saidOf(story, jobs, live);
  const answer = { more: [], commands: [], ...said };
  if (!isSentAgain) return answer;
  const again = `It was sent again at ${clock(last.at)} under its old id, so nothing ran again.`;
  return { ...answer, more: [...answer.more, again], todo: `${answer.todo}; to run it again, ${RUN_AGAIN}` };
}

const RUN_AGAIN = "give it a new id, or use mento replay --again";

/** The history does not reach back to its jobs. */
function ranLongAgo({ data: { reasons } }: Announced): Said {
  const ends = reasons.map(({ job }) => Date.parse(job?.ended ?? "")).filter(Number.isFinite);
  return {
    standing: "ignored",
    answer: `All its jobs have run before, at ${clock(Math.max(...ends))}.`,
    todo: "nothing",
  };
}

function saidOf(story: Story, jobs: readonly JobStory[], live: Live): Said {
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

function rejected({ data: { error }, at }: Announced): Said {
  return {
    standing: "rejected",
    answer: `Rejected [${error?.code ?? "unknown"}]: ${error?.message ?? "nobody knows why"}`,
    more: ["It is kept as a dead letter since " + clock(at) + "."],
    todo: error?.hint ?? "See the dead letter.",
    commands: ["mento dead list"],
  };
}

function failed({ data }: JobStory, jobs: readonly JobStory[], { logs, alike }: Live): Said {
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
    "out-of-memory": "give the trigger more slurm.memory, then run it again",
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

function goesOn({ data }: JobStory, { now, slurm, unasked }: Live): Said {
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
    answer: `${job.trigger} is pending since ${since}: ${pendingWords(said.reason, of.reservation)}.${positionWords(said.position)}`,
    todo: "nothing while jobs before it end; else see the reservation",
    commands: [`mento ssh -- scontrol show job ${of.jobId ?? ""}`],
  };
}

/** ` Next in its queue.`, ` 57th of 204 pending.` */
export function positionWords(position: SlurmSays["position"]): string {
  if (position === null) return "";
  const { at, of } = position;
  if (at === 1) return " Next in its queue.";
  const teen = at % 100 > 10 && at % 100 < 14;
  const ending = teen ? "th" : (["th", "st", "nd", "rd"][at % 10] ?? "th");
  return ` ${at}${ending} of ${of} pending.`;
}

/** Whoever looks waits for longer after each look. */
function looksWords(elapsed: number): string {
  let looks = 1;
  let wait: number = WAIT_SECONDS[0];
  for (let at = wait * 1000; at <= elapsed; at += wait * 1000) {
    wait = WAIT_SECONDS[looks] ?? Math.max(...WAIT_SECONDS);
    looks += 1;
  }
  return `looked at ${looks === 1 ? "once" : `about ${looks} times`}, next within ${wait} s`;
}

/** Why nothing is looked at now, if so. */
function nobodyWords({ blocked, intake }: Live["broker"], group: string): string | undefined {
  if (blocked !== undefined)
    return `RabbitMQ takes no messages at the moment (${blocked}), so nothing is looked at.`;
  if (intake === undefined || intake.consumers === 0)
    return `No worker of group ${group} takes messages at the moment, so nothing is looked at.`;
  return undefined;
}

function waits({ data: { error, paths, givesUpAt }, at }: Announced, live: Live): Said {
  const { now, data, broker, group } = live;
  const since = duration(now.getTime() - at);
  const code = error?.code ?? "";
  const isOfData = code === "data-not-there" || code === "data-changing";
  const there = data.get(paths[0] ?? "");
  const more = isOfData && there?.isThere === true ? ["It is there by now: the next look takes it."] : [];
  const looked = isOfData ? [looksWords(now.getTime() - at)] : [];
  const end = Date.parse(givesUpAt ?? "");
  const isOver = end <= now.getTime();
  const gives = givesUpAt == null ? [] : [`${isOver ? "was to be given" : "gives"} up at ${clock(end, now)}`];
  const plan = [...(isOver ? [] : looked), ...gives].join("; ");
  if (plan !== "") more.push(`${plan.charAt(0).toUpperCase()}${plan.slice(1)}.`);
  const newest = there?.newest ?? null;
  const stopped = nobodyWords(broker, group);
  if (stopped !== undefined) more.push(stopped);
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

function wasCancelled({ data: { job, cancelledBy, times } }: JobStory): Said {
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

function completed(story: Story, jobs: readonly JobStory[]): Said {
  const ready = Date.parse(story.ready ?? "");
  const after = Number.isNaN(ready) ? "" : `, ${duration(lastEndOf(jobs) - ready)} after ready`;
  const [one] = jobs;
  const what =
    jobs.length === 1 ? `${one?.data.job.trigger ?? ""} completed` : `All ${jobs.length} jobs completed`;
  return { standing: "completed", answer: `${what}${after}.`, todo: "nothing" };
}

function ignored({ data: { reason: why, reasons } }: Announced, { today, group }: Live): Said {
  const [superseded] = why === "superseded" ? reasons : [];
  if (superseded !== undefined)
    return {
      standing: "ignored",
      answer: `${superseded.trigger} did not run it: ${superseded.reason}.`,
      todo: "nothing: the trigger shows the latest data only",
    };
  const nearest = reasons.find(({ trigger }) => trigger === today?.nearest) ?? reasons[0];
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
function untaken(story: Story, { broker, ahead, group, keys, now, today }: Live): Said {
  const age = Number.isNaN(Date.parse(story.ready ?? ""))
    ? ""
    : `, ${duration(now.getTime() - Date.parse(story.ready ?? ""))} after ready`;
  const { blocked, intake, triggerQueues } = broker;
  const key = story.message?.routingKey;
  if (key !== undefined && !keys.some((one) => bindingFits(one, key)))
    return {
      standing: "published",
      answer: `Group ${group} does not take it: it was published with the key ${key}, and the group takes ${keys.join(", ")}.`,
      todo: "have it published with a key of this beamline; or change worker.keys",
      commands: [],
    };
  if (blocked === undefined && (intake === undefined || intake.consumers === 0))
    return {
      standing: "published",
      answer: `No worker has taken it${age}: group ${group} has none that takes messages. ${waitingWords(intake?.waiting ?? 0)}.`,
      todo: "start a worker; if one runs, its log and mento status say what it waits for",
      commands: ["mento worker", "mento status"],
    };
  if (blocked !== undefined)
    return {
      standing: "published",
      answer: `RabbitMQ blocks whoever publishes (${blocked}), so no worker takes messages until it has room.`,
      todo: "free memory or disk on the broker's host",
      commands: ["rabbitmqctl status"],
    };
  const before = waitingWords(intake?.waiting ?? 0);
  const queued = triggerQueues.filter(
    ({ trigger, waiting }) => waiting > 0 && today?.matched.includes(trigger) === true,
  );
  if (queued.length > 0)
    return {
      standing: "waiting",
      answer: `It waits in the queue of ${queued.map(({ trigger, waiting }) => queueWords(trigger, waiting, ahead.get(trigger))).join(", and of ")}.`,
      todo: "nothing while jobs of that trigger end; else see its jobs",
      commands: queued.map(({ trigger }) => `mento jobs --trigger ${trigger}`),
    };
  return {
    standing: "published",
    answer: `A worker of group ${group} has it, or will soon${age}: ${before} before the workers.`,
    todo: "if that lasts, see what the workers do",
    commands: ["mento status"],
  };
}

function queueWords(trigger: string, waiting: number, ahead: number | undefined): string {
  const before = ahead === undefined ? "" : `; ${ahead === 0 ? "none" : ahead} of them came before it`;
  return `${trigger}, where ${waitingWords(waiting)}${waiting === 1 ? "" : before}`;
}

function stateWords({ data }: JobStory): string {
  return `${data.job.trigger} ${standingOf(data)}`;
}

function waitingWords(count: number): string {
  return count === 1 ? "1 message waits" : `${count} messages wait`;
}
