import { describe, expect, it } from "vitest";
import { FAULT_KINDS, scheduleOf } from "../../chaos/schedule.mjs";

const options = { seed: 5, messages: 300, workers: 3, rate: 3, faults: FAULT_KINDS };

describe("the schedule of a chaos run", () => {
  it("is the same for the same seed, and another for another", () => {
    expect(scheduleOf(options)).toEqual(scheduleOf(options));
    expect(scheduleOf({ ...options, seed: 6 })).not.toEqual(scheduleOf(options));
  });

  it("has a fault a second for as long as messages are published, and every kind among any 46", () => {
    const { faults, messages } = scheduleOf(options);
    expect(faults.map(({ at }) => at)).toEqual(Array.from({ length: 100 }, (_, index) => 1000 * (index + 1)));
    expect(messages.at(-1)?.at).toBeLessThanOrEqual(100_000);
    expect(new Set(faults.slice(10, 56).map(({ kind }) => kind))).toEqual(new Set(FAULT_KINDS));
  });

  it("has only the faults that are asked for", () => {
    const { faults } = scheduleOf({ ...options, faults: ["stall", "delay"] });
    expect(new Set(faults.map(({ kind }) => kind))).toEqual(new Set(["stall", "delay"]));
    expect(scheduleOf({ ...options, faults: [] }).faults).toEqual([]);
  });
});
