import type { Session } from "./beamtime/session.ts";
import { Deferred, Misconfigured, Unavailable, type MentoError } from "./errors.ts";
import type { Log } from "./log.ts";

export interface AdmissionEdges {
  /** Messages of a session handled at the same time. */
  concurrency: number;
  /** Jobs of a session submitted a second, at most. */
  maxSubmitRate: number;
  /** Throws what keeps the session's jobs from being submitted, if it still does. */
  probe: (session: Session) => Promise<void>;
  /** Whether this is the one session whose messages come: then its trouble is everybody's. */
  isOnlySession: (session: Session) => Promise<boolean>;
  log: Log;
}

/** What keeps everybody, or everybody of one session, from work. */
export type Trouble = Unavailable | Misconfigured;

interface Door {
  session: Session;
  running: number;
  waiting: { jobs: number; enter: () => void; refuse: (error: Error) => void }[];
  /** Submits that may go at once; a second's worth at most. */
  tokens: number;
  refilledAt: number;
  refill: NodeJS.Timeout | undefined;
  /** A probe under way: it ends with what it found. */
  checking: Promise<Trouble | undefined> | undefined;
  closedBy: Trouble | undefined;
  knockedAt: number;
}

/** So many messages of one session wait in a worker, where there are other sessions; those beyond wait on the broker. */
const WAITING_PER_SLOT = 4;
/** So long messages of one session wait for its node or its Slurm, while other sessions' pass: a day. */
const ONE_SESSION_WAITS_SECONDS = 24 * 3600;
/** So long a message is tried whose own command fails while others' work. */
const OWN_TROUBLE_SECONDS = 3600;
/** A queue that is full empties job by job; a server that is away is asked more and more seldom. */
const FULL_RETRY_MS = 2_000;
const LONGEST_BACKOFF_MS = 30_000;
/** Nobody has asked for the session for so long: its door is no longer watched. */
const FORGET_AFTER_MS = 300_000;

/**
 * Who may submit now. Each session has a door of its own: a flood of one does not hold up another, and a session whose
 * node or Slurm is away, or that has enough jobs waiting there, is shut until one probe, with growing pauses, finds it
 * back. No message uses up an attempt at a closed door.
 */
export class Admission {
  readonly #edges: AdmissionEdges;
  readonly #doors = new Map<string, Door>();
  #isStopped = false;
  #wake: () => void = () => undefined;
  #changed = new Promise<void>((resolve) => (this.#wake = resolve));

  constructor(edges: AdmissionEdges) {
    this.#edges = edges;
  }

  /**
   * Waits for a turn. Whoever has one gives it back by calling what this returns.
   *
   * @throws Unavailable, Misconfigured what keeps the session from work, if it is the only one
   * @throws Deferred the same, or `session-busy`, if there are others
   */
  async enter(session: Session, jobs: number): Promise<() => void> {
    const door = this.#doorOf(session);
    await door.checking;
    if (door.closedBy !== undefined) throw await this.#told(session, door.closedBy);
    const isLong = door.waiting.length >= this.#edges.concurrency * WAITING_PER_SLOT;
    if (isLong && !(await this.#edges.isOnlySession(session))) throw busy(session);
    await new Promise<void>((enter, refuse) => {
      door.waiting.push({ jobs, enter, refuse });
      this.#admit(door);
    });
    let isInside = true;
    return () => {
      if (!isInside) return;
      isInside = false;
      door.running -= 1;
      this.#admit(door);
    };
  }

  /**
   * A submit failed for a reason that is not the message's. One probe tells whose it is: the session's, whose door is
   * then shut, or that of this one command, whose message comes again alone.
   *
   * @returns what becomes of the message
   */
  async report(session: Session, trouble: Trouble): Promise<MentoError> {
    const door = this.#doorOf(session);
    if (door.closedBy !== undefined) return this.#told(session, door.closedBy);
    door.checking ??= this.#check(door);
    const confirmed = await door.checking;
    if (confirmed !== undefined) return this.#told(session, confirmed);
    const { code, message, hint } = trouble;
    return new Deferred({
      ...{ code, message, hint },
      giveUpAfterSeconds: OWN_TROUBLE_SECONDS,
      cause: trouble,
    });
  }

  /** Resolves when there is a session whose messages can be taken: at once, if no door is everybody's. */
  async whenOpen(): Promise<void> {
    while (await this.#isEverybodyOut()) await this.#changed;
  }

  async #isEverybodyOut(): Promise<boolean> {
    for (const { closedBy, session } of this.#doors.values()) {
      if (closedBy !== undefined && (await this.#edges.isOnlySession(session))) return true;
    }
    return false;
  }

  stop(): void {
    this.#isStopped = true;
    for (const { refill } of this.#doors.values()) clearTimeout(refill);
  }

  #doorOf(session: Session): Door {
    const known = this.#doors.get(session.id);
    const now = Date.now();
    const door = known ?? {
      session,
      running: 0,
      waiting: [],
      tokens: this.#edges.maxSubmitRate,
      refilledAt: now,
      refill: undefined,
      checking: undefined,
      closedBy: undefined,
      knockedAt: now,
    };
    door.session = session;
    door.knockedAt = now;
    this.#doors.set(session.id, door);
    return door;
  }

  #admit(door: Door): void {
    const { concurrency, maxSubmitRate } = this.#edges;
    const now = Date.now();
    door.tokens = Math.min(maxSubmitRate, door.tokens + ((now - door.refilledAt) / 1000) * maxSubmitRate);
    door.refilledAt = now;
    while (door.running < concurrency && door.tokens > 0) {
      const next = door.waiting.shift();
      if (next === undefined) return;
      door.running += 1;
      door.tokens -= next.jobs;
      next.enter();
    }
    if (door.tokens > 0 || door.waiting.length === 0 || door.refill !== undefined) return;
    const untilOne = ((1 - door.tokens) / maxSubmitRate) * 1000;
    door.refill = setTimeout(() => {
      door.refill = undefined;
      this.#admit(door);
    }, untilOne);
  }

  async #check(door: Door): Promise<Trouble | undefined> {
    const found = await this.#probe(door.session);
    door.checking = undefined;
    if (found === undefined) return undefined;
    door.closedBy = found;
    const { id } = door.session;
    const level = found.code === "too-many-pending" ? "info" : "error";
    this.#edges.log[level](
      { session: id, code: found.code, hint: found.hint },
      `${found.message} No messages of ${id} are taken until this is over.`,
    );
    const told = await this.#told(door.session, found);
    for (const { refuse } of door.waiting.splice(0)) refuse(told);
    void this.#reopen(door);
    return found;
  }

  /** One probe at a time, after 1, 2, 4 … 30 s with up to a fifth more at random. */
  async #reopen(door: Door): Promise<void> {
    const { id } = door.session;
    for (let attempt = 0; door.closedBy !== undefined; attempt++) {
      const isFull = door.closedBy.code === "too-many-pending";
      const pause = isFull ? FULL_RETRY_MS : Math.min(1000 * 2 ** attempt, LONGEST_BACKOFF_MS);
      await new Promise((resolve) => setTimeout(resolve, pause * (1 + Math.random() / 5)).unref());
      if (this.#isStopped) return;
      const found = await this.#probe(door.session);
      if (found === undefined) this.#edges.log.info({ session: id }, `${id} is back: its messages are taken`);
      door.closedBy = Date.now() - door.knockedAt > FORGET_AFTER_MS ? undefined : found;
      this.#wake();
      this.#changed = new Promise((resolve) => (this.#wake = resolve));
    }
  }

  async #probe(session: Session): Promise<Trouble | undefined> {
    try {
      await this.#edges.probe(session);
      return undefined;
    } catch (error) {
      // Anything else is told to each message by its own try.
      return error instanceof Unavailable || error instanceof Misconfigured ? error : undefined;
    }
  }

  /** Where there are others, one session's trouble is its own messages' alone. */
  async #told(session: Session, trouble: Trouble): Promise<MentoError> {
    if (await this.#edges.isOnlySession(session)) return trouble;
    const { code, message, hint } = trouble;
    return new Deferred({
      ...{ code, message, hint },
      giveUpAfterSeconds: ONE_SESSION_WAITS_SECONDS,
      ...(code === "too-many-pending" ? { waitAtMostSeconds: 5 } : {}),
      cause: trouble,
    });
  }
}

function busy({ id }: Session): Deferred {
  return new Deferred({
    code: "session-busy",
    message: `Many messages of ${id} wait already, and other sessions' must pass.`,
    hint: "The message comes again in a second.",
    giveUpAfterSeconds: ONE_SESSION_WAITS_SECONDS,
    isSilent: true,
  });
}
