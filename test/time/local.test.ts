import { afterEach, expect, it } from "vitest";
import { localTime } from "../../src/time/local.ts";

const here = process.env["TZ"];
afterEach(() => {
  if (here === undefined) delete process.env["TZ"];
  else process.env["TZ"] = here;
});

it.each([
  ["UTC", "2026-11-22T02:32:33.999Z", "2026-11-22T02:32:33+00:00"],
  ["Europe/Berlin", "2026-11-22T02:32:33Z", "2026-11-22T03:32:33+01:00"],
  ["Europe/Berlin", "2026-07-22T22:32:33Z", "2026-07-23T00:32:33+02:00"],
  ["America/St_Johns", "2026-11-22T02:32:33Z", "2026-11-21T23:02:33-03:30"],
  ["Asia/Kolkata", "2026-12-31T20:00:00Z", "2027-01-01T01:30:00+05:30"],
  ["UTC", "nonsense", "-".padEnd(25)],
])("a time in %s is said with its date and offset there: %s", (zone, time, expected) => {
  process.env["TZ"] = zone;
  expect(localTime(time)).toBe(expected);
});
