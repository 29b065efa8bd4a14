import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decide, type Known } from "../../src/tracking/decision.ts";
import { SLURM_STATES, type ReportedState } from "../../src/slurm/job-states.ts";

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
const NOW = 1_800_000_000_000;

const nothing: Known = {
  endRecord: undefined,
  endedWithoutRecordSince: undefined,
  seenAt: NOW - MINUTE,
  forgottenSince: undefined,
  hasStarted: true,
  isBeingResubmitted: false,
};
const stopped = (code: number, stoppedBy: string | null, since: number): Known => ({
  ...nothing,
  endRecord: { record: { at: "2026-01-01T00:00:00Z", code, stoppedBy, outOfMemory: false }, since },
});
const reported = (state: string, more: Partial<ReportedState> = {}): ReportedState => ({
  id: "4711",
  state,
  ...more,
});
const decision = (known: Known, said?: ReportedState, time = NOW) => decide(known, said, time, DAY);

describe("a job without a record of its end", () => {
  it("goes on while Slurm says so, or says what nobody knows", () => {
    for (const state of ["PENDING", "RUNNING", "CG", "REQUEUE_HOLD", "SPECIAL_EXIT", "HALF_BAKED", ""]) {
      expect(decision(nothing, reported(state)), state).toBe("goes-on");
    }
  });

  it("ends by Slurm's report only after its record had time to come, and with its exit code", () => {
    const failed = reported("FAILED");
    expect(decision(nothing, failed)).toBe("look-again");
    const waited = { ...nothing, endedWithoutRecordSince: NOW - 11_000 };
    expect(decision(waited, failed)).toBe("ask-exit-code");
    expect(decision(waited, { ...failed, exitCode: "7:0", log: "" })).toEqual({
      end: { state: "failed", code: 7, signal: null, reason: "exit-code" },
      slurmState: "FAILED",
    });
  });

  it("is not ended by silence; after a day of it, and five minutes of looking, it is lost", () => {
    expect(decision({ ...nothing, forgottenSince: NOW - 60 * MINUTE })).toBe("goes-on");
    const unseen = { ...nothing, seenAt: NOW - DAY - MINUTE };
    expect(decision({ ...unseen, forgottenSince: NOW - MINUTE })).toBe("goes-on");
    expect(decision({ ...unseen, forgottenSince: NOW - 6 * MINUTE })).toBe("lost");
  });

  it("is looked for if Slurm may have forgotten it before it began, from the second look on, for an hour", () => {
    const waited = { ...nothing, hasStarted: false, forgottenSince: NOW - MINUTE };
    expect(decision(waited)).toBe("look-if-forgotten");
    expect(decision({ ...waited, forgottenSince: NOW })).toBe("goes-on");
    expect(decision({ ...waited, hasStarted: true })).toBe("goes-on");
    expect(decision({ ...waited, seenAt: NOW - 61 * MINUTE })).toBe("goes-on");
    const by = { who: "me", reason: null };
    expect(decision({ ...waited, cancelled: { by, isAccepted: false } })).toBe("look-if-forgotten");
    expect(decision({ ...waited, cancelled: { by, isAccepted: true } })).toBe("goes-on");
  });

  it("that Slurm has forgotten was cancelled, if we had cancelled it; not if Slurm did not take that", () => {
    const by = { who: "me", reason: null };
    const forgotten = { ...nothing, forgottenSince: NOW - 2 * MINUTE };
    const end = { state: "cancelled", code: null, signal: null, reason: null };
    expect(decision({ ...forgotten, cancelled: { by, isAccepted: true } })).toEqual({
      end,
      slurmState: null,
    });
    expect(decision({ ...nothing, cancelled: { by, isAccepted: true } })).toBe("goes-on");
    expect(decision({ ...forgotten, cancelled: { by, isAccepted: false } })).toBe("goes-on");
  });

  it("was cancelled on its node before its script began: by us, or its launch has failed", () => {
    const waited = { ...nothing, hasStarted: false, endedWithoutRecordSince: NOW - 11_000 };
    const said = reported("CANCELLED", { exitCode: "0:0", log: "", nodes: "n" });
    const cancelled = { by: { who: "me", reason: null }, isAccepted: true };
    expect(decision(waited, said)).toMatchObject({ end: { reason: "launch-failed" } });
    expect(decision({ ...waited, cancelled }, said)).toMatchObject({ end: { state: "cancelled" } });
  });

  it("is not submitted again if somebody has cancelled it", () => {
    const cutOff = { ...nothing, isBeingResubmitted: true, endedWithoutRecordSince: NOW - 11_000 };
    const cancelled = { by: { who: "me", reason: null }, isAccepted: false };
    const said = reported("CANCELLED", { exitCode: "0:0", log: "" });
    expect(decision({ ...cutOff, cancelled }, said)).toMatchObject({ end: { state: "cancelled" } });
  });

  it("is submitted again if its reservation was deleted, or if that was cut off", () => {
    expect(decision(nothing, reported("PENDING", { reason: "ReservationDeleted" }))).toBe("held");
    expect(decision(nothing, reported("RESV_DEL_HOLD"))).toBe("held");
    const cutOff = { ...nothing, isBeingResubmitted: true, endedWithoutRecordSince: NOW - 11_000 };
    expect(decision(cutOff, reported("CANCELLED by 0", { exitCode: "0:0", log: "" }))).toBe("held");
    expect(decision(cutOff)).toBe("held");
  });
});

describe("a job that was stopped from outside", () => {
  it("ends with Slurm's reason, and not before Slurm has said one", () => {
    const known = stopped(143, "SIGTERM", NOW);
    expect(decision(known, reported("COMPLETING"))).toBe("goes-on");
    expect(decision(known, reported("REQUEUED"))).toBe("goes-on");
    expect(decision(known, reported("PREEMPTED"))).toMatchObject({ end: { reason: "preempted" } });
    expect(decision(known, reported("CANCELLED by 1234"))).toMatchObject({ end: { state: "cancelled" } });
  });

  it("ends by its record alone when Slurm has been silent for a minute", () => {
    expect(decision(stopped(143, "SIGTERM", NOW - 30_000))).toBe("goes-on");
    expect(decision(stopped(143, "SIGTERM", NOW - 61_000))).toMatchObject({
      end: { state: "failed", signal: "SIGTERM" },
      slurmState: null,
    });
  });
});

it("whatever Slurm says, a job ends only in a state that the table calls an end", () => {
  const ends = SLURM_STATES.filter(([, , meaning]) => meaning !== "goes-on").flatMap(([short, long]) => [
    short,
    long,
  ]);
  const anyState = fc.oneof(
    fc.string(),
    fc.constantFrom(...SLURM_STATES.flatMap(([short, long]) => [short, long])),
  );
  const known = fc.constantFrom<Known>(
    { ...nothing, endedWithoutRecordSince: NOW - DAY },
    stopped(143, "SIGTERM", NOW - DAY),
  );
  fc.assert(
    fc.property(anyState, known, (state, one) => {
      const said = decision(one, reported(state, { exitCode: "0:0", log: "" }));
      if (typeof said === "object") expect(ends).toContain(state.trim().split(" ")[0]?.replace(/\+$/, ""));
    }),
  );
});
