import { describe, expect, it } from "vitest";
import {
  advance,
  describeFailure,
  endFromBoth,
  endFromRecord,
  endFromRecordAlone,
  endFromSlurmAlone,
  type SlurmEnd,
} from "../../src/jobs/job.ts";
import { endFromSlurm, meaningOf } from "../../src/slurm/job-states.ts";

const record = (code: number, stoppedBy: string | null = null) => ({
  ...{ at: "", code, stoppedBy },
  outOfMemory: false,
});
const alone = (state: string, exitCode: string, more: Partial<SlurmEnd> = {}) =>
  endFromSlurmAlone({ state, exitCode, nodes: "n1", hasStarted: true, log: "", ...more });

describe("a job's end", () => {
  it("is told by the run script's record alone when nothing stopped it", () => {
    expect(endFromRecord(record(0))).toEqual({ state: "completed", code: 0, signal: null, reason: null });
    expect(endFromRecord(record(7))).toMatchObject({ state: "failed", code: 7, reason: "exit-code" });
    expect(endFromRecord(record(139))).toMatchObject({
      state: "failed",
      signal: "SIGSEGV",
      reason: "signal",
    });
  });

  it("needs Slurm's report when a signal from outside stopped it, or SIGKILL, which may be the memory limit", () => {
    expect(endFromRecord(record(143, "SIGTERM"))).toBeUndefined();
    expect(endFromRecord(record(137))).toBeUndefined();
    expect(endFromBoth(record(143, "SIGTERM"), "TIMEOUT")).toMatchObject({
      state: "failed",
      reason: "timeout",
    });
    expect(endFromBoth(record(137), "OUT_OF_MEMORY")).toMatchObject({ reason: "out-of-memory" });
    expect(endFromBoth(record(137), "FAILED")).toMatchObject({ signal: "SIGKILL", reason: "signal" });
    expect(endFromBoth(record(143, "SIGTERM"), "CANCELLED by 1234")).toMatchObject({
      state: "cancelled",
      reason: null,
    });
    expect(endFromBoth(record(0, "SIGTERM"), "COMPLETED")).toMatchObject({ state: "completed" });
  });

  it("is told by the record after all when Slurm has forgotten the job", () => {
    expect(endFromRecordAlone(record(0, "SIGUSR1"))).toMatchObject({ state: "completed", signal: null });
    expect(endFromRecordAlone(record(143, "SIGTERM"))).toMatchObject({ state: "failed", reason: "signal" });
  });

  it("is a cancellation that was asked for, though the signal came to the program before the script", () => {
    const cancelled = { state: "cancelled", signal: "SIGTERM" };
    expect(endFromRecordAlone(record(143, "SIGTERM"), true)).toMatchObject(cancelled);
    expect(endFromRecordAlone(record(143), true)).toMatchObject(cancelled);
    expect(endFromRecordAlone(record(143))).toMatchObject({ state: "failed", reason: "signal" });
    expect(endFromRecordAlone(record(1), true)).toMatchObject({ state: "failed", reason: "exit-code" });
    expect(endFromRecordAlone(record(137), true)).toMatchObject({ state: "failed", signal: "SIGKILL" });
  });

  it("is told by Slurm alone when there is no record", () => {
    expect(alone("FAILED", "7:0")).toEqual({
      state: "failed",
      code: 7,
      signal: null,
      reason: "exit-code",
    });
    expect(alone("NODE_FAIL", "0:0")).toMatchObject({ reason: "node-failure" });
    expect(alone("FAILED", "0:9")).toMatchObject({ signal: "SIGKILL", reason: "signal" });
  });

  it("is not told by a state that is no end, or that is new", () => {
    for (const state of ["RUNNING", "COMPLETING", "PENDING", "SUSPENDED", "SOME_NEW_STATE", ""]) {
      expect(endFromSlurm(state), state).toBeUndefined();
      expect(endFromBoth(record(143, "SIGTERM"), state), state).toBeUndefined();
      expect(alone(state, "0:0"), state).toBeUndefined();
    }
  });

  it("is told by every form of a state: long, short, cut off, with a suffix", () => {
    for (const state of ["TIMEOUT", "TO", "TIMEO+"])
      expect(endFromSlurm(state), state).toMatchObject({ reason: "timeout" });
    for (const state of ["CANCELLED by 1234", "CANCELLED+", "CA", "CANCELLED"]) {
      expect(endFromSlurm(state), state).toEqual({ state: "cancelled", reason: null });
    }
    expect(endFromSlurm("OUT_OF_ME+")).toMatchObject({ reason: "out-of-memory" });
    expect(meaningOf("R")).toBe("goes-on");
    expect(meaningOf("REQU+")).toBeUndefined();
  });

  it("by the memory limit has no exit code, for Slurm's 0:125 is none", () => {
    expect(alone("OUT_OF_MEMORY", "0:125")).toEqual({
      state: "failed",
      code: null,
      signal: null,
      reason: "out-of-memory",
    });
  });

  it("of a script that never began is a failed launch, whatever slurmstepd's exit code", () => {
    for (const exitCode of ["0:53", "2:0"]) {
      expect(alone("FAILED", exitCode, { hasStarted: false })).toMatchObject({ reason: "launch-failed" });
    }
    // The run script's own, before its program: there was no room even for its record.
    expect(alone("FAILED", "123:0", { hasStarted: false })).toMatchObject({
      code: null,
      reason: "not-prepared",
    });
    expect(alone("FAILED", "123:0")).toMatchObject({ code: 123, reason: "exit-code" });
    expect(alone("CANCELLED", "0:0", { hasStarted: false })).toMatchObject({ reason: "launch-failed" });
    expect(alone("CANCELLED", "0:0", { hasStarted: false, nodes: "" })).toMatchObject({ state: "cancelled" });
    expect(alone("FAILED", "2:0")).toMatchObject({ reason: "exit-code", code: 2 });
  });

  it("is described with its reason and the end of its log", () => {
    const end = { state: "failed", code: 7, signal: null, reason: "exit-code" } as const;
    expect(describeFailure(end, null, "no such geometry\n")).toBe(
      "The program ended with exit code 7. Its log ends: no such geometry",
    );
  });
});

describe("advance", () => {
  it("goes forward only", () => {
    expect(advance("submitted", "started")).toBe("started");
    expect(() => advance("completed", "failed")).toThrow("a job cannot go from completed to failed");
  });
});
