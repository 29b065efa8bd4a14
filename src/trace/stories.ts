import type { ConsumeMessage } from "amqplib";
import { posix } from "node:path";
import { isTerminal } from "../jobs/job.ts";
import { CloudEvent, decodeMessage } from "../messages/cloud-event.ts";
import { isJobEvent, isMessageEvent } from "../messages/announced-event.ts";
import {
  JobEventData,
  MessageEventData,
  type Cause,
  type MessageFacts,
  type MessageOutcome,
} from "../messages/job-event.ts";
import { parseJson, plainNumbers } from "../messages/json.ts";
import { originOf } from "../messages/origin.ts";
import { receive, type Received } from "../messages/received.ts";
import { readTriggerInput } from "../messages/trigger-input.ts";
import { isJobCancel } from "../messages/job-cancel.ts";

/** What became of a job, by its events. */
export interface JobStory {
  /** As it was announced last. */
  data: JobEventData;
  group: string;
  /** What was said when it was submitted. */
  notes: readonly string[];
}

/** What was announced of a message that did not become a job, or not yet. */
export interface Announced {
  outcome: MessageOutcome;
  group: string;
  /** Milliseconds since 1970. */
  at: number;
  data: MessageEventData;
}

/** One data-ready message, and all that came of it, as the history has it. */
export interface Story {
  cause: Cause;
  paths: readonly string[];
  beamline: string | null;
  beamtimeId: string | null;
  /** The message says itself which beamtime its data is of. */
  namesBeamtime: boolean;
  /** When its producer says that the data was ready; RFC 3339. */
  ready: string | null;
  /**
   * When it came, in milliseconds since 1970: what its producer says of that, if it can be true where the message stands in
   * the history, else what was announced last before. 0: nothing tells.
   */
  arrived: number;
  facts: MessageFacts | null;
  /** The message itself; null if only events of it are in what was read, or if it is one of too many. */
  message: Received | null;
  announced: Announced[];
  /** By their ids, in the order of their first events. */
  jobs: Map<string, JobStory>;
}

/** How long ago `announced` or any job event tells of the story; the newest, in milliseconds since 1970. */
export function lastMomentOf(story: Story): number {
  const ofJobs = [...story.jobs.values()].map(({ data: { times } }) =>
    Date.parse(times.ended ?? times.started ?? times.submitted ?? ""),
  );
  const all = [...ofJobs, ...story.announced.map(({ at }) => at), Date.parse(story.ready ?? "")];
  return Math.max(0, ...all.filter((one) => !Number.isNaN(one)));
}

/** So far the clocks of a producer, the broker and a worker may differ. */
const CLOCKS_DIFFER_MS = 60_000;
/** Of messages as they were sent. */
const MAX_BYTES = 64 * 2 ** 20;

/** The stories in a part of the history, in the order of their messages. */
export class Stories {
  readonly #stories = new Map<string, Story>();
  /** Those that have their messages, the oldest first. */
  readonly #whole: Story[] = [];
  #bytes = 0;
  /** When the newest event so far was announced. */
  #clock = 0;
  readonly #exchanges: { dataExchange: string; eventsExchange: string };

  constructor(exchanges: { dataExchange: string; eventsExchange: string }) {
    this.#exchanges = exchanges;
  }

  get all(): Story[] {
    return [...this.#stories.values()];
  }

  /** Takes in the next message of the history; what is neither a message nor an event of Mento's says nothing. */
  add(message: Pick<ConsumeMessage, "content" | "fields" | "properties">): void {
    const { exchange } = message.fields;
    if (exchange === this.#exchanges.eventsExchange) this.#addEvent(message.content);
    else if (exchange === this.#exchanges.dataExchange) this.#addMessage(receive(message));
  }

  #addMessage(received: Received): void {
    const { body, properties } = received;
    const origin = originOf(body, properties);
    if (isJobCancel(origin.cause.type)) return;
    const story = this.#storyOf(origin.cause);
    // Sent again under its id, it is the same message.
    this.#keep(story, received);
    story.paths = origin.paths;
    story.beamline ??= origin.beamline;
    story.beamtimeId ??= origin.beamtimeId;
    story.namesBeamtime = origin.beamtimeId !== null;
    try {
      const input = readTriggerInput(decodeMessage(body, properties));
      Object.assign(story, { ready: input.ready, facts: input.facts, paths: input.paths });
    } catch {
      // Its rejection says what is wrong with it.
    }
    const told = [Date.parse(story.ready ?? ""), (properties.timestamp ?? Number.NaN) * 1000];
    story.arrived ||= told.find((at) => this.#canBe(at)) ?? this.#clock;
  }

  /** Whether something can have come then that stands here in the history. */
  #canBe(at: number): boolean {
    return at >= this.#clock - CLOCKS_DIFFER_MS && at <= Date.now() + CLOCKS_DIFFER_MS;
  }

  #keep(story: Story, message: Received): void {
    if (story.message === null) this.#whole.push(story);
    this.#bytes += message.body.byteLength - (story.message?.body.byteLength ?? 0);
    story.message = message;
    while (this.#bytes > MAX_BYTES) {
      const oldest = this.#whole.shift();
      if (oldest === undefined) return;
      this.#bytes -= oldest.message?.body.byteLength ?? 0;
      oldest.message = null;
    }
  }

  #addEvent(content: Buffer): void {
    const event = eventIn(content);
    if (event === undefined) return;
    const group = /^\/mento\/(.+)$/.exec(event.source)?.[1] ?? "default";
    const time = Date.parse(event.time ?? "");
    if (time > this.#clock && time <= Date.now() + CLOCKS_DIFFER_MS) this.#clock = time;
    if (isJobEvent(event)) {
      const { success, data } = JobEventData.safeParse(event.data);
      if (success) this.#addJob(data, group);
    } else if (isMessageEvent(event)) {
      const { success, data } = MessageEventData.safeParse(event.data);
      const [, outcome] = /^mento\.message\.(rejected|deferred|ignored)\.v1$/.exec(event.type) ?? [];
      if (!success || outcome === undefined) return;
      const story = this.#storyOf(data.cause);
      if (story.paths.length === 0) story.paths = data.paths;
      story.beamline ??= data.beamline;
      story.beamtimeId ??= data.beamtimeId;
      story.arrived ||= time || 0;
      story.announced.push({ outcome: outcome as MessageOutcome, group, at: time, data });
    }
  }

  #addJob(data: JobEventData, group: string): void {
    const story = this.#storyOf(data.cause);
    if (story.paths.length === 0) story.paths = data.paths;
    story.facts ??= data.message;
    story.ready ??= data.times.ready;
    story.arrived ||= Date.parse(data.times.received ?? data.times.submitted ?? "") || 0;
    story.beamline ??= data.session.beamline;
    story.beamtimeId ??= data.session.id;
    const known = story.jobs.get(data.job.id);
    // An event that is announced again may come after the end.
    const isLate = known !== undefined && isTerminal(known.data.job.state) && !isTerminal(data.job.state);
    const notes = data.notes ?? known?.notes ?? [];
    story.jobs.set(data.job.id, isLate ? { ...known, notes } : { data, group, notes });
  }

  #storyOf(cause: Cause): Story {
    const key = `${cause.source}\0${cause.id}`;
    const known = this.#stories.get(key);
    if (known !== undefined) return known;
    const story: Story = {
      cause,
      ...{ paths: [], beamline: null, beamtimeId: null, namesBeamtime: false },
      ...{ ready: null, facts: null, message: null },
      ...{ arrived: 0, announced: [], jobs: new Map() },
    };
    this.#stories.set(key, story);
    return story;
  }
}

/** Undefined for what is no event: anybody may publish. */
export function eventIn(content: Buffer): CloudEvent | undefined {
  try {
    return CloudEvent.parse(plainNumbers(parseJson(content.toString("utf8")), []));
  } catch {
    return undefined;
  }
}

/** Of an id so much must be given. */
const SHORTEST_BEGINNING = 6;

/**
 * The stories that are meant by anything in hand: a message's id or its beginning, a job's, Slurm's, a path, its end, or a
 * part of a file's name. What is meant exactly goes before what merely contains it.
 */
export function storiesOf(what: string, stories: readonly Story[]): Story[] {
  const jobsOf = (story: Story) => [...story.jobs.values()].map(({ data }) => data);
  const begins = (id: string) => what.length >= SHORTEST_BEGINNING && id.startsWith(what);
  const names = (path: string) => posix.basename(path);
  const ways: ((story: Story) => boolean)[] = [
    // A producer names his messages, also after others' paths: then both are meant.
    (story) =>
      story.cause.id === what ||
      jobsOf(story).some(({ job, slurm }) => job.id === what || slurm.jobId === what) ||
      pathsOf(story).some((path) => path === what || path.endsWith(`/${what.replace(/^\/+/, "")}`)),
    (story) => begins(story.cause.id) || jobsOf(story).some(({ job }) => begins(job.id)),
    // Tasks of an array have its id and their number.
    (story) => /^\d+$/.test(what) && jobsOf(story).some(({ slurm }) => slurm.jobId?.startsWith(`${what}_`)),
    (story) => pathsOf(story).some((path) => names(path).includes(what)),
  ];
  for (const way of ways) {
    const found = stories.filter(way);
    if (found.length > 0) return found;
  }
  return [];
}

/** The paths of a message, in each view in which they are known. */
function pathsOf(story: Story): string[] {
  return [...story.paths, ...[...story.jobs.values()].flatMap(({ data }) => data.paths)];
}

/** What came last from the folder of a file that nobody announced. */
export function lastFrom(folder: string, stories: readonly Story[]): Story | undefined {
  const of = stories.filter((story) => pathsOf(story).some((path) => posix.dirname(path).endsWith(folder)));
  return of.at(-1);
}
