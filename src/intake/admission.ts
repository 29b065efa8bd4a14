import type { Session } from "../beamtime/session.ts";
import { Deferred, Misconfigured, Unavailable, type MentoError } from "../errors.ts";
import type { Log } from "../log.ts";
import { backoff } from "../time/backoff.ts";
import { ComeBack } from "./come-back.ts";

/** Without a session, what runs on this host has an id of its own. */
type SessionId = Pick<Session, "id"> & Partial<Pick<Session, "isOpen">>;

export interface AdmissionDeps {
  /** Messages of a session handled at the same time. */
  concurrency: number;
  /** Jobs of a session submitted a second, at most. */
  maxSubmitRate: number;
  /** Throws what keeps the session's jobs from being submitted, if it still does. */
  probe: (session: SessionId) => Promise<void>;
  /** Whether this is the one session whose messages come: then its trouble is everybody's. */
  isOnlySession: (session: SessionId) => Promise<boolean>;
  log: Log;
}

/** What keeps everybody, or everybody of one session, from work. */
export type Outage = Unavailable | Misconfigured;

interface Gate {
  session: SessionId;
  running: number;
  /** By priority, then in the order in which they came. */
  waiting: { jobs: number; priority: number; enter: () => void; refuse: (error: Error) => void }[];
  /** Submits that may go at once; a second's worth at most. */
  tokens: number;
  refilledAt: number;
  refill: NodeJS.Timeout | undefined;
  /** Bytes of messages that may be handled at once. */
  bytes: number;
  bytesRefilledAt: number;
  /** A probe under way: it ends with what it found. */
  checking: Promise<Outage | undefined> | undefined;
  closedBy: Outage | undefined;
  askedAt: number;
  /** A job of it was submitted since its gate was shut last. */
  hasWorked: boolean;
  /** Messages being handled, of a session that is not open. */
  held: number;
  /** What waits on the broker because the session was busy; a large one counts as many. */
  away: ComeBack;
}

/** So many messages of one session wait in a worker, where there are other sessions; those beyond wait on the broker. */
const WAITING_PER_SLOT = 4;
/** So many of those come back a second: more than are submitted, and fewer than are taken out of a queue. */
const COME_BACK_PER_SECOND = 100;
/** Bytes of messages of one session that are handled a second, for one trigger each: a quarter of a core's work. */
const BYTES_PER_SECOND = 4 * 2 ** 20;
/** What is larger counts as several, when it waits on the broker. */
const BYTES_OF_ONE = 16 * 1024;
/** So long messages of one session wait for its node or its Slurm, while other sessions' pass: a day. */
const ONE_SESSION_WAITS_SECONDS = 24 * 3600;
/** So long a message is tried whose own command fails while others' work. */
const OWN_FAILURE_SECONDS = 3600;
/** A command that breaks its connection is looked for as one in flight in between: that is no end of the trouble. */
const OWN_FAILURE_TIMES = 30;
/** A queue that is full empties job by job; a server that is away is asked more and more seldom. */
const FULL_PAUSES = { first: 2_000, longest: 2_000 };
const PAUSES = { first: 1_000, longest: 30_000 };
/** Another session may be opened while the only one keeps everybody waiting. */
const LOOK_FOR_OTHERS_MS = 1_000;
/** Of the messages that a worker holds, half. */
const PLACES_PER_SLOT = 8;
/** The first message of a session that waits for a place comes again soon. */
const FIRST_WAITS_SECONDS = 5;
/** Messages of a session that came so long ago may be followed by others. */
const SEEN_MS = 600_000;
/** Nobody has asked for the session for so long: its gate is no longer watched. */
const FORGET_AFTER_MS = 300_000;

/**
 * Who may submit now. Each session has a gate of its own: a flood of one does not hold up another, and a session whose
 * node or Slurm is away, or that has enough jobs waiting there, is shut until one probe, with growing pauses, finds it
 * back. No message uses up an attempt at a closed gate.
 */
export class Admission {
  readonly #deps: AdmissionDeps;
  readonly #gates = new Map<string, Gate>();
  /** Messages being handled, of sessions that are not open at the beamline. */
  #held = 0;
  readonly #notOpenAway = new ComeBack(COME_BACK_PER_SECOND);
  #isStopped = false;
  #wake: () => void = () => undefined;
  #changed = new Promise<void>((resolve) => (this.#wake = resolve));

  constructor(deps: AdmissionDeps) {
    this.#deps = deps;
  }

  /**
   * Waits for a turn. Whoever has one gives it back by calling what this returns.
   *
   * @throws Unavailable, Misconfigured what keeps the session from work, if it is the only one
   * @throws Deferred the same, or `session-busy`, if there are others
   */
  async enter(session: SessionId, jobs: number, priority = 0): Promise<() => void> {
    const gate = this.#gateOf(session);
    if (this.#isLong(gate, priority) && !(await this.#isOnlySession(session)))
      throw busy(session, gate.away.secondsForOneMore());
    if (gate.closedBy !== undefined) throw await this.#told(session, gate.closedBy);
    await new Promise<void>((enter, refuse) => {
      const first = gate.waiting.findIndex((other) => other.priority < priority);
      gate.waiting.splice(first < 0 ? gate.waiting.length : first, 0, { jobs, priority, enter, refuse });
      this.#admit(gate);
    });
    let isInside = true;
    return () => {
      if (!isInside) return;
      isInside = false;
      gate.running -= 1;
      this.#admit(gate);
    };
  }

  #isLong({ waiting }: Gate, priority: number): boolean {
    const before = waiting.filter((other) => other.priority >= priority);
    return before.length >= this.#deps.concurrency * WAITING_PER_SLOT;
  }

  /**
   * Before anything is planned: a message that would only be told to come again costs little then. A large one takes its
   * time to be planned and looked for, whatever becomes of it: of one session only so many bytes are handled a second. Of
   * sessions that are not open at the beamline there can be hundreds, whose nodes may all be away: until a job of one was
   * submitted it has one message being handled, then some, and all of them together half of those that a worker holds.
   *
   * @param bytes of the message, for each trigger that wants it
   * @param priority the highest of them
   * @returns to be called when the message has been handled
   * @throws Deferred `session-busy`, if there are other sessions
   */
  async requireCapacity(session: SessionId, bytes: number, priority: number): Promise<() => void> {
    const leave = await this.#requirePlace(session);
    try {
      await this.#requireBytes(session, bytes, priority);
      return leave;
    } catch (error) {
      leave();
      throw error;
    }
  }

  async #requirePlace(session: SessionId): Promise<() => void> {
    const gate = this.#gateOf(session);
    if (session.isOpen !== false || (await this.#isOnlySession(session))) return () => undefined;
    if (gate.closedBy !== undefined) throw await this.#told(session, gate.closedBy);
    const { concurrency } = this.#deps;
    if (gate.held >= (gate.hasWorked ? concurrency : 1) || this.#held >= concurrency * PLACES_PER_SLOT) {
      const isFirst = gate.away.isEmpty;
      const seconds = Math.max(gate.away.secondsForOneMore(), this.#notOpenAway.secondsForOneMore());
      throw busy(session, isFirst ? Math.min(seconds, FIRST_WAITS_SECONDS) : seconds);
    }
    gate.held += 1;
    this.#held += 1;
    return () => {
      gate.held -= 1;
      this.#held -= 1;
    };
  }

  /** A job of the session was submitted. */
  works(sessionId: string | null): void {
    const gate = this.#gates.get(sessionId ?? "");
    if (gate !== undefined) gate.hasWorked = true;
  }

  /** Also one that is not open at the beamline is another, if its messages came of late. */
  async #isOnlySession(session: SessionId): Promise<boolean> {
    const since = Date.now() - SEEN_MS;
    const others = [...this.#gates.values()].some(
      (one) => one.session.id !== session.id && one.askedAt > since,
    );
    return !others && this.#deps.isOnlySession(session);
  }

  async #requireBytes(session: SessionId, bytes: number, priority: number): Promise<void> {
    const gate = this.#gateOf(session);
    const now = Date.now();
    const more = ((now - gate.bytesRefilledAt) / 1000) * BYTES_PER_SECOND;
    gate.bytes = Math.min(BYTES_PER_SECOND, gate.bytes + more);
    gate.bytesRefilledAt = now;
    if (gate.bytes > 0 && !this.#isLong(gate, priority)) gate.bytes -= bytes;
    else if (!(await this.#isOnlySession(session)))
      throw busy(session, gate.away.secondsForOneMore(Math.ceil(bytes / BYTES_OF_ONE)));
  }

  /** Throws what keeps the session from work, as {@link enter} does; takes no turn. */
  async requireOpen(session: SessionId): Promise<void> {
    const { closedBy } = this.#gateOf(session);
    if (closedBy !== undefined) throw await this.#told(session, closedBy);
  }

  /**
   * A submit failed for a reason that is not the message's. One probe tells whose it is: the session's, whose gate is
   * then shut, or that of this one command, whose message comes again alone.
   *
   * @returns what becomes of the message
   */
  async report(session: SessionId, failure: Outage): Promise<MentoError> {
    const gate = this.#gateOf(session);
    if (gate.closedBy !== undefined) return this.#told(session, gate.closedBy);
    gate.checking ??= this.#check(gate);
    const confirmed = await gate.checking;
    if (confirmed !== undefined) return this.#told(session, confirmed);
    // Jobs have started since: that is no trouble of the message's own.
    if (isFull(failure)) return this.#told(session, failure);
    return ownFailure(failure);
  }

  /** Resolves when there is a session whose messages can be taken: at once, if no gate is everybody's. */
  async whenOpen(): Promise<void> {
    while (!this.#isStopped && (await this.#isEverybodyOut())) {
      await Promise.race([this.#changed, pause(LOOK_FOR_OTHERS_MS)]);
    }
  }

  async #isEverybodyOut(): Promise<boolean> {
    for (const gate of this.#gates.values()) {
      if (gate.closedBy === undefined || !(await this.#isOnlySession(gate.session))) continue;
      // Its messages are not asked for while nothing is consumed; they wait all the same.
      gate.askedAt = Date.now();
      return true;
    }
    return false;
  }

  /** Nobody who waits gets a turn any more: their messages are delivered again, over another link. */
  refuseWaiting(why: Error): void {
    for (const { waiting } of this.#gates.values()) {
      for (const { refuse } of waiting.splice(0)) refuse(why);
    }
  }

  stop(): void {
    this.#isStopped = true;
    for (const { refill } of this.#gates.values()) clearTimeout(refill);
    this.#tellChange();
  }

  #tellChange(): void {
    this.#wake();
    this.#changed = new Promise((resolve) => (this.#wake = resolve));
  }

  #gateOf(session: SessionId): Gate {
    const known = this.#gates.get(session.id);
    const now = Date.now();
    const gate = known ?? {
      session,
      running: 0,
      waiting: [],
      tokens: this.#deps.maxSubmitRate,
      refilledAt: now,
      refill: undefined,
      bytes: BYTES_PER_SECOND,
      bytesRefilledAt: now,
      checking: undefined,
      closedBy: undefined,
      askedAt: now,
      ...{ hasWorked: false, held: 0 },
      away: new ComeBack(COME_BACK_PER_SECOND),
    };
    gate.session = session;
    gate.askedAt = now;
    this.#gates.set(session.id, gate);
    return gate;
  }

  #admit(gate: Gate): void {
    // As long as a probe is under way, who comes waits with the others, and is counted with them.
    if (this.#isStopped || gate.checking !== undefined || gate.closedBy !== undefined) return;
    const { concurrency, maxSubmitRate } = this.#deps;
    const now = Date.now();
    gate.tokens = Math.min(maxSubmitRate, gate.tokens + ((now - gate.refilledAt) / 1000) * maxSubmitRate);
    gate.refilledAt = now;
    while (gate.running < concurrency && gate.tokens > 0) {
      const next = gate.waiting.shift();
      if (next === undefined) return;
      gate.running += 1;
      gate.tokens -= next.jobs;
      next.enter();
    }
    if (gate.tokens > 0 || gate.waiting.length === 0 || gate.refill !== undefined) return;
    const untilOne = ((1 - gate.tokens) / maxSubmitRate) * 1000;
    gate.refill = setTimeout(() => {
      gate.refill = undefined;
      this.#admit(gate);
    }, untilOne);
  }

  async #check(gate: Gate): Promise<Outage | undefined> {
    const found = await this.#probe(gate.session);
    gate.checking = undefined;
    gate.closedBy = found;
    if (found === undefined) {
      this.#admit(gate);
      return undefined;
    }
    gate.hasWorked = false;
    this.#logFailure(gate.session, found);
    const waiting = gate.waiting.splice(0);
    void this.#reopen(gate);
    const told = await this.#told(gate.session, found);
    for (const { refuse } of waiting) refuse(told);
    return found;
  }

  #logFailure({ id }: SessionId, found: Outage): void {
    this.#deps.log[isFull(found) ? "info" : "error"](
      { session: id, code: found.code, hint: found.hint },
      `${found.message} No messages of ${id} are taken until this is over.`,
    );
  }

  /** One probe at a time, after 1, 2, 4 … 30 s with up to a fifth more at random. */
  async #reopen(gate: Gate): Promise<void> {
    let attempt = 0;
    while (gate.closedBy !== undefined) {
      const known = gate.closedBy;
      await pause(backoff(attempt, isFull(known) ? FULL_PAUSES : PAUSES));
      if (this.#isStopped) return;
      const found = await this.#probe(gate.session);
      const { id } = gate.session;
      // A server that goes away while the queue is full is a new trouble.
      attempt = found?.code === known.code ? attempt + 1 : 0;
      if (found === undefined) this.#deps.log.info({ session: id }, `${id} is back: its messages are taken`);
      else if (found.code !== known.code) this.#logFailure(gate.session, found);
      gate.closedBy = Date.now() - gate.askedAt > FORGET_AFTER_MS ? undefined : found;
      this.#tellChange();
    }
  }

  async #probe(session: SessionId): Promise<Outage | undefined> {
    try {
      await this.#deps.probe(session);
      return undefined;
    } catch (error) {
      // Anything else is told to each message by its own try.
      return error instanceof Unavailable || error instanceof Misconfigured ? error : undefined;
    }
  }

  /** Where there are others, one session's trouble is its own messages' alone. */
  async #told(session: SessionId, failure: Outage): Promise<MentoError> {
    if (await this.#isOnlySession(session)) return failure;
    const { code, message, hint } = failure;
    return new Deferred({
      ...{ code, message, hint },
      // Slurm works, and each job that starts makes room: such a message waits as long as the flood takes.
      ...(isFull(failure)
        ? { giveUpAfterSeconds: Infinity, waitAtMostSeconds: 5 }
        : { giveUpAfterSeconds: ONE_SESSION_WAITS_SECONDS }),
      cause: failure,
    });
  }
}

function isFull({ code }: Outage): boolean {
  return code === "too-many-pending";
}

/** Keeps no process alive. */
async function pause(milliseconds: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, milliseconds).unref());
}

/** A failure of one message's own command, while others' work: it comes again by itself, for an hour. */
export function ownFailure(failure: Outage): Deferred {
  const { code, message, hint } = failure;
  return new Deferred({
    ...{ code, message, hint },
    giveUpAfterSeconds: OWN_FAILURE_SECONDS,
    giveUpAfterTimes: OWN_FAILURE_TIMES,
    cause: failure,
  });
}

/** Silent: the message comes again after so many seconds, or somewhat later. */
export function busy({ id }: SessionId, waitSeconds = 1): Deferred {
  return new Deferred({
    code: "session-busy",
    message: `Many messages of ${id} wait already, and other sessions' must pass.`,
    hint: "The message comes again by itself.",
    giveUpAfterSeconds: ONE_SESSION_WAITS_SECONDS,
    isSilent: true,
    waitSeconds,
  });
}
