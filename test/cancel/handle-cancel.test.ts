import fc from "fast-check";
import { pino } from "pino";
import { describe, expect, it } from "vitest";
import { handleCancel, type CancelMessageDeps } from "../../src/cancel/handle-cancel.ts";
import { JobCancel, JOB_CANCEL_TYPE, JobName } from "../../src/messages/job-cancel.ts";
import { codeOf } from "../support/code-of.ts";

const now = new Date("2026-11-22T02:32:33.421Z");

function handle(data: unknown, userId: string | undefined, type = JOB_CANCEL_TYPE) {
  const asked: unknown[] = [];
  const deps: CancelMessageDeps = {
    mayCancel: ["daq"],
    cancel: (jobs, request) => {
      asked.push({ jobs, request });
      return Promise.resolve([]);
    },
    log: pino({ level: "silent" }),
    now: () => now,
  };
  const received = {
    body: Buffer.from(JSON.stringify(data)),
    properties: { type, messageId: "1", userId },
    routingKey: "",
    receivedAt: now,
    ...{ dataCheck: undefined, onlyTrigger: undefined },
  };
  return { asked, done: handleCancel(received, deps) };
}

describe("a message that cancels", () => {
  it("is obeyed if RabbitMQ says that it is of a user who may", async () => {
    const { asked, done } = handle({ job: ["a", "4711"], reason: "no beam" }, "daq");
    expect(await done).toEqual({ outcomes: [] });
    const request = { who: "daq", reason: "no beam", at: now.toISOString() };
    expect(asked).toEqual([{ jobs: ["a", "4711"], request }]);
  });

  it.each(["eiger", "DAQ", "", undefined])("is not obeyed if it is of %s", async (userId) => {
    const { asked, done } = handle({ job: "a" }, userId);
    expect(await codeOf(done)).toBe("cancel-not-allowed");
    expect(asked).toEqual([]);
  });

  it.each<[unknown, string, string]>([
    [{ job: "../raw" }, JOB_CANCEL_TYPE, "wrong-schema"],
    [{ job: [] }, JOB_CANCEL_TYPE, "wrong-schema"],
    [{ job: "a", user: "daq" }, JOB_CANCEL_TYPE, "wrong-schema"],
    [{ job: "a" }, "mento.job.cancel.v2", "unknown-version"],
  ])("%j of type %s is rejected: %s", async (data, type, code) => {
    expect(await codeOf(handle(data, "daq", type).done)).toBe(code);
  });

  it("names only what can be a folder's name of its own", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (name) => {
        if (JobName.safeParse(name).success) expect(name).toMatch(/^[A-Za-z0-9_-]+$/);
        expect(JobCancel.safeParse({ job: name }).success).toBe(JobName.safeParse(name).success);
      }),
    );
    for (const name of [".", "..", "a/b", "-rf", "", "a\n", "a\0"]) {
      expect(JobName.safeParse(name).success, name).toBe(false);
    }
  });
});
