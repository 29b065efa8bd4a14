import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { backoff } from "../../src/time/backoff.ts";
import { within } from "../../src/time/within.ts";

it("pauses double up to the longest, with up to a fifth more", () => {
  const pauses = Array.from({ length: 2000 }, (_, attempt) =>
    backoff(attempt, { first: 100, longest: 1000 }),
  );
  for (const [attempt, least] of [100, 200, 400, 800, 1000, 1000].entries()) {
    expect(pauses[attempt]).toBeGreaterThanOrEqual(least);
    expect(pauses[attempt]).toBeLessThanOrEqual(least * 1.2);
  }
  expect(new Set(pauses).size).toBeGreaterThan(1000);
  expect(Math.max(...pauses)).toBeLessThanOrEqual(1200);
});

it("work is waited for no longer than that, and its failure is its own", async () => {
  expect(await within(10_000, Promise.resolve("done"))).toEqual({ value: "done" });
  expect(await within(10, sleep(10_000, "late", { ref: false }))).toEqual({ isLate: true });
  await expect(within(10_000, Promise.reject(new Error("broken")))).rejects.toThrow("broken");
});
