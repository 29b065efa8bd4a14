import { expect, it } from "vitest";
import { localTime } from "../../src/time/local.ts";
import { outcomeLine } from "../../src/commands/cancel.ts";
import type { CancelOutcome } from "../../src/messages/job-cancel.ts";

const job = "k3f7a2kq5zcb6wd4h2m3n7p5qr";
const plain: CancelOutcome = {
  ...{ job, id: job, outcome: "gone", end: null, cancelledBy: null, error: null },
};
const end = {
  state: "completed",
  code: 0,
  signal: null,
  reason: null,
  at: "2026-11-22T02:32:33.421Z",
} as const;

it.each<[string, CancelOutcome]>([
  [`${job}  cancelled`, { ...plain, outcome: "cancelled", cancelledBy: { who: "me", reason: null } }],
  [`4711 (${job})  cancelled`, { ...plain, job: "4711", outcome: "cancelled" }],
  [`${job}  gone: completed at ${localTime("2026-11-22T02:32:33Z")}`, { ...plain, end }],
  [
    `${job}  gone: failed (exit code 7) at ${localTime("2026-11-22T02:32:33Z")}`,
    { ...plain, end: { ...end, state: "failed", code: 7, reason: "exit-code" } },
  ],
  [
    `${job}  gone: failed (timeout)`,
    { ...plain, end: { ...end, state: "failed", code: null, reason: "timeout", at: null } },
  ],
  [
    `${job}  gone: cancelled by daq: no beam at ${localTime("2026-11-22T02:32:33Z")}`,
    { ...plain, end: { ...end, state: "cancelled" }, cancelledBy: { who: "daq", reason: "no\nbeam" } },
  ],
  [`${job}  gone: it was just ending`, plain],
  [
    `4711  unknown: It is not there. Look elsewhere.`,
    {
      ...{ ...plain, job: "4711", id: null, outcome: "unknown" },
      error: { code: "job-unknown", message: "It is not there.", hint: "Look elsewhere." },
    },
  ],
  [
    `${job}  failed: Slurm is away. Try again. [slurm-unavailable]`,
    {
      ...{ ...plain, outcome: "failed" },
      error: { code: "slurm-unavailable", message: "Slurm is away.", hint: "Try again." },
    },
  ],
])("%s", (line, outcome) => {
  expect(outcomeLine(outcome)).toBe(line);
});
