import type { Session } from "../beamtime/session.ts";
import type { Story } from "./stories.ts";
import { rowsOf, type Row } from "./table.ts";
import type { Standing } from "./words.ts";

const UNFINISHED: readonly Standing[] = ["published", "waiting", "pending", "running"];

/** How many messages came, and how many are done with, in the last so many milliseconds. */
export interface Pace {
  milliseconds: number;
  arrived: number;
  done: number;
}

export interface TriggerStanding {
  trigger: string;
  today: number;
  unfinished: Partial<Record<Standing, number>>;
  failed: number;
  /** Milliseconds from the message to the end of its completed jobs; null: there are none. */
  median: number | null;
  p95: number | null;
}

export interface Failures {
  trigger: string;
  why: string;
  count: number;
  /** Milliseconds since 1970. */
  since: number;
}

/** Whether all is right, by what the history says. */
export interface Standings {
  paces: readonly Pace[];
  /** The data set that waits for longest; null: none does. */
  oldest: Row | null;
  unfinished: number;
  /** Messages of which something is unfinished. */
  backlog: number;
  all: number;
  triggers: readonly TriggerStanding[];
  /** Failed alike more than once, the most first. */
  failures: readonly Failures[];
  rejected: readonly WithCode[];
  /** What messages wait for that no worker could take yet, the most first. */
  waiting: readonly WithCode[];
}

/** Messages whose last announcement has this error. */
export interface WithCode {
  code: string;
  count: number;
  /** Of the first of them; milliseconds since 1970. */
  since: number;
}

const MINUTES = [1, 10, 60];

/** @param names the configured triggers, in their order */
export function standingsOf(stories: readonly Story[], names: readonly string[], now: number): Standings {
  const rows = rowsOf(stories);
  const jobs = rows.filter(({ trigger }) => trigger !== "");
  const isUnfinished = ({ standing }: Row) => UNFINISHED.includes(standing);
  const unfinished = rows.filter(isUnfinished);
  const ofMessages = stories.map((story) => rowsOf([story])).filter((own) => own.length > 0);
  // When the last job of each message ended whose jobs have all ended.
  const ends = ofMessages
    .filter((own) => !own.some(isUnfinished))
    .map((own) => Math.max(...own.map(({ since }) => since)));
  return {
    paces: MINUTES.map((minutes) => {
      const from = now - minutes * 60_000;
      const arrived = stories.filter(({ arrived }) => arrived >= from).length;
      return { milliseconds: minutes * 60_000, arrived, done: ends.filter((end) => end >= from).length };
    }),
    oldest: unfinished
      .filter(({ arrived }) => arrived > 0)
      .reduce<Row | null>((old, row) => (old === null || row.arrived < old.arrived ? row : old), null),
    unfinished: unfinished.length,
    backlog: ofMessages.length - ends.length,
    all: rows.length,
    triggers: names.map((trigger) => triggerOf(trigger, jobs)),
    failures: failuresIn(jobs),
    rejected: withCodes(stories, "rejected"),
    waiting: withCodes(stories, "deferred"),
  };
}

function triggerOf(trigger: string, jobs: readonly Row[]): TriggerStanding {
  const own = jobs.filter((row) => row.trigger === trigger);
  const took = own
    .filter(({ standing, arrived }) => standing === "completed" && arrived > 0)
    .map(({ since, arrived }) => since - arrived)
    .sort((one, other) => one - other);
  const at = (part: number) => took[Math.min(took.length - 1, Math.floor(took.length * part))] ?? null;
  const unfinished: Partial<Record<Standing, number>> = {};
  for (const { standing } of own)
    if (UNFINISHED.includes(standing)) unfinished[standing] = (unfinished[standing] ?? 0) + 1;
  const failed = own.filter(({ standing }) => standing === "failed" || standing === "lost").length;
  return { trigger, today: own.length, unfinished, failed, median: at(0.5), p95: at(0.95) };
}

function failuresIn(jobs: readonly Row[]): Failures[] {
  const groups = new Map<string, Failures>();
  for (const { standing, trigger, why, since } of jobs) {
    if (standing !== "failed" && standing !== "lost") continue;
    const key = `${trigger}\0${why}`;
    const known = groups.get(key) ?? { trigger, why, count: 0, since };
    groups.set(key, { ...known, count: known.count + 1, since: Math.min(known.since, since) });
  }
  return [...groups.values()].sort((one, other) => other.count - one.count);
}

function withCodes(stories: readonly Story[], outcome: "rejected" | "deferred"): WithCode[] {
  const codes = new Map<string, WithCode>();
  for (const story of stories) {
    const last = story.announced.at(-1);
    if (last?.outcome !== outcome) continue;
    // Of what was deferred, a job may have come since.
    if (outcome === "deferred" && !rowsOf([story]).some(({ standing }) => standing === "waiting")) continue;
    const code = last.data.error?.code ?? "unknown";
    const known = codes.get(code) ?? { code, count: 0, since: last.at };
    codes.set(code, { code, count: known.count + 1, since: Math.min(known.since, last.at) });
  }
  return [...codes.values()].sort((one, other) => other.count - one.count);
}

/** What a session needs and does not have, in a sentence; empty: nothing. */
export function needsOf(session: Session): string[] {
  const { id, online } = session;
  if (online === null) return [`${id} was started without online resources: no job of Slurm can run`];
  if (online.reservations.length === 0) return [`${id} has no reservation`];
  return [];
}
