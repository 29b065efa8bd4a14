import { LeftWaiting } from "./intake.ts";
import { errorText, isOutage, MentoError } from "../errors.ts";
import type { QueuedTurn, ReceivedMessage } from "./handle-message.ts";
import type { Log } from "../log.ts";
import { originOf } from "../messages/origin.ts";
import type { Trigger } from "../triggers/trigger-config.ts";
import { jobIdIn } from "../triggers/turns.ts";

export interface TriggerQueueEdges {
  trigger: Trigger;
  /** So many messages the broker lets it hold. */
  prefetch: number;
  /** Handles a message that says nothing of its turn. */
  handle: (received: ReceivedMessage) => Promise<void>;
  /** Runs the trigger for a message whose turn it is, or announces that it was overtaken. */
  handleTurn: (received: ReceivedMessage, turn: "now" | { overtakenBy: string }) => Promise<void>;
  /** Which of these jobs there are, all of one door. */
  jobsThere: (turn: QueuedTurn, jobIds: readonly string[]) => Promise<ReadonlySet<string>>;
  /** Puts it at the end of the queue, confirmed. */
  putBack: (received: ReceivedMessage, turn: QueuedTurn) => Promise<void>;
  /** Whether a trigger of higher priority waits for the session to have fewer jobs. */
  isOutranked: (session: string | null, priority: number) => boolean;
  /** Ids of the sessions whose messages may be behind those that are held. */
  openSessions: () => Promise<readonly string[]>;
  log: Log;
}

/** A message that waits, un-acked. */
interface Waiting {
  received: ReceivedMessage;
  turn: QueuedTurn;
  /** Its own id. */
  id: string;
  since: number;
  done: () => void;
  failed: (error: unknown) => void;
}

/** Who waits for the same seats. */
interface Door {
  session: string | null;
  /** In their order, without the one that is tried. */
  waiting: Waiting[];
  trying: Waiting | undefined;
  overtaken: { one: Waiting; by: string }[];
  isDropping: boolean;
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
const DROP_AT_ONCE = 64;

/**
 * Messages that wait for their turn with one trigger. All of them lie in a queue of its own on the broker, which gives
 * them to one worker at a time; that holds the first few, and tries the first of each door, or, if the latest is wanted,
 * the newest: whether there is a seat the file system says. Nothing is published while they wait.
 */
export class TriggerQueue {
  readonly #edges: TriggerQueueEdges;
  readonly #doors = new Map<string, Door>();
  readonly #tending: NodeJS.Timeout;
  #isStopped = false;

  constructor(edges: TriggerQueueEdges) {
    this.#edges = edges;
    this.#tending = setInterval(() => {
      this.#tend().catch((error: unknown) => edges.log.warn({ err: error }, errorText(error)));
    }, TEND_EVERY_MS);
    this.#tending.unref();
  }

  /** Resolves when the trigger is done with the message; rejects with what becomes of it else. */
  async join(received: ReceivedMessage): Promise<void> {
    const turn = received.queuedTurn;
    if (turn === undefined) return this.#edges.handle(received);
    if (this.#isStopped) throw new LeftWaiting();
    await new Promise<void>((done, failed) => {
      const { id } = originOf(received.body, received.properties).cause;
      this.#add({ received, turn, id, since: Date.now(), done, failed });
    });
  }

  /** A job has ended: there may be room. */
  wake(): void {
    for (const { wake } of this.#doors.values()) wake();
  }

  /** The highest priority of those that wait for the session to have fewer jobs is the trigger's, if it has such. */
  waitsForSession(session: string | null): boolean {
    return [...this.#doors.values()].some((door) => door.isSessionFull && door.session === session);
  }

  /** Leaves those that wait to the broker; what is under way is finished. */
  stop(): void {
    this.#isStopped = true;
    clearInterval(this.#tending);
    for (const door of this.#doors.values()) {
      const left = [...door.waiting.splice(0), ...door.overtaken.splice(0).map(({ one }) => one)];
      for (const { failed } of left) failed(new LeftWaiting());
      door.wake();
    }
  }

  #add(one: Waiting): void {
    const { door: name, session } = one.turn;
    const known = this.#doors.get(name);
    const door: Door = known ?? {
      session,
      waiting: [],
      trying: undefined,
      overtaken: [],
      isDropping: false,
      isSessionFull: false,
      wake: () => undefined,
    };
    const held = [...door.waiting, door.trying, ...door.overtaken.map((overtaken) => overtaken.one)];
    // Put into the queue twice: the other is still held, and what becomes of it is enough.
    if (held.some((other) => other !== undefined && jobIdIn(other.turn.order) === jobIdIn(one.turn.order))) {
      one.done();
      return;
    }
    this.#insert(door, one);
    if (known !== undefined) return;
    this.#doors.set(name, door);
    void this.#serve(name, door);
  }

  #insert(door: Door, one: Waiting): void {
    const { waiting } = door;
    let at = waiting.length;
    while (at > 0 && (waiting[at - 1]?.turn.order ?? "") > one.turn.order) at -= 1;
    waiting.splice(at, 0, one);
    if (!this.#edges.trigger.latest) return;
    const by = waiting.at(-1)?.id ?? "";
    for (const older of waiting.splice(0, waiting.length - 1)) door.overtaken.push({ one: older, by });
    void this.#drop(door);
  }

  /** Tries one after the other, until nobody waits. */
  async #serve(name: string, door: Door): Promise<void> {
    const { isOutranked, trigger } = this.#edges;
    for (let next = door.waiting[0]; next !== undefined; next = door.waiting[0]) {
      if (door.isSessionFull && isOutranked(door.session, trigger.priority)) {
        await pause(door, LOOK_EVERY_MS);
        continue;
      }
      door.trying = door.waiting.shift();
      const error = await this.#run(next);
      door.trying = undefined;
      const code = error instanceof MentoError ? error.code : undefined;
      door.isSessionFull = code === "session-full";
      const isFull = code === "trigger-full" || code === "session-full";
      if (error === undefined) next.done();
      else if (!isFull && !isOutage(error)) next.failed(error);
      else if (this.#isStopped) next.failed(new LeftWaiting());
      else {
        this.#insert(door, next);
        await pause(door, isFull ? LOOK_EVERY_MS : TROUBLE_LASTS_MS);
      }
    }
    // Nothing has happened since nobody waited: who comes now makes a new door.
    this.#doors.delete(name);
  }

  async #run({ received }: Waiting): Promise<unknown> {
    try {
      await this.#edges.handleTurn(received, "now");
      return undefined;
    } catch (error) {
      return error;
    }
  }

  /** What was overtaken is announced as that, unless its job was submitted before: by who died before he could tell. */
  async #drop(door: Door): Promise<void> {
    if (door.isDropping) return;
    door.isDropping = true;
    while (door.overtaken.length > 0) {
      const batch = door.overtaken.splice(0, DROP_AT_ONCE);
      const there = await this.#thereOf(batch.map(({ one }) => one));
      if (there === undefined && !this.#isStopped) {
        door.overtaken.unshift(...batch);
        await pause(undefined, TROUBLE_LASTS_MS);
        continue;
      }
      const work = batch.map(async ({ one: { received, turn, done, failed }, by }) => {
        if (there === undefined) {
          failed(new LeftWaiting());
          return;
        }
        const now = there.has(jobIdIn(turn.order)) ? "now" : { overtakenBy: by };
        await this.#edges.handleTurn(received, now).then(done, failed);
      });
      await Promise.all(work);
    }
    door.isDropping = false;
  }

  async #thereOf(batch: readonly Waiting[]): Promise<ReadonlySet<string> | undefined> {
    const [first] = batch;
    if (first === undefined) return new Set();
    try {
      const ids = batch.map(({ turn }) => jobIdIn(turn.order));
      return await this.#edges.jobsThere(first.turn, ids);
    } catch (error) {
      this.#edges.log.warn({ err: error }, `overtaken messages wait: ${errorText(error)}`);
      return undefined;
    }
  }

  /** No delivery is held for long; and where all that may be held wait, some let those behind them be seen. */
  async #tend(): Promise<void> {
    const { prefetch } = this.#edges;
    const doors = [...this.#doors.values()];
    const held = doors.reduce((sum, { waiting, trying }) => sum + waiting.length + (trying ? 1 : 0), 0);
    // One that only waits has ended no worker, however many had it: a copy begins anew.
    const isLate = ({ since, received }: Waiting) =>
      Date.now() - since > HOLD_AT_MOST_MS || received.cameBack !== undefined;
    for (const door of doors) for (const one of door.waiting.filter(isLate)) this.#putBack(door, one);
    if (held < prefetch || !(await this.#mayHideOthers(doors))) return;
    let bytes = 0;
    for (let count = 0; count < PASS_AT_ONCE && bytes < PASS_BYTES_AT_ONCE; count++) {
      const [longest] = doors.sort((one, other) => other.waiting.length - one.waiting.length);
      const last = longest?.waiting.at(-1);
      if (longest === undefined || last === undefined) return;
      bytes += last.received.body.byteLength;
      this.#putBack(longest, last);
    }
  }

  /** Of another key, or of a session that is not the one whose messages are held: that may be over. */
  async #mayHideOthers(doors: readonly Door[]): Promise<boolean> {
    if (this.#edges.trigger.key !== undefined) return true;
    const held = new Set(doors.map(({ session }) => session));
    const open = await this.#edges.openSessions();
    return open.some((id) => held.size > 1 || !held.has(id));
  }

  #putBack(door: Door, one: Waiting): void {
    door.waiting.splice(door.waiting.indexOf(one), 1);
    this.#edges.putBack(one.received, one.turn).then(one.done, one.failed);
  }
}

/** Keeps no process alive. */
async function pause(door: Door | undefined, milliseconds: number): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, milliseconds).unref();
    if (door === undefined) return;
    door.wake = () => {
      clearTimeout(timer);
      resolve();
    };
  });
}
