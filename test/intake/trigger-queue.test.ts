import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { LeftWaiting } from "../../src/intake/intake.ts";
import { BrokerUnavailable, Deferred, Rejected, Unavailable, type MentoError } from "../../src/errors.ts";
import type { ReceivedMessage } from "../../src/intake/message.ts";
import { noPermitYet } from "../../src/submission/submit-answer.ts";
import { TriggerQueue } from "../../src/intake/trigger-queue.ts";
import { Trigger } from "../../src/triggers/trigger-config.ts";

let free: number;
let fullOf: "trigger" | "session";
let failure: Error | undefined;
let there: Set<string>;
let isLookBroken: boolean;
/** The account's node answers nothing, and refuses nothing. */
let isHanging: boolean;
let isOutranked: boolean;
let openSessions: string[];
/** What was done, in its order. */
let done: string[];
let tries: number;
const queues: TriggerQueue[] = [];

beforeEach(() => {
  vi.useFakeTimers();
  free = 0;
  fullOf = "trigger";
  failure = undefined;
  there = new Set();
  isLookBroken = isOutranked = isHanging = false;
  openSessions = ["1"];
  done = [];
  tries = 0;
});
afterEach(() => {
  for (const queue of queues.splice(0)) queue.stop();
  vi.useRealTimers();
});

function open(config: object, prefetch = 64): TriggerQueue {
  const queue = new TriggerQueue({
    trigger: Trigger.parse({ name: "t", run: ["/bin/true"], ...config }),
    prefetch,
    handle: () => Promise.reject(new Error("not reached")),
    handleQueued: ({ properties: { messageId = "" } }, position) => {
      if (position !== "now")
        return Promise.resolve(void done.push(`${messageId} by ${position.overtakenBy}`));
      tries += 1;
      if (isHanging) return new Promise(() => undefined);
      if (failure !== undefined) return Promise.reject(failure);
      if (there.has(messageId)) return Promise.resolve(void done.push(`${messageId} found`));
      if (free === 0) return Promise.reject(noPermitYet("t", fullOf));
      free -= 1;
      return Promise.resolve(void done.push(messageId));
    },
    jobsThere: () =>
      isHanging
        ? new Promise(() => undefined)
        : isLookBroken
          ? Promise.reject(new Error("no look"))
          : Promise.resolve(there),
    putBack: ({ properties }) => Promise.resolve(void done.push(`${properties.messageId ?? ""} back`)),
    isOutranked: () => isOutranked,
    openSessions: () => Promise.resolve(openSessions),
    log: pino({ level: "silent" }),
  });
  queues.push(queue);
  return queue;
}

/** Messages named by their order; resolves to `acked` or what was thrown. */
function join(
  queue: TriggerQueue,
  name: string,
  concurrencyKey = "d",
  order = `0-${name}`,
  cameBack?: MentoError,
): Promise<unknown> {
  const received: ReceivedMessage = {
    body: Buffer.from("{}"),
    properties: { messageId: name },
    isFromEvents: false,
    routingKey: "",
    receivedAt: new Date(),
    dataCheck: undefined,
    onlyTrigger: "t",
    queuedFor: [],
    queuedPosition: { concurrencyKey, order, session: "1", beamline: "p11" },
    cameBack,
    copyFor: () => ({ body: Buffer.from(""), properties: { messageId: name } }),
    isRedelivered: false,
    answer: () => Promise.resolve(),
  };
  return queue.join(received).then(
    () => "acked",
    (error: unknown) => error,
  );
}

async function stateOf(work: Promise<unknown>): Promise<unknown> {
  let state: unknown = "pending";
  void work.then((value) => (state = value));
  await vi.advanceTimersByTimeAsync(0);
  return state;
}

describe("a trigger's queue", () => {
  it("gives turns in the order of the messages, as permits become free", async () => {
    const queue = open({ concurrency: 1 });
    const works = ["b", "a", "c"].map((name) => join(queue, name));
    await vi.advanceTimersByTimeAsync(5_000);
    expect(done).toEqual([]);
    for (const name of ["a", "b", "c"]) {
      free = 1;
      queue.wake();
      await vi.advanceTimersByTimeAsync(0);
      expect(done.at(-1)).toBe(name);
    }
    expect(await Promise.all(works)).toEqual(["acked", "acked", "acked"]);
  });

  it("finds a free permit by itself, and looks about once a second, whatever number waits", async () => {
    const queue = open({ concurrency: 1 });
    for (let number = 0; number < 50; number++) void join(queue, `m${100 + number}`);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(tries).toBeLessThan(15);
    free = 1;
    await vi.advanceTimersByTimeAsync(1_000);
    expect(done).toEqual(["m100"]);
  });

  it("runs the newest, and tells the others by which they were overtaken", async () => {
    const queue = open({ latest: true });
    const works = ["a", "c", "b", "d"].map((name) => join(queue, name));
    expect(await stateOf(works[0] ?? Promise.resolve())).toBe("acked");
    // The first was being tried when the others came.
    expect(done.sort()).toEqual(["a by d", "b by c", "c by d"]);
    free = 1;
    await vi.advanceTimersByTimeAsync(1_000);
    expect(done.at(-1)).toBe("d");
    expect(await Promise.all(works)).toEqual(["acked", "acked", "acked", "acked"]);
  });

  it("does not call overtaken what was submitted before", async () => {
    const queue = open({ latest: true });
    there.add("a");
    // The order's end is the job's id.
    isLookBroken = true;
    const work = join(queue, "b");
    void join(queue, "a");
    await vi.advanceTimersByTimeAsync(1_000);
    expect(done).toEqual([]);
    isLookBroken = false;
    await vi.advanceTimersByTimeAsync(2_000);
    expect(done).toEqual(["a found"]);
    expect(await stateOf(work)).toBe("pending");
  });

  it("keeps concurrency keys apart", async () => {
    const queue = open({ latest: true, key: "{{ detector }}" });
    void join(queue, "a", "eiger");
    void join(queue, "b", "lambda");
    free = 2;
    await vi.advanceTimersByTimeAsync(1_000);
    expect(done.sort()).toEqual(["a", "b"]);
  });

  it("that holds a message twice lets the second go", async () => {
    const queue = open({ concurrency: 1 });
    const works = [join(queue, "a"), join(queue, "a", "d", "1-a")];
    expect(await stateOf(works[1] ?? Promise.resolve())).toBe("acked");
    free = 2;
    await vi.advanceTimersByTimeAsync(1_000);
    expect(done).toEqual(["a"]);
  });

  it("lets a message that cannot work go its way, and keeps those that wait for a node that is away", async () => {
    const queue = open({ concurrency: 1 });
    failure = new Unavailable({ code: "ssh-unreachable", message: "away", hint: "" });
    const work = join(queue, "a");
    expect(await stateOf(work)).toBe("pending");
    failure = new Rejected({ code: "submit-refused", message: "no", hint: "" });
    await vi.advanceTimersByTimeAsync(2_000);
    expect(await stateOf(work)).toBe(failure);
    failure = new BrokerUnavailable({ code: "broker-lost", message: "broken", hint: "" });
    expect(await stateOf(join(queue, "b"))).toBe(failure);
  });

  it("gives way to a higher priority while it is the session that is full", async () => {
    const queue = open({ concurrency: { perSession: 1 } });
    fullOf = "session";
    void join(queue, "a");
    await vi.advanceTimersByTimeAsync(0);
    expect(queue.waitsForSession("1")).toBe(true);
    expect(queue.waitsForSession("2")).toBe(false);
    isOutranked = true;
    free = 1;
    await vi.advanceTimersByTimeAsync(5_000);
    expect(done).toEqual([]);
    isOutranked = false;
    await vi.advanceTimersByTimeAsync(1_000);
    expect(done).toEqual(["a"]);
    expect(queue.waitsForSession("1")).toBe(false);
  });

  it("holds nothing for as long as RabbitMQ would take it back", async () => {
    const queue = open({ concurrency: 1 });
    const works = ["a", "b"].map((name) => join(queue, name));
    await vi.advanceTimersByTimeAsync(14 * 60_000);
    expect(done).toEqual([]);
    await vi.advanceTimersByTimeAsync(2 * 60_000);
    expect(done.sort()).toEqual(["a back", "b back"]);
    expect(await Promise.all(works)).toEqual(["acked", "acked"]);
  });

  it("puts back what has only waited in workers that ended, and gives up none", async () => {
    const queue = open({ concurrency: 1 });
    const cameBack = new Deferred({
      code: "worker-ended",
      message: "",
      hint: "",
      giveUpAfterSeconds: Infinity,
    });
    const works = ["a", "b"].map((name) => join(queue, name, "d", `0-${name}`, cameBack));
    await vi.advanceTimersByTimeAsync(2_000);
    expect(done.sort()).toEqual(["a back", "b back"]);
    expect(await Promise.all(works)).toEqual(["acked", "acked"]);
  });

  it("lets others be seen when all that it may hold wait, its last ones first, and else nobody", async () => {
    const queue = open({ concurrency: 1 }, 4);
    for (const name of ["a", "b", "c", "d"]) void join(queue, name);
    await vi.advanceTimersByTimeAsync(3_000);
    expect(done).toEqual([]);
    openSessions = ["1", "2"];
    await vi.advanceTimersByTimeAsync(1_000);
    expect(done[0]).toBe("d back");
  });

  it.each([
    ["overtaken ones that are looked for", { latest: true }, () => "d"],
    [
      "ones of many keys that are tried",
      { concurrency: 1, key: "{{ path.name }}" },
      (at: number) => `d${at}`,
    ],
  ])("lets others be seen though a node does not answer for %s", async (_, config, keyOf) => {
    isHanging = true;
    openSessions = ["1", "2"];
    const queue = open(config, 64);
    for (let at = 0; at < 64; at++) void join(queue, String(at).padStart(3, "0"), keyOf(at));
    await vi.advanceTimersByTimeAsync(1_000);
    expect(done.filter((one) => one.endsWith(" back")).length).toBeGreaterThanOrEqual(31);
    expect(tries).toBeLessThanOrEqual(32);
  });

  it("goes on with those that wait behind the ones in hand", async () => {
    free = 100;
    const queue = open({ concurrency: 1, key: "{{ path.name }}" }, 128);
    const works = Array.from({ length: 60 }, (_, at) => join(queue, String(at), `d${at}`));
    await Promise.all(works);
    expect(done.length).toBe(60);
  });

  it("lets the next session's be seen when all that it may hold are of one that is over", async () => {
    const queue = open({ concurrency: 1 }, 2);
    openSessions = [];
    for (const name of ["a", "b"]) void join(queue, name);
    await vi.advanceTimersByTimeAsync(3_000);
    expect(done).toEqual([]);
    openSessions = ["2"];
    await vi.advanceTimersByTimeAsync(1_000);
    expect(done[0]).toBe("b back");
  });

  it("leaves to the broker what waits when it stops, and finishes what is under way", async () => {
    const queue = open({ concurrency: 1 });
    const works = ["a", "b"].map((name) => join(queue, name));
    await vi.advanceTimersByTimeAsync(0);
    queue.stop();
    const ends = await Promise.all(works);
    for (const end of ends) expect(end).toBeInstanceOf(LeftWaiting);
    expect(await join(queue, "c")).toBeInstanceOf(LeftWaiting);
    expect(vi.getTimerCount()).toBe(0);
  });
});
