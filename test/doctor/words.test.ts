import { expect, it } from "vitest";
import { count, duration, isoTime, localTime } from "../../src/doctor/words.ts";

it.each([
  [5, "5 s"],
  [119, "119 s"],
  [120, "2 min"],
  [3600, "1 h 0 min"],
  [28_740, "7 h 59 min"],
  [183_600, "2 d 3 h"],
])("%d seconds are %s", (seconds, words) => {
  expect(duration(seconds)).toBe(words);
});

it("counts", () => {
  expect([count(0, "job"), count(1, "job"), count(2, "job")]).toEqual(["0 jobs", "1 job", "2 jobs"]);
});

it("writes a time in this host's zone", () => {
  const at = new Date(2026, 10, 21, 23, 15);
  expect(localTime(at.toISOString())).toBe("2026-11-21 23:15");
});

it("a time that Slurm says is null if it is none", () => {
  expect(isoTime(1_800_000_000)).toBe("2027-01-15T08:00:00.000Z");
  for (const odd of [Infinity, NaN, -1, 0, 1e15]) expect(isoTime(odd)).toBeNull();
});
