import { expect, it } from "vitest";
import { isSameTrouble } from "../../src/broker/intake.ts";

it("a submit that fails and is then looked for, in turns, is one trouble with one deadline", () => {
  expect(isSameTrouble("submit-not-now", "submit-in-flight")).toBe(true);
  expect(isSameTrouble("submit-in-flight", "submit-not-now")).toBe(true);
  expect(isSameTrouble("data-not-there", "data-not-there")).toBe(true);
  expect(isSameTrouble("no-session-open", "data-not-there")).toBe(false);
  expect(isSameTrouble(null, "data-not-there")).toBe(false);
});
