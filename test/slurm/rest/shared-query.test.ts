import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { SharedQuery } from "../../../src/slurm/rest/shared-query.ts";

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

/** Questions that are answered by hand. */
function looking() {
  const asked: { say: (answer: string) => void; fail: (why: Error) => void }[] = [];
  const look = new SharedQuery(
    () => new Promise<string>((say, fail) => asked.push({ say, fail: (why) => fail(why) })),
  );
  const get = (notBefore = 0) => look.get(notBefore).catch((error: unknown) => (error as Error).message);
  return { look, asked, get };
}

it("asks once for any number of callers, and again after three seconds", async () => {
  const { asked, get } = looking();
  const many = Promise.all(Array.from({ length: 1000 }, () => get()));
  asked[0]?.say("one");
  expect(new Set(await many)).toEqual(new Set(["one"]));
  vi.advanceTimersByTime(2900);
  expect(await get()).toBe("one");
  vi.advanceTimersByTime(200);
  const next = get();
  asked[1]?.say("two");
  expect(await next).toBe("two");
  expect(asked).toHaveLength(2);
});

it("shares a failure for three seconds", async () => {
  const { asked, get } = looking();
  const many = Promise.all(Array.from({ length: 1000 }, () => get()));
  asked[0]?.fail(new Error("away"));
  expect(new Set(await many)).toEqual(new Set(["away"]));
  vi.advanceTimersByTime(2900);
  expect(await get()).toBe("away");
  expect(asked).toHaveLength(1);
});

it("that works again is good for all who ask while one does", async () => {
  const { asked, get } = looking();
  const first = get();
  asked[0]?.fail(new Error("away"));
  await first;
  vi.advanceTimersByTime(3100);
  const many = Promise.all(Array.from({ length: 60 }, () => get()));
  vi.advanceTimersByTime(1500);
  asked[1]?.say("back");
  expect(new Set(await many)).toEqual(new Set(["back"]));
  expect(asked).toHaveLength(2);
});

it("while one asks again after a failure, the others are told that failure, after two seconds of each look", async () => {
  const { asked, get } = looking();
  const first = get();
  asked[0]?.fail(new Error("hangs"));
  await first;
  vi.advanceTimersByTime(3100);
  const second = get();
  const third = get();
  vi.advanceTimersByTime(2000);
  expect(await third).toBe("hangs");
  expect(await get()).toBe("hangs");
  // Longer than an answer is good for: nobody else asks meanwhile.
  vi.advanceTimersByTime(20_000);
  expect(await get()).toBe("hangs");
  asked[1]?.say("back");
  expect(await second).toBe("back");
  expect(await get()).toBe("back");
  expect(asked).toHaveLength(2);
});

it("does not take an answer that was asked for too early", async () => {
  const { asked, get } = looking();
  const first = get();
  asked[0]?.say("one");
  await first;
  vi.advanceTimersByTime(10);
  const later = get(Date.now());
  asked[1]?.say("two");
  expect(await later).toBe("two");
});

it("knows of a failure that somebody else has met", async () => {
  const { look, asked, get } = looking();
  look.fail(new Error("away"));
  expect(await get()).toBe("away");
  expect(asked).toHaveLength(0);
});
