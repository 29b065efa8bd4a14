import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { ConfirmedOfLate } from "../../src/broker/confirmed-of-late.ts";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const message = (messageId: string, { queue = "q", body = "x" } = {}) => ({
  ...{ exchange: "", routingKey: queue, body: Buffer.from(body) },
  properties: { messageId },
});
const taken = (confirmed: ConfirmedOfLate) =>
  confirmed
    .take()
    .map(({ message: { routingKey, body, properties } }) => [
      properties.messageId,
      routingKey,
      body.toString(),
    ]);

it("what was confirmed more than 5 s before a link was lost is not at risk; how long it stays lost does not count", () => {
  const confirmed = new ConfirmedOfLate();
  confirmed.add(message("long-ago"));
  vi.advanceTimersByTime(5_001);
  confirmed.add(message("a"));
  vi.advanceTimersByTime(2_000);
  confirmed.add(message("b"));
  confirmed.forgetOld();
  vi.advanceTimersByTime(600_000);
  expect(taken(confirmed)).toEqual([
    ["a", "q", "x"],
    ["b", "q", "x"],
  ]);
  expect(taken(confirmed)).toEqual([]);
});

it("all are kept in their order, of one id too: ids are their producers'", () => {
  const confirmed = new ConfirmedOfLate();
  confirmed.add(message("job", { body: "old" }));
  confirmed.add(message("job", { queue: "other" }));
  confirmed.add(message("job", { body: "new" }));
  expect(taken(confirmed)).toEqual([
    ["job", "q", "old"],
    ["job", "other", "x"],
    ["job", "q", "new"],
  ]);
});

it("64 MiB are kept, the last ones; what was taken out does not count", () => {
  const confirmed = new ConfirmedOfLate();
  const large = "x".repeat(2 ** 20);
  for (let nth = 0; nth < 100; nth++) confirmed.add(message(`${nth}`, { body: large }));
  expect(taken(confirmed).map(([id]) => id)).toEqual(Array.from({ length: 64 }, (_, nth) => `${nth + 36}`));
  for (let nth = 0; nth < 65; nth++) confirmed.add(message(`${nth}`, { body: large }));
  expect(taken(confirmed)).toHaveLength(64);
});

it("a broker that stops again and again gets each three times in all", () => {
  const confirmed = new ConfirmedOfLate();
  confirmed.add(message("a"));
  for (const times of [1, 2]) {
    const [one] = confirmed.take();
    expect(one?.times).toBe(times);
    confirmed.add(message("a"), times + 1);
  }
  expect(confirmed.take()).toEqual([]);
});
