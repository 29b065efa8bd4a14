import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseDuration } from "../../src/facility/duration.ts";

describe("parseDuration", () => {
  it.each([
    ["8h", 8 * 3600],
    ["20m", 1200],
    ["90s", 90],
    ["01:30:00", 5400],
    ["00:00:45", 45],
    ["2-00:00:00", 2 * 24 * 3600],
    ["1-02:03:04", 93_784],
    ["365-00:00:00", 365 * 24 * 3600],
  ])("takes %s for %d seconds", (text, seconds) => {
    expect(parseDuration(text)).toBe(seconds);
  });

  it.each([
    "",
    "8",
    "8 h",
    "8H",
    "h",
    "1.5h",
    "-1h",
    "0s",
    "00:00:00",
    "10:00",
    "00:60:00",
    "366-00:00:00",
    "1d",
  ])("does not take %j", (text) => {
    expect(parseDuration(text)).toBeUndefined();
  });

  it("gives whole positive seconds or nothing, whatever the text", () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[0-9smh:-]{0,12}$/), (text) => {
        const seconds = parseDuration(text);
        expect(seconds === undefined || (Number.isInteger(seconds) && seconds > 0)).toBe(true);
      }),
    );
  });
});
