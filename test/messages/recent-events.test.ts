import fc from "fast-check";
import { expect, it } from "vitest";
import { RecentEvents } from "../../src/messages/recent-events.ts";

const event = fc.record({ source: fc.constantFrom("/a", "/b"), id: fc.nat(9).map(String) });

it("takes an id that was used in two sessions for two jobs", () => {
  const events = new RecentEvents();
  const of = (directory: string) => ({ source: "/mento/a", id: "x/completed", data: { job: { directory } } });
  expect([of("/1/x"), of("/2/x"), of("/1/x")].map((one) => events.add(one))).toEqual([true, true, false]);
});

it("each event is new once, as long as it is remembered", () => {
  fc.assert(
    fc.property(fc.array(event), (events) => {
      const recent = new RecentEvents(20);
      const given = events.filter((one) => recent.add(one)).map(({ source, id }) => source + id);
      expect(given).toEqual([...new Set(events.map(({ source, id }) => source + id))]);
    }),
  );
});

it("only so many are remembered: the oldest is forgotten", () => {
  const recent = new RecentEvents(3);
  const isNew = (id: string) => recent.add({ source: "/a", id });
  expect(["1", "2", "3", "1", "4", "2", "1", "2"].map(isNew)).toEqual([
    ...[true, true, true, false, true, false, true, true],
  ]);
});

it("the same id from another source is another event", () => {
  const recent = new RecentEvents();
  expect(recent.add({ source: "a", id: "b c" })).toBe(true);
  expect(recent.add({ source: "a b", id: "c" })).toBe(true);
});
