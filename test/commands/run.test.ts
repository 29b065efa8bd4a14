import { expect, it } from "vitest";
import { exitStatusOfJob } from "../../src/commands/run.ts";
import type { EndedJob } from "../../src/library/job.ts";

it.each<[string, EndedJob["state"], EndedJob["exit"], number]>([
  ["a program that ended with 0", "completed", { code: 0, signal: null, reason: null }, 0],
  ["a program that ended with 42", "failed", { code: 42, signal: null, reason: "exit-code" }, 42],
  ["a program that a signal ended", "failed", { code: null, signal: "SIGKILL", reason: "signal" }, 137],
  ["a job that was cancelled before it ran", "cancelled", { code: 0, signal: null, reason: null }, 1],
  [
    "a program that saved its work when its time was over",
    "failed",
    { code: 0, signal: null, reason: "timeout" },
    1,
  ],
  [
    "a program whose child was killed for memory",
    "failed",
    { code: 0, signal: null, reason: "out-of-memory" },
    1,
  ],
  ["a job that is lost", "lost", { code: null, signal: null, reason: null }, 1],
])("mento run ends as its job, for %s", (_, state, exit, status) => {
  expect(exitStatusOfJob({ state, exit })).toBe(status);
});
