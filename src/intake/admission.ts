import type { Session } from "../beamtime/session.ts";
import { Deferred, Misconfigured, Unavailable, type MentoError } from "../errors.ts";
import type { Log } from "../log.ts";

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
  /** By priority, then in the order in which they came. */
  waiting: { jobs: number; priority: number; enter: () => void; refuse: (error: Error) => void }[];
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
/** A command that breaks its connection is looked for as one in flight in between: that is no end of the trouble. */
const OWN_TROUBLE_TIMES = 30;
/** A queue that is full empties job by job; a server that is away is asked more and more seldom. */
const FULL_RETRY_MS = 2_000;
const LONGEST_BACKOFF_MS = 30_000;
/** Another session may be opened while the only one keeps everybody waiting. */
const LOOK_FOR_OTHERS_MS = 1_000;
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
  async enter(session: Session, jobs: number, priority = 0): Promise<() => void> {
    const door = this.#doorOf(session);
    const before = door.waiting.filter((other) => other.priority >= priority);
    const isLong = before.length >= this.#edges.concurrency * WAITING_PER_SLOT;
    if (isLong && !(await this.#edges.isOnlySession(session))) throw busy(session);
    if (door.closedBy !== undefined) throw await this.#told(session, door.closedBy);
    await new Promise<void>((enter, refuse) => {
      const first = door.waiting.findIndex((other) => other.priority < priority);
      door.waiting.splice(first < 0 ? door.waiting.length : first, 0, { jobs, priority, enter, refuse });
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

  /** Throws what keeps the session from work, as {@link enter} does; takes no turn. */
  async requireOpen(session: Session): Promise<void> {
    const { closedBy } = this.#doorOf(session);
    if (closedBy !== undefined) throw await this.#told(session, closedBy);
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
    // Jobs have started since: that is no trouble of the message's own.
    if (isFull(trouble)) return this.#told(session, trouble);
    const { code, message, hint } = trouble;
    return new Deferred({
      ...{ code, message, hint },
      giveUpAfterSeconds: OWN_TROUBLE_SECONDS,
      giveUpAfterTimes: OWN_TROUBLE_TIMES,
      cause: trouble,
    });
  }

  /** Resolves when there is a session whose messages can be taken: at once, if no door is everybody's. */
  async whenOpen(): Promise<void> {
    while (!this.#isStopped && (await this.#isEverybodyOut())) {
      await Promise.race([this.#changed, pause(LOOK_FOR_OTHERS_MS)]);
    }
  }

  async #isEverybodyOut(): Promise<boolean> {
    for (const door of this.#doors.values()) {
      if (door.closedBy === undefined || !(await this.#edges.isOnlySession(door.session))) continue;
      // Its messages do not knock while nothing is consumed; they wait all the same.
      door.knockedAt = Date.now();
      return true;
    }
    return false;
  }

  /** Nobody who waits gets a turn any more: their messages are delivered again, over another link. */
  refuseWaiting(why: Error): void {
    for (const { waiting } of this.#doors.values()) {
      for (const { refuse } of waiting.splice(0)) refuse(why);
    }
  }

  stop(): void {
    this.#isStopped = true;
    for (const { refill } of this.#doors.values()) clearTimeout(refill);
    this.#tellChange();
  }

  #tellChange(): void {
    this.#wake();
    this.#changed = new Promise((resolve) => (this.#wake = resolve));
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
    // As long as a probe is under way, who comes waits with the others, and is counted with them.
    if (this.#isStopped || door.checking !== undefined || door.closedBy !== undefined) return;
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
    door.closedBy = found;
    if (found === undefined) {
      this.#admit(door);
      return undefined;
    }
    this.#logTrouble(door.session, found);
    const waiting = door.waiting.splice(0);
    void this.#reopen(door);
    const told = await this.#told(door.session, found);
    for (const { refuse } of waiting) refuse(told);
    return found;
  }

  #logTrouble({ id }: Session, found: Trouble): void {
    this.#edges.log[isFull(found) ? "info" : "error"](
      { session: id, code: found.code, hint: found.hint },
      `${found.message} No messages of ${id} are taken until this is over.`,
    );
  }

  /** One probe at a time, after 1, 2, 4 … 30 s with up to a fifth more at random. */
  async #reopen(door: Door): Promise<void> {
    let attempt = 0;
    while (door.closedBy !== undefined) {
      const known = door.closedBy;
      const milliseconds = isFull(known) ? FULL_RETRY_MS : Math.min(1000 * 2 ** attempt, LONGEST_BACKOFF_MS);
      await pause(milliseconds * (1 + Math.random() / 5));
      if (this.#isStopped) return;
      const found = await this.#probe(door.session);
      const { id } = door.session;
      // A server that goes away while the queue is full is a new trouble.
      attempt = found?.code === known.code ? attempt + 1 : 0;
      if (found === undefined) this.#edges.log.info({ session: id }, `${id} is back: its messages are taken`);
      else if (found.code !== known.code) this.#logTrouble(door.session, found);
      door.closedBy = Date.now() - door.knockedAt > FORGET_AFTER_MS ? undefined : found;
      this.#tellChange();
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
      // Slurm works, and each job that starts makes room: such a message waits as long as the flood takes.
      ...(isFull(trouble)
        ? { giveUpAfterSeconds: Infinity, waitAtMostSeconds: 5 }
        : { giveUpAfterSeconds: ONE_SESSION_WAITS_SECONDS }),
      cause: trouble,
    });
  }
}

function isFull({ code }: Trouble): boolean {
  return code === "too-many-pending";
}

/** Keeps no process alive. */
async function pause(milliseconds: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, milliseconds).unref());
}

/** Silent: the message comes again in a second. */
export function busy({ id }: Session): Deferred {
  return new Deferred({
    code: "session-busy",
    message: `Many messages of ${id} wait already, and other sessions' must pass.`,
    hint: "The message comes again in a second.",
    giveUpAfterSeconds: ONE_SESSION_WAITS_SECONDS,
    isSilent: true,
  });
}
