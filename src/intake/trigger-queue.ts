import { LeftWaiting } from "./intake.ts";
import { errorText, isOutage, MentoError } from "../errors.ts";
import type { QueuedPosition, ReceivedMessage } from "./message.ts";
import type { Log } from "../log.ts";
import { originOf } from "../messages/origin.ts";
import type { Trigger } from "../triggers/trigger-config.ts";
import { jobIdIn } from "../triggers/queue-position.ts";

export interface TriggerQueueDeps {
  trigger: Trigger;
  /** So many messages the broker lets it hold. */
  prefetch: number;
  /** Handles a message that says nothing of its turn. */
  handle: (received: ReceivedMessage) => Promise<void>;
  /** Runs the trigger for a message whose turn it is, or announces that it was overtaken. */
  handleQueued: (received: ReceivedMessage, position: "now" | { overtakenBy: string }) => Promise<void>;
  /** Which of these jobs there are, all of one permitQueue. */
  jobsThere: (position: QueuedPosition, jobIds: readonly string[]) => Promise<ReadonlySet<string>>;
  /** Puts it at the end of the queue, confirmed. */
  putBack: (received: ReceivedMessage, position: QueuedPosition) => Promise<void>;
  /** Whether a trigger of higher priority waits for the session to have fewer jobs. */
  isOutranked: (session: string | null, priority: number) => boolean;
  /** Ids of the sessions whose messages may be behind those that are held. */
  openSessions: () => Promise<readonly string[]>;
  log: Log;
}

/** A message that waits, un-acked. */
interface Waiting {
  received: ReceivedMessage;
  position: QueuedPosition;
  /** Its own id. */
  id: string;
  since: number;
  done: () => void;
  failed: (error: unknown) => void;
}

/** Who waits for the same permits. */
interface PermitQueue {
  session: string | null;
  /** In their order, without the one that is tried. */
  waiting: Waiting[];
  trying: Waiting | undefined;
  overtaken: { one: Waiting; by: string }[];
  /** Of those that were overtaken, the ones that are looked for now. */
  dropping: readonly Waiting[];
  isServed: boolean;
  waitsForHand: boolean;
  /** Not the trigger's jobs but the session's are too many. */
  isSessionFull: boolean;
  wake: () => void;
}

/** The end of a job is told by the tracker, if it is in this worker; else it is looked for so often. */
const LOOK_EVERY_MS = 1_000;
/** Those that hide others are looked for so often, and so many let others pass then: 128 a second, or 8 MiB of them. */
const TEND_EVERY_MS = 500;
const PASS_AT_ONCE = 64;
const PASS_BYTES_AT_ONCE = 4 * 1024 * 1024;
const TROUBLE_LASTS_MS = 2_000;
/** RabbitMQ takes a delivery back after 30 minutes. */
const HOLD_AT_MOST_MS = 15 * 60_000;
/**
 * So many messages of a session are in hand at once: asked for a permit, or looked for after they were overtaken. Only
 * what is not can be put back, and a session's account can make each of these commands slow.
 */
const MOST_IN_HAND = 32;

/**
 * Messages that wait for their turn with one trigger. All of them lie in a queue of its own on the broker, which gives
 * them to one worker at a time; that holds the first few, and tries the first of each permitQueue, or, if the latest is wanted,
 * the newest: whether there is a permit the file system says. Nothing is published while they wait.
 */
export class TriggerQueue {
  readonly #deps: TriggerQueueDeps;
  readonly #permitQueues = new Map<string, PermitQueue>();
  readonly #tending: NodeJS.Timeout;
  #isStopped = false;

  constructor(deps: TriggerQueueDeps) {
    this.#deps = deps;
    this.#tending = setInterval(() => {
      this.#tend().catch((error: unknown) => deps.log.warn({ err: error }, errorText(error)));
    }, TEND_EVERY_MS);
    this.#tending.unref();
  }

  /** Resolves when the trigger is done with the message; rejects with what becomes of it else. */
  async join(received: ReceivedMessage): Promise<void> {
    const position = received.queuedPosition;
    if (position === undefined) return this.#deps.handle(received);
    if (this.#isStopped) throw new LeftWaiting();
    await new Promise<void>((done, failed) => {
      const { id } = originOf(received.body, received.properties).cause;
      this.#add({ received, position, id, since: Date.now(), done, failed });
    });
  }

  /** A job has ended: there may be room. */
  wake(): void {
    for (const { wake } of this.#permitQueues.values()) wake();
  }

  /** The highest priority of those that wait for the session to have fewer jobs is the trigger's, if it has such. */
  waitsForSession(session: string | null): boolean {
    return [...this.#permitQueues.values()].some(
      (permitQueue) => permitQueue.isSessionFull && permitQueue.session === session,
    );
  }

  /** Leaves those that wait to the broker; what is under way is finished. */
  stop(): void {
    this.#isStopped = true;
    clearInterval(this.#tending);
    for (const permitQueue of this.#permitQueues.values()) {
      const left = [
        ...permitQueue.waiting.splice(0),
        ...permitQueue.overtaken.splice(0).map(({ one }) => one),
      ];
      for (const { failed } of left) failed(new LeftWaiting());
      permitQueue.wake();
    }
  }

  #add(one: Waiting): void {
    const { concurrencyKey: name, session } = one.position;
    const known = this.#permitQueues.get(name);
    const permitQueue: PermitQueue = known ?? {
      session,
      waiting: [],
      trying: undefined,
      overtaken: [],
      dropping: [],
      isServed: false,
      waitsForHand: false,
      isSessionFull: false,
      wake: () => undefined,
    };
    const jobId = jobIdIn(one.position.order);
    // Put into the queue twice: the other is still held, and what becomes of it is enough.
    if (heldIn(permitQueue).some(({ position }) => jobIdIn(position.order) === jobId)) {
      one.done();
      return;
    }
    this.#permitQueues.set(name, permitQueue);
    this.#insert(permitQueue, one);
    void this.#serve(permitQueue);
  }

  #insert(permitQueue: PermitQueue, one: Waiting): void {
    const { waiting } = permitQueue;
    let at = waiting.length;
    while (at > 0 && (waiting[at - 1]?.position.order ?? "") > one.position.order) at -= 1;
    waiting.splice(at, 0, one);
    if (!this.#deps.trigger.latest) return;
    const by = waiting.at(-1)?.id ?? "";
    for (const older of waiting.splice(0, waiting.length - 1)) permitQueue.overtaken.push({ one: older, by });
    void this.#drop(permitQueue);
  }

  /** Tries one after the other, until nobody waits. */
  async #serve(permitQueue: PermitQueue): Promise<void> {
    if (permitQueue.isServed) return;
    permitQueue.isServed = true;
    const { isOutranked, trigger } = this.#deps;
    for (let next = permitQueue.waiting[0]; next !== undefined; next = permitQueue.waiting[0]) {
      if (permitQueue.isSessionFull && isOutranked(permitQueue.session, trigger.priority)) {
        await pause(permitQueue, LOOK_EVERY_MS);
        continue;
      }
      if (this.#roomInHand(permitQueue.session) === 0) {
        permitQueue.waitsForHand = true;
        await pause(permitQueue, LOOK_EVERY_MS);
        permitQueue.waitsForHand = false;
        continue;
      }
      permitQueue.trying = permitQueue.waiting.shift();
      const error = await this.#run(next);
      permitQueue.trying = undefined;
      this.#leftHand(permitQueue.session);
      const code = error instanceof MentoError ? error.code : undefined;
      permitQueue.isSessionFull = code === "session-full";
      const isFull = code === "trigger-full" || code === "session-full";
      if (error === undefined) next.done();
      else if (!isFull && !isOutage(error)) next.failed(error);
      else if (this.#isStopped) next.failed(new LeftWaiting());
      else {
        this.#insert(permitQueue, next);
        await pause(permitQueue, isFull ? LOOK_EVERY_MS : TROUBLE_LASTS_MS);
      }
    }
    permitQueue.isServed = false;
    this.#forgetIfEmpty(permitQueue);
  }

  #forgetIfEmpty(permitQueue: PermitQueue): void {
    if (permitQueue.isServed || heldIn(permitQueue).length > 0) return;
    for (const [name, one] of this.#permitQueues) if (one === permitQueue) this.#permitQueues.delete(name);
  }

  #roomInHand(session: string | null): number {
    const own = [...this.#permitQueues.values()].filter((one) => one.session === session);
    const inHand = own.reduce((sum, { trying, dropping }) => sum + (trying ? 1 : 0) + dropping.length, 0);
    return Math.max(0, MOST_IN_HAND - inHand);
  }

  /** Another of the session may have been waiting for that. */
  #leftHand(session: string | null): void {
    const all = [...this.#permitQueues.values()];
    all.find((one) => one.session === session && one.waitsForHand)?.wake();
  }

  async #run({ received }: Waiting): Promise<unknown> {
    try {
      await this.#deps.handleQueued(received, "now");
      return undefined;
    } catch (error) {
      return error;
    }
  }

  /** What was overtaken is announced as that, unless its job was submitted before: by who died before he could tell. */
  async #drop(permitQueue: PermitQueue): Promise<void> {
    if (permitQueue.dropping.length > 0) return;
    while (permitQueue.overtaken.length > 0) {
      const room = this.#roomInHand(permitQueue.session);
      if (room === 0) {
        await pause(undefined, LOOK_EVERY_MS);
        continue;
      }
      const batch = permitQueue.overtaken.splice(0, room);
      permitQueue.dropping = batch.map(({ one }) => one);
      const there = await this.#thereOf(permitQueue.dropping);
      if (there === undefined && !this.#isStopped) {
        permitQueue.overtaken.unshift(...batch);
        permitQueue.dropping = [];
        await pause(undefined, TROUBLE_LASTS_MS);
        continue;
      }
      const work = batch.map(async ({ one: { received, position, done, failed }, by }) => {
        if (there === undefined) {
          failed(new LeftWaiting());
          return;
        }
        const now = there.has(jobIdIn(position.order)) ? "now" : { overtakenBy: by };
        await this.#deps.handleQueued(received, now).then(done, failed);
      });
      await Promise.all(work);
      permitQueue.dropping = [];
    }
    this.#forgetIfEmpty(permitQueue);
  }

  async #thereOf(batch: readonly Waiting[]): Promise<ReadonlySet<string> | undefined> {
    const [first] = batch;
    if (first === undefined) return new Set();
    try {
      const ids = batch.map(({ position }) => jobIdIn(position.order));
      return await this.#deps.jobsThere(first.position, ids);
    } catch (error) {
      this.#deps.log.warn({ err: error }, `overtaken messages wait: ${errorText(error)}`);
      return undefined;
    }
  }

  /** No delivery is held for long; and where all that may be held wait, some let those behind them be seen. */
  async #tend(): Promise<void> {
    const { prefetch } = this.#deps;
    const permitQueues = [...this.#permitQueues.values()];
    // One that only waits has ended no worker, however many had it: a copy begins anew.
    const isLate = ({ since, received }: Waiting) =>
      Date.now() - since > HOLD_AT_MOST_MS || received.cameBack !== undefined;
    for (const permitQueue of permitQueues)
      for (const one of idleIn(permitQueue).filter(isLate)) this.#putBack(permitQueue, one);
    const held = permitQueues.reduce((sum, one) => sum + heldIn(one).length, 0);
    if (held < prefetch || !(await this.#mayHideOthers(permitQueues))) return;
    let bytes = 0;
    for (let count = 0; count < PASS_AT_ONCE && bytes < PASS_BYTES_AT_ONCE; count++) {
      const most = longestOfFullest(permitQueues);
      const last = most === undefined ? undefined : idleIn(most).at(-1);
      if (most === undefined || last === undefined) return;
      bytes += last.received.body.byteLength;
      this.#putBack(most, last);
    }
  }

  /** Of another key, or of a session that is not the one whose messages are held: that may be over. */
  async #mayHideOthers(permitQueues: readonly PermitQueue[]): Promise<boolean> {
    if (this.#deps.trigger.key !== undefined) return true;
    const held = new Set(permitQueues.map(({ session }) => session));
    const open = await this.#deps.openSessions();
    return open.some((id) => held.size > 1 || !held.has(id));
  }

  #putBack(permitQueue: PermitQueue, one: Waiting): void {
    permitQueue.waiting = permitQueue.waiting.filter((other) => other !== one);
    permitQueue.overtaken = permitQueue.overtaken.filter((other) => other.one !== one);
    this.#deps.putBack(one.received, one.position).then(one.done, one.failed);
  }
}

function heldIn(permitQueue: PermitQueue): Waiting[] {
  const { trying, dropping } = permitQueue;
  return [...(trying === undefined ? [] : [trying]), ...dropping, ...idleIn(permitQueue)];
}

/** Those that nothing is being done with, and that can be put back; the ones last that are to go first. */
function idleIn({ overtaken, waiting }: PermitQueue): Waiting[] {
  return [...overtaken.map(({ one }) => one), ...waiting];
}

/** Of the session of which most are held, the queue of which most can be put back. */
function longestOfFullest(permitQueues: readonly PermitQueue[]): PermitQueue | undefined {
  const held = new Map<string | null, number>();
  for (const one of permitQueues) held.set(one.session, (held.get(one.session) ?? 0) + heldIn(one).length);
  const fits = ({ session }: PermitQueue) => held.get(session) ?? 0;
  return permitQueues
    .filter((one) => idleIn(one).length > 0)
    .sort((one, other) => fits(other) - fits(one) || idleIn(other).length - idleIn(one).length)[0];
}

/** Keeps no process alive. */
async function pause(permitQueue: PermitQueue | undefined, milliseconds: number): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, milliseconds).unref();
    if (permitQueue === undefined) return;
    permitQueue.wake = () => {
      clearTimeout(timer);
      resolve();
    };
  });
}
