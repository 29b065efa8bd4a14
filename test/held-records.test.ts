import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { HeldRecords, MAX_HELD } from "../src/held-records.ts";

let widened: number[];
let handedOn: number[];
let records: HeldRecords;

beforeEach(() => {
  vi.useFakeTimers();
  [widened, handedOn] = [[], []];
  records = new HeldRecords({
    waiting: () => Promise.resolve(30),
    handOn: (count) => handedOn.push(count),
    widen: (prefetch) => widened.push(prefetch),
    lost: new Promise(() => undefined),
  });
});
afterEach(() => vi.useRealTimers());

const take = (count: number, bytes: number) => Array.from({ length: count }, () => records.take(bytes));

it("more records are asked for as long as they are small, up to 5,000", async () => {
  take(MAX_HELD, 1_000);
  await vi.advanceTimersByTimeAsync(0);
  expect([records.prefetch, widened.at(-1), widened.length]).toEqual([MAX_HELD, MAX_HELD, 19]);
  expect(handedOn).toEqual([30]);
});

it("of large ones no more are asked for than have 32 MiB, and they take turns with those that wait", async () => {
  const letGo = take(250, 200_000);
  await vi.advanceTimersByTimeAsync(0);
  expect([widened, handedOn]).toEqual([[], [30]]);
  for (const one of letGo.slice(100)) {
    one();
    one();
  }
  await vi.advanceTimersByTimeAsync(5_000);
  expect(handedOn).toEqual([30]);
  // As many as before, of few bytes.
  take(150, 1_000);
  expect(widened).toEqual([500]);
});
