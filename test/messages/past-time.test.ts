import fc from "fast-check";
import { expect, it } from "vitest";
import { parsePastTime } from "../../src/messages/past-time.ts";

const now = new Date("2026-11-21T20:15:00Z");

it("a duration is that long before now", () => {
  const seconds = { s: 1, m: 60, h: 3600, d: 86_400 };
  fc.assert(
    fc.property(
      fc.nat(999_999),
      fc.constantFrom(...(Object.keys(seconds) as (keyof typeof seconds)[])),
      (amount, unit) => {
        const time = parsePastTime(`${amount}${unit}`, now);
        expect(now.getTime() - (time?.getTime() ?? NaN)).toBe(amount * seconds[unit] * 1000);
      },
    ),
  );
});

it("an ISO time is itself; one without a zone is of this host's", () => {
  const any = fc.date({ min: new Date(0), max: new Date("2100-01-01"), noInvalidDate: true });
  fc.assert(
    fc.property(any, (date) => {
      expect(parsePastTime(date.toISOString(), now)).toEqual(date);
    }),
  );
  expect(parsePastTime("2026-11-21", now)).toEqual(new Date(2026, 10, 21));
  expect(parsePastTime("2026-11-21T20:15:00+01:00", now)).toEqual(new Date("2026-11-21T19:15:00Z"));
});

it("any other text is no time", () => {
  for (const text of ["", "2", "h", "2 h", "-2h", "1.5h", "2w", "soon", "20:15", "2026-13-01", "9999999s"]) {
    expect(parsePastTime(text, now), text).toBeUndefined();
  }
  fc.assert(
    fc.property(fc.string(), (text) => {
      const time = parsePastTime(text, now);
      expect(time === undefined || !Number.isNaN(time.getTime())).toBe(true);
    }),
  );
});
