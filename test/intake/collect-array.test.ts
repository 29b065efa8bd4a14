import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Session } from "../../src/beamtime/session.ts";
import { ArrayCollector, type ArrayDeps } from "../../src/intake/collect-array.ts";
import { Deferred, Unavailable } from "../../src/errors.ts";
import type { SubmitTarget, SubmittedJob } from "../../src/submission/method.ts";
import type { JobPlan } from "../../src/triggers/plan.ts";
import { Trigger } from "../../src/triggers/trigger-config.ts";

const session = (id: string) => ({ id }) as Session;
const target = {} as SubmitTarget;
const trigger = (name: string, array: object) => Trigger.parse({ name, array, run: ["/bin/true"] });
const xpcs = trigger("xpcs", { size: 3, window: 2 });
const planOf = (jobId: string, of = xpcs, givenBytes = 100) =>
  ({ jobId, trigger: of, argv: of.run, givenBytes }) as unknown as JobPlan;
const options = { dataTimeout: 1, dataCheck: undefined, received: new Date(0) };

const MOST_WAITING = 6;

let arrays: string[][];
let turns: number;
let refused: Error | undefined;
let isOnlySession: boolean;
/** Resolves when submits may go on. */
let free: Promise<void>;
let collector: ArrayCollector;

beforeEach(() => {
  vi.useFakeTimers();
  arrays = [];
  turns = 0;
  refused = undefined;
  isOnlySession = false;
  free = Promise.resolve();
  const deps: ArrayDeps = {
    enter: async () => {
      turns += 1;
      await free;
      return () => (turns -= 1);
    },
    isOnlySession: () => Promise.resolve(isOnlySession),
    targetFor: () => (refused === undefined ? Promise.resolve(target) : Promise.reject(refused)),
    submitArray: (members) => {
      const ids = members.map(({ plan }) => plan.jobId);
      arrays.push(ids);
      const job = (id: string) => ({ directory: id }) as SubmittedJob;
      return Promise.resolve(
        ids.map((id) =>
          id === "bad"
            ? { status: "rejected", reason: new Error(id) }
            : { status: "fulfilled", value: job(id) },
        ),
      );
    },
  };
  collector = new ArrayCollector(deps, MOST_WAITING);
});
afterEach(() => vi.useRealTimers());

const collect = (id: string, of = xpcs, at = session("1"), givenBytes = 100) =>
  collector.collect(at, planOf(id, of, givenBytes), options).then(
    ({ job }) => job.directory,
    (error: unknown) => (error as Error).message,
  );

describe("jobs of one trigger and session", () => {
  it("wait, without a turn, until the window has passed since the first", async () => {
    const first = collect("a");
    await vi.advanceTimersByTimeAsync(1500);
    const second = collect("b");
    await vi.advanceTimersByTimeAsync(499);
    expect([arrays, turns]).toEqual([[], 0]);
    await vi.advanceTimersByTimeAsync(1);
    expect(arrays).toEqual([["a", "b"]]);
    expect(await Promise.all([first, second])).toEqual(["a", "b"]);
    expect(turns).toBe(0);
  });

  it("are submitted as soon as there are enough; the next begin anew", async () => {
    const all = ["a", "b", "c", "d"].map((id) => collect(id));
    await vi.advanceTimersByTimeAsync(0);
    expect(arrays).toEqual([["a", "b", "c"]]);
    await vi.advanceTimersByTimeAsync(2000);
    expect(arrays).toEqual([["a", "b", "c"], ["d"]]);
    expect(await Promise.all(all)).toEqual(["a", "b", "c", "d"]);
  });

  it("each have their own answer", async () => {
    const all = ["a", "bad", "c"].map((id) => collect(id));
    expect(await Promise.all(all)).toEqual(["a", "bad", "c"]);
  });

  it("all meet what keeps everybody from work", async () => {
    refused = new Deferred({ code: "no-online-resources", message: "none", hint: "", giveUpAfterSeconds: 1 });
    const all = ["a", "b", "c"].map((id) => collect(id));
    expect(await Promise.all(all)).toEqual(["none", "none", "none"]);
    expect([arrays, turns]).toEqual([[], 0]);
  });
});

it("other triggers' and other sessions' jobs become arrays of their own", async () => {
  const other = trigger("saxs", { size: 3, window: 1 });
  void collect("a");
  void collect("b", other);
  void collect("c", xpcs, session("2"));
  await vi.advanceTimersByTimeAsync(2000);
  expect(arrays).toEqual([["b"], ["a"], ["c"]]);
});

it("what messages give the jobs of one array has 8 MiB at most", async () => {
  const bytes = [3, 3, 3, 4, 4].map((mebibytes) => mebibytes * 1024 * 1024);
  bytes.forEach((given, at) => void collect(`${at}`, xpcs, session("1"), given));
  await vi.advanceTimersByTimeAsync(2000);
  expect(arrays).toEqual([["0", "1"], ["2", "3"], ["4"]]);
});

it("what messages give all jobs that are held has 64 MiB at most: larger ones come again, small ones are taken", async () => {
  const slow = trigger("slow", { size: 40, window: 300 });
  free = new Promise(() => undefined);
  isOnlySession = true;
  for (let at = 0; at < 16; at++) void collect(`${at}`, slow, session("1"), 4 * 1024 * 1024);
  expect(await collect("more", slow, session("1"), 4 * 1024 * 1024)).toContain("Many messages of 1 wait");
  void collect("small", slow, session("1"), 1000);
  await vi.advanceTimersByTimeAsync(0);
  expect(turns).toBe(MOST_WAITING + 2);
});

describe("messages of many sessions", () => {
  it("do not fill the worker while they wait: the oldest array goes before its time", async () => {
    const slow = trigger("slow", { size: 4, window: 300 });
    for (const id of ["a", "b", "c", "d", "e"]) void collect(id, slow, session(id));
    await vi.advanceTimersByTimeAsync(0);
    expect(arrays).toEqual([]);
    for (const id of ["f", "g"]) void collect(id, slow, session(id));
    await vi.advanceTimersByTimeAsync(0);
    expect(arrays).toEqual([["a"], ["b"]]);
  });

  it("have their share each, of those being submitted too: a flood comes again", async () => {
    const isDone: { now?: () => void } = {};
    free = new Promise((resolve) => (isDone.now = resolve));
    const ids = Array.from({ length: 2 * MOST_WAITING }, (_, at) => `a${at}`);
    const flood = ids.map((id) => collect(id));
    await vi.advanceTimersByTimeAsync(0);
    expect(await collect("more")).toContain("Many messages of 1 wait already");
    const others = ["b0", "b1", "b2", "b3", "b4", "b5"].map((id) => collect(id, xpcs, session("2")));
    await vi.advanceTimersByTimeAsync(0);
    expect(await collect("b6", xpcs, session("2"))).toContain("Many messages of 2 wait already");
    isDone.now?.();
    expect(await Promise.all([...flood, ...others])).toEqual([...ids, "b0", "b1", "b2", "b3", "b4", "b5"]);
    void collect("more");
    await vi.advanceTimersByTimeAsync(2000);
    expect(arrays.at(-1)).toEqual(["more"]);
  });

  it("of which there is one alone has all the room", async () => {
    isOnlySession = true;
    free = new Promise(() => undefined);
    for (let at = 0; at < 3 * MOST_WAITING; at++) void collect(`${at}`);
    await vi.advanceTimersByTimeAsync(0);
    expect(turns).toBe(MOST_WAITING);
  });
});

it("a worker that stops submits at once, also what comes after", async () => {
  const first = collect("a");
  collector.flush();
  const second = collect("b");
  expect(await Promise.all([first, second])).toEqual(["a", "b"]);
  expect(arrays).toEqual([["a"], ["b"]]);
});

it("without its broker nothing is submitted: the messages are delivered again", async () => {
  const first = collect("a");
  collector.refuse(new Unavailable({ code: "broker-lost", message: "lost", hint: "" }));
  expect([await first, await collect("b")]).toEqual(["lost", "lost"]);
  await vi.advanceTimersByTimeAsync(5000);
  expect(arrays).toEqual([]);
});
