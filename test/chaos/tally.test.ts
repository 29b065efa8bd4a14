import { describe, expect, it } from "vitest";
import type { SeenEvent } from "../../chaos/observer.mjs";
import { violationsOf, type Witnesses } from "../../chaos/tally.mjs";

function event(state: string, more: { id?: string; slurmJobId?: string; code?: number } = {}): SeenEvent {
  return {
    id: more.id ?? `job-1/${state}`,
    type: `mento.job.${state}.v1`,
    time: "2026-04-04T10:00:00.000Z",
    data: {
      cause: { id: "message-1" },
      job: { id: "job-1", state },
      slurm: { jobId: more.slurmJobId ?? "4711" },
      times: {},
      exit: { code: more.code ?? 0 },
    },
  } as unknown as SeenEvent;
}

/** What is seen when all is well. */
const GOOD: Witnesses = {
  jobs: [{ id: "message-1", jobId: "job-1", state: "completed" }],
  slurmJobs: new Map([["4711", { comment: "mento:job-1", state: "COMPLETED" }]]),
  ledger: [{ jobId: "job-1", slurmJobId: "4711", starts: 1 }],
  events: [event("submitted"), event("started"), event("completed"), event("completed")],
  deadLetters: [],
  leftInQueues: { "mento.default.intake": 0 },
  mistakes: [],
};
const seenIn = (witnesses: Partial<Witnesses>) =>
  violationsOf({ ...GOOD, ...witnesses }).map(({ what }) => what);

describe("the tally of a chaos run", () => {
  it("finds nothing when each message has one job and one end, also if announced again", () => {
    expect(violationsOf(GOOD)).toEqual([]);
  });

  it("finds events of one id that are not one event, by their times too", () => {
    const later = { ...event("completed"), time: "2026-04-04T10:00:01.000Z" };
    expect(seenIn({ events: [...GOOD.events, later] })).toEqual([
      "events job-1/completed are not the same event",
    ]);
  });

  it("takes a message that came again when all had run, and no other that was ignored", () => {
    const ignored = (reason: string): SeenEvent => ({
      ...event("submitted"),
      type: "mento.message.ignored.v1",
      data: { cause: { id: "message-1" }, reason, reasons: [] } as unknown as SeenEvent["data"],
    });
    expect(seenIn({ events: [...GOOD.events, ignored("already-run")] })).toEqual([]);
    expect(seenIn({ events: [...GOOD.events, ignored("no-trigger")] })).toEqual(["mento.message.ignored.v1"]);
  });

  it("finds a job that was submitted twice, was never submitted, or ran twice", () => {
    const two = new Map([
      ...GOOD.slurmJobs,
      ["4712", { comment: "mento:job-1", state: "COMPLETED" }] as const,
    ]);
    expect(seenIn({ slurmJobs: two })).toEqual(["not exactly one job in Slurm"]);
    expect(seenIn({ slurmJobs: new Map() })).toContain("not exactly one job in Slurm");
    const again = [...GOOD.ledger, { jobId: "job-1", slurmJobId: "4712", starts: 1 }];
    expect(seenIn({ ledger: again })).toEqual(["the program did not run exactly once"]);
    const requeued = [{ jobId: "job-1", slurmJobId: "4711", starts: 2 }];
    expect(seenIn({ ledger: requeued })).toEqual(["the program did not run exactly once"]);
  });

  it("finds an end that is missing, wrong, or not the only one", () => {
    const begun = [event("submitted"), event("started")];
    expect(seenIn({ events: begun })).toEqual(["no event of its end"]);
    expect(seenIn({ events: [...begun, event("failed")] })).toEqual(["it did not end as completed"]);
    const both = [...begun, event("completed"), event("completed", { id: "job-1/completed/again" })];
    expect(seenIn({ events: both })).toEqual(["more than one end"]);
  });

  it("takes a job that Slurm failed to launch if that was announced, and if it is but one", () => {
    const failed = event("failed");
    const unlaunched = { ...failed, data: { ...failed.data, exit: { code: null, reason: "launch-failed" } } };
    const events = [event("submitted"), unlaunched] as SeenEvent[];
    expect(seenIn({ events, ledger: [] })).toEqual([]);
    expect(seenIn({ events })).toContain("no event job.started");
    expect(seenIn({ events: [event("submitted"), failed], ledger: [] })).toContain("no event job.started");
  });

  it("finds events of one id that differ", () => {
    const events = [...GOOD.events, event("completed", { code: 1 })];
    expect(seenIn({ events })).toEqual(["events job-1/completed are not the same event"]);
  });

  it("finds what no message explains, dead letters, and what is left", () => {
    const stranger = new Map([...GOOD.slurmJobs, ["4712", { comment: "", state: "COMPLETED" }] as const]);
    expect(seenIn({ slurmJobs: stranger })).toEqual(["a Slurm job of no message"]);
    const deadLetter = { messageId: "message-1", code: "internal-error", message: "a bug", cause: "{}" };
    expect(seenIn({ deadLetters: [deadLetter] })).toEqual(["a dead letter"]);
    expect(seenIn({ leftInQueues: { "mento.default.jobs": 1 } })).toEqual(["messages are left in a queue"]);
    expect(seenIn({ mistakes: ["processes are left: 4711"] })).toEqual(["something went wrong"]);
  });
});
