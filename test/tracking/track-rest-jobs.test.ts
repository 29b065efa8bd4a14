import { pino } from "pino";
import { afterEach, describe, expect, it, vi } from "vitest";
import { NOT_RUN } from "../../src/jobs/run-script.ts";
import type { TrackingRecord } from "../../src/tracking/tracking-record.ts";
import { eventLine } from "../../src/commands/event-line.ts";
import { toCloudEvent, type OutgoingEvent } from "../../src/messages/job-event.ts";
import type { Shell } from "../../src/shells/shell.ts";
import { restObserver } from "../../src/tracking/observer.ts";
import { unreadable, UNREADABLE, type ListedJob } from "../../src/slurm/rest/versions.ts";
import { Tracker } from "../../src/tracking/tracker.ts";
import { jobData } from "../support/job-data.ts";

const { job: told, times } = jobData();
const record: TrackingRecord = {
  version: 1,
  data: jobData("submitted", {
    job: { ...told, method: "slurm-rest-api" },
    slurm: { jobId: "4712", reservation: "r", partition: "p", nodes: [] },
    times: { ...times, submitted: new Date().toISOString() },
  }),
  jobsDirectory: "/j",
};

/** A host that does not have the core file system. */
const shell: Shell = {
  host: "worker",
  account: "mento",
  run: () => Promise.resolve({ code: 1, signal: null, stdout: Buffer.from(""), stderr: "" }),
};

const common = { reason: "", comment: "mento:k3f7", directory: "/c", user: "u", reservation: "r" };
const job = (id: string, state: string, exitCode = "0:0", nodes = "n1"): ListedJob => ({
  ...{ ...common, partition: "p", id, state, exitCode, nodes },
});

const trackers: Tracker[] = [];
afterEach(() => Promise.all(trackers.splice(0).map((tracker) => tracker.stop())));

/** What the tracker makes of the jobs that Slurm lists; its clock goes a hundred times as fast. */
function track(jobs: ListedJob[], isWhole = true) {
  const slurm = { jobs, isWhole };
  const events: OutgoingEvent[] = [];
  const did: string[] = [];
  const began = Date.now();
  const observer = restObserver(shell, {
    list: () => Promise.resolve(slurm),
    cancel: (id) => {
      did.push(`cancel ${id}`);
      slurm.jobs = [job(id, "CANCELLED", "0:0", "")];
      return Promise.resolve("cancelled");
    },
  });
  const take = (one: TrackingRecord) => tracker.take(one, () => undefined);
  const tracker = new Tracker({
    putAside: () => Promise.reject(new Error("not reached")),
    observerOf: () => Promise.resolve(observer),
    announce: (event) => Promise.resolve(void events.push(event)),
    track: (one) => {
      did.push(`record of ${one.data.slurm.jobId ?? ""}${one.heldSince === undefined ? "" : ", held"}`);
      take(one);
      return Promise.resolve();
    },
    leavePermits: () => Promise.resolve(),
    resubmit: () => Promise.reject(new Error("there is no directory")),
    reconcileSeconds: 1,
    lostAfterHours: 24,
    log: pino({ level: "silent" }),
    now: () => new Date(began + (Date.now() - began) * 100),
  });
  trackers.push(tracker);
  take(record);
  const ends = (type: string) =>
    vi.waitFor(() => expect(events.at(-1)?.type).toBe(`mento.job.${type}.v1`), { timeout: 10_000 });
  return { events, did, slurm, ends };
}

describe("a job over the REST API whose reservation was deleted", () => {
  it("is cancelled once its record says why, and has failed", async () => {
    const { events, did, ends } = track([job("4712", "RESV_DEL_HOLD", "0:0", "")]);
    await ends("failed");
    expect(did).toEqual(["record of 4712, held", "cancel 4712"]);
    expect(events).toHaveLength(1);
    expect(events[0]?.data).toMatchObject({
      exit: { code: null, reason: "reservation-deleted" },
      error: { code: "reservation-deleted", message: expect.stringContaining("--again") as string },
    });
  });

  it("and that somebody cancels who did not know has been cancelled", async () => {
    const { did, ends } = track([job("4712", "CANCELLED", "0:0", "")]);
    await ends("cancelled");
    expect(did).toEqual([]);
  });
});

describe("a job of Slurm that has not run the program", () => {
  const loser = job("4712", "FAILED", `${NOT_RUN.another}:0`);

  it("is not its end: the other one is followed", async () => {
    const { events, did, slurm, ends } = track([loser, job("4711", "RUNNING")]);
    await ends("submitted");
    expect(did).toEqual(["record of 4711"]);
    expect(events[0]?.data).toMatchObject({ slurm: { jobId: "4711", reservation: "r" }, error: null });
    slurm.jobs = [loser, job("4711", "COMPLETED")];
    await ends("completed");
  });

  it("says nothing once Slurm has forgotten the other", async () => {
    const { events } = track([loser]);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    expect(events).toEqual([]);
  });

  it("because it was cancelled before has been cancelled", async () => {
    const { events, ends } = track([job("4712", "FAILED", `${NOT_RUN.cancelled}:0`)]);
    await ends("cancelled");
    expect(events[0]?.data).toMatchObject({ exit: { reason: null } });
  });
});

describe("a job that Slurm's list may have, but not so that it can be read", () => {
  const loser = job("4712", "FAILED", `${NOT_RUN.cancelled}:0`);

  it.each([
    ["is not there", []],
    ["has another id's place", [job("4713", "COMPLETED")]],
    ["has not run, and the other one cannot be seen", [loser]],
    ["has no state that can be read", [unreadable("4712", "mento:k3f7")]],
  ])("goes on though it %s, and then has its end", async (_, jobs) => {
    const { events, did, slurm, ends } = track(
      jobs,
      jobs.some(({ state }) => state === UNREADABLE),
    );
    await new Promise((resolve) => setTimeout(resolve, 1500));
    expect([...events, ...did]).toEqual([]);
    slurm.jobs = [job("4712", "COMPLETED")];
    await ends("completed");
  });
});

describe("a job over the REST API whose records nobody here can read", () => {
  it.each([
    ["7:0", { code: 7, reason: "exit-code" }],
    ["0:9", { code: 0, signal: "SIGKILL", reason: "signal" }],
    ["0:53", { code: null, reason: "launch-failed" }],
    ["123:0", { code: null, reason: "not-prepared" }],
  ])("has the end that Slurm tells: %s", async (exitCode, exit) => {
    const { events, ends } = track([job("4712", "FAILED", exitCode)]);
    await ends("failed");
    expect(events.at(-1)?.data).toMatchObject({ exit });
  });

  it("and results that are unknown, for none were recorded", async () => {
    const { events, ends } = track([job("4712", "COMPLETED", "0:0")]);
    await ends("completed");
    expect(events.at(-1)?.data).toMatchObject({ results: [], resultsUnknown: true });
    const line = eventLine(toCloudEvent(events.at(-1) as OutgoingEvent, "/mento/default"));
    expect(line).toContain("its results are unknown");
  });
});
