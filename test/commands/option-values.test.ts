import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { pacer, rateOption, timeOption } from "../../src/commands/option-values.ts";

const now = new Date("2026-11-22T12:00:00.000Z");

describe("--since and --until", () => {
  it.each([
    ["90s", "2026-11-22T11:58:30.000Z"],
    ["30m", "2026-11-22T11:30:00.000Z"],
    ["2h", "2026-11-22T10:00:00.000Z"],
    ["3d", "2026-11-19T12:00:00.000Z"],
    ["0s", "2026-11-22T12:00:00.000Z"],
    ["2026-11-21T20:15:00Z", "2026-11-21T20:15:00.000Z"],
    ["2026-11-21T20:15:00.5+01:00", "2026-11-21T19:15:00.500Z"],
  ])("%s is %s", (text, iso) => {
    expect(timeOption(text, now).toISOString()).toBe(iso);
  });

  it("without a zone is of this host's", () => {
    expect(timeOption("2026-11-21T20:15:00").getHours()).toBe(20);
    expect(timeOption("2026-11-21").getHours()).toBe(0);
    expect(timeOption("2026-11-21").getDate()).toBe(21);
  });

  it.each([
    "",
    "2",
    "2 h",
    "2x",
    "-2h",
    "1.5h",
    "2H",
    "yesterday",
    "2026-02-31",
    "2026-11-21T25:00:00Z",
    "20261121",
  ])("%j is refused", (text) => {
    expect(() => timeOption(text, now)).toThrow("It looks like");
  });

  it("gives a time or refuses, whatever the text", () => {
    const text = fc.oneof(fc.string(), fc.stringMatching(/^[0-9smhdTZ:.+-]{0,24}$/));
    fc.assert(
      fc.property(text, (one) => {
        try {
          expect(timeOption(one, now).getTime()).not.toBeNaN();
        } catch (error) {
          expect(String(error)).toContain("It looks like");
        }
      }),
    );
  });
});

describe("--rate", () => {
  it.each([
    ["5/s", 5],
    ["5", 5],
    ["0.5/s", 0.5],
    ["1000/s", 1000],
  ])("%s is %d a second", (text, rate) => {
    expect(rateOption(text)).toBe(rate);
  });

  it.each(["", "0", "0/s", "-1/s", "1e3", "5/m", "1001", "0.01/s", "NaN", "/s"])("%j is refused", (text) => {
    expect(() => rateOption(text)).toThrow("It looks like");
  });

  it("gives a number within its bounds or refuses, whatever the text", () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[0-9./sem-]{0,9}$/), (text) => {
        try {
          const rate = rateOption(text);
          expect(rate >= 0.1 && rate <= 1000).toBe(true);
        } catch (error) {
          expect(String(error)).toContain("It looks like");
        }
      }),
    );
  });

  it("is kept: the first goes at once, each other not before its time", async () => {
    const pace = pacer(20);
    const start = performance.now();
    for (let message = 0; message < 5; message++) await pace();
    expect(performance.now() - start).toBeGreaterThanOrEqual(4 * 50 - 20);
  });
});
