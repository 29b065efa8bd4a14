import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { afterEach, describe, expect, it, vi } from "vitest";
import { BrokerUnavailable, MentoError, Rejected, Unavailable } from "../../src/errors.ts";
import type { TrackingRecord } from "../../src/tracking/tracking-record.ts";
import type { OutgoingEvent } from "../../src/messages/job-event.ts";
import type { Shell } from "../../src/shells/shell.ts";
import { slurmObserver } from "../../src/tracking/observer.ts";
import { Tracker } from "../../src/tracking/tracker.ts";
import type { TrackerDeps } from "../../src/tracking/tracker-deps.ts";
import { jobData } from "../support/job-data.ts";
import { recordsOf } from "../support/records-of.ts";

const record: TrackingRecord = {
  version: 1,
  data: jobData(),
  traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
  jobsDirectory: "/j",
};

/** A shell whose answers the test writes: the real one cannot be made to say these on demand. */
function shellThatSays(answers: { squeue: string; scontrol: string; records: string }): Shell {
  return {
    host: "node",
    account: "account",
    run: (script) => {
      const stdout = /^SLURM_TIME_FORMAT=%s timeout [-k\d ]+ squeue /.test(script)
        ? answers.squeue
        : /^timeout [-k\d ]+ scontrol /.test(script)
          ? answers.scontrol
          : script.includes("ls -1U")
            ? ""
            : answers.records;
      return Promise.resolve({ code: 0, signal: null, stdout: Buffer.from(stdout), stderr: "" });
    },
  };
}

interface Taken {
  submitted?: string | null;
  id?: string;
}

const trackers: Tracker[] = [];
afterEach(() => Promise.all(trackers.splice(0).map((tracker) => tracker.stop())));

function open(changes: Partial<TrackerDeps> = {}) {
  const events: OutgoingEvent[] = [];
  const renewed: TrackingRecord[] = [];
  const clock = { now: Date.now() };
  const tracker = new Tracker({
    putAside: () => Promise.reject(new Error("not reached")),
    observerOf: () => Promise.reject(new Error("the node is away")),
    announce: (event) => Promise.resolve(void events.push(event)),
    track: (one) => Promise.resolve(void renewed.push(one)),
    leavePermits: () => Promise.resolve(),
    resubmit: () => Promise.reject(new Error("nobody asked for it")),
    reconcileSeconds: 1,
    lostAfterHours: 24,
    log: pino({ level: "silent" }),
    now: () => new Date(clock.now),
    ...changes,
  });
  trackers.push(tracker);
  /** The deliveries that were acked, by their number. */
  const acks = new Set<number>();
  let deliveries = 0;
  const take = ({ submitted = null, id = "k3f7" }: Taken = {}) => {
    const number = ++deliveries;
    const { data } = record;
    const times = { ...data.times, submitted };
    const one = { ...record, data: { ...data, job: { ...data.job, id }, times } };
    tracker.take(one, () => acks.add(number));
  };
  return { tracker, events, renewed, clock, acks, take };
}

describe("a tracker of jobs whose records do not fit", () => {
  it("goes on trying to put them aside where that fails, and puts them aside in the end", async () => {
    const unfit = new Rejected({ code: "record-unfit", message: "it does not fit", hint: "" });
    const put: string[] = [];
    let tries = 0;
    const { tracker, acks, take } = open({
      observerOf: () => Promise.reject(unfit),
      putAside: (_, why) => {
        tries += 1;
        if (tries < 3)
          return Promise.reject(new BrokerUnavailable({ code: "publish-refused", message: "", hint: "" }));
        return Promise.resolve(void put.push(why));
      },
    });
    take();
    await vi.waitFor(() => expect(put).toEqual(["it does not fit"]), 20_000);
    expect(tracker.size).toBe(0);
    expect([...acks]).toEqual([1]);
  });
});

describe("a tracker of a job of which nothing can be published", () => {
  it("goes on with the others: loses and renews them in time", async () => {
    const impossible = new MentoError({ code: "publish-impossible", message: "a bug", hint: "" });
    const events: OutgoingEvent[] = [];
    const renewed: string[] = [];
    const { clock, take } = open({
      announce: (event) => {
        if ("job" in event.data && event.data.job.id === "bad") return Promise.reject(impossible);
        return Promise.resolve(void events.push(event));
      },
      track: ({ data }) => Promise.resolve(void renewed.push(data.job.id)),
    });
    const longAgo = new Date(clock.now - 25 * 3600_000).toISOString();
    take({ id: "bad", submitted: longAgo });
    take({ id: "good", submitted: longAgo });
    take({ id: "young", submitted: new Date(clock.now).toISOString() });
    await sleep(100);
    clock.now += 11 * 60_000;
    await vi.waitFor(() => expect(renewed).toContain("young"), 20_000);
    const told = () => events.map(({ type, data }) => ["job" in data && data.job.id, type]);
    await vi.waitFor(() => expect(told()).toEqual([["good", "mento.job.lost.v1"]]), 20_000);
  });
});

describe("a tracker whose node is away", () => {
  it("keeps the job, announces nothing, and renews its record in time all the same", async () => {
    const { tracker, events, renewed, clock, acks, take } = open();
    take();
    await sleep(100);
    expect([tracker.size, renewed.length]).toEqual([1, 0]);
    clock.now += 11 * 60_000;
    await sleep(2000);
    expect(renewed).toEqual([record]);
    expect([...acks]).toEqual([1]);
    expect(events).toEqual([]);
  });
});

describe("a tracker that is to let go of jobs, for others wait", () => {
  const sees = (squeue: string) => ({
    observerOf: () => Promise.resolve(slurmObserver(shellThatSays({ squeue, scontrol: "", records: "" }))),
  });

  it("hands on what goes on, the ones that it has had for longest, and no more than that", async () => {
    const reported = (id: string) => `4711|PENDING|0:00|1:00||mento:${id}|/j/${id}|N/A|JobHeldUser\n`;
    const { tracker, clock, renewed, take } = open(sees(["k3f7", "b", "c"].map(reported).join("")));
    for (const id of ["k3f7", "b", "c"]) {
      take({ id, submitted: new Date(clock.now).toISOString() });
      clock.now += 10;
    }
    tracker.handOn(2, () => true);
    await sleep(600);
    expect(renewed).toEqual([]);
    clock.now += 2_000;
    await sleep(1_000);
    tracker.handOn(2, () => true);
    await vi.waitFor(() => expect(renewed.map(({ data }) => data.job.id)).toEqual(["k3f7", "b"]), 20_000);
    await vi.waitFor(() => expect(tracker.size).toBe(1));
    tracker.handOn(2, () => false);
    await sleep(600);
    expect(tracker.size).toBe(1);
  });

  it("does not wait for a session whose node takes its time", async () => {
    let isAsked = false;
    const { tracker, clock, renewed, acks, take } = open({
      observerOf: () => {
        isAsked = true;
        return new Promise(() => undefined);
      },
    });
    trackers.splice(trackers.indexOf(tracker), 1);
    take({ submitted: new Date(clock.now).toISOString() });
    await vi.waitFor(() => expect(isAsked).toBe(true));
    clock.now += 7 * 60_000;
    tracker.handOn(1, () => true);
    await vi.waitFor(() => expect(renewed).toHaveLength(1));
    await vi.waitFor(() => expect([tracker.size, ...acks]).toEqual([0, 1]));
  });

  it("holds what it could not hand on", async () => {
    let isBroken = true;
    const { tracker, clock, acks, take } = open({
      ...sees("4711|PENDING|0:00|1:00||mento:k3f7|/j/k3f7|N/A|JobHeldUser\n"),
      track: () => (isBroken ? Promise.reject(new Error("not now")) : Promise.resolve()),
    });
    take({ submitted: new Date(clock.now).toISOString() });
    clock.now += 7 * 60_000;
    tracker.handOn(1, () => true);
    await sleep(100);
    expect([tracker.size, acks.size]).toEqual([1, 0]);
    isBroken = false;
    tracker.handOn(1, () => true);
    await vi.waitFor(() => expect([tracker.size, acks.size]).toEqual([0, 1]));
  });

  it("keeps what is about to be settled, but not for ever", async () => {
    const ended = "4711|COMPLETED|0:10|1:00|n|mento:k3f7|/j/k3f7|N/A|None\n";
    const { tracker, clock, renewed, take } = open({
      ...sees(ended),
      announce: () => Promise.reject(new Unavailable({ code: "broker-lost", message: "m", hint: "h" })),
    });
    take({ submitted: new Date(clock.now).toISOString() });
    clock.now += 2_000;
    await sleep(1_000);
    tracker.handOn(1, () => true);
    await sleep(600);
    expect(renewed).toEqual([]);
    clock.now += 7 * 60_000;
    tracker.handOn(1, () => true);
    await vi.waitFor(() => expect(renewed).toHaveLength(1), 20_000);
  });
});

describe("a job of which nothing is seen", () => {
  const silence = { squeue: "", scontrol: "", records: "" };

  it("is lost after a day, and not before, however often its record is handed on", async () => {
    const { tracker, events, clock, acks, take } = open({
      observerOf: () => Promise.resolve(slurmObserver(shellThatSays(silence))),
      track: async () => {
        await sleep(1);
        take({ submitted });
      },
    });
    const submitted = new Date(clock.now).toISOString();
    take({ submitted });
    for (const hours of [1, 22]) {
      await sleep(1200);
      clock.now += hours * 3600_000;
    }
    await sleep(1200);
    expect([tracker.size, events.length]).toEqual([1, 0]);
    clock.now += 2 * 3600_000;
    await vi.waitFor(() => expect(tracker.size).toBe(0), { timeout: 20_000 });
    expect(events).toHaveLength(1);
    expect(events[0]).toMatchObject({
      id: "k3f7/lost",
      traceparent: record.traceparent,
      data: { job: { state: "lost" }, exit: null, error: { code: "lost" } },
    });
    expect(acks.size).toBeGreaterThan(1);
  });

  it("since the worker itself was away for days is looked for first: its record tells", async () => {
    const ended = "at=2026-01-01T00:00:00Z\0code=0\0stoppedBy=\0";
    const answers = {
      ...silence,
      records: recordsOf("k3f7", { ended }),
    };
    const { events, take } = open({
      observerOf: () => Promise.resolve(slurmObserver(shellThatSays(answers))),
    });
    take({ submitted: "2020-01-01T00:00:00Z" });
    await vi.waitFor(() => expect(events.map(({ type }) => type)).toEqual(["mento.job.completed.v1"]), {
      timeout: 20_000,
    });
  });

  it("since its node is out of reach is lost after a day too, for a person to look", async () => {
    const { tracker, events, clock, take } = open();
    take({ submitted: new Date(clock.now).toISOString() });
    await sleep(600);
    clock.now += 25 * 3600_000;
    await vi.waitFor(() => expect(tracker.size).toBe(0), { timeout: 20_000 });
    expect(events.map(({ type }) => type)).toEqual(["mento.job.lost.v1"]);
  });

  it("is seen while Slurm shows it, though in a state that nobody knows", async () => {
    const answers = { ...silence, squeue: "4711|HALF_BAKED|0:00|1:00||mento:k3f7|/j/k3f7|N/A|None\n" };
    const { tracker, events, clock, renewed, take } = open({
      observerOf: () => Promise.resolve(slurmObserver(shellThatSays(answers))),
    });
    take({ submitted: new Date(clock.now).toISOString() });
    clock.now += 30 * 3600_000;
    await vi.waitFor(() => expect(renewed.length).toBeGreaterThan(0), { timeout: 20_000 });
    expect(events).toEqual([]);
    expect(renewed.at(-1)?.data.job.state).toBe("submitted");
    expect(tracker.size).toBe(0);
  });

  it("is not seen in another job that has got its id", async () => {
    const answers = { ...silence, squeue: "4711|RUNNING|0:10|1:00|n|mento:other|/j/other|N/A|None\n" };
    const { events, clock, take } = open({
      observerOf: () => Promise.resolve(slurmObserver(shellThatSays(answers))),
    });
    take({ submitted: new Date(clock.now - 25 * 3600_000).toISOString() });
    for (const minutes of [1, 6]) {
      clock.now += minutes * 60_000;
      await sleep(1200);
    }
    await vi.waitFor(() => expect(events.map(({ type }) => type)).toEqual(["mento.job.lost.v1"]), {
      timeout: 20_000,
    });
  });
});

it("a mistake about one job does not keep the others of its session from being watched", async () => {
  const broken = `at=${new Date().toISOString()}\0code=0\0stoppedBy=\0`;
  const both = ["k3f7", "other"].map((id) => recordsOf(id, { ended: broken }));
  const announced: string[] = [];
  const { take, clock } = open({
    observerOf: () =>
      Promise.resolve(slurmObserver(shellThatSays({ squeue: "", scontrol: "", records: both.join("") }))),
    announce: (event) => {
      if (event.id.startsWith("k3f7")) throw new TypeError("a bug");
      announced.push(event.id);
      return Promise.resolve();
    },
  });
  take({ submitted: new Date(clock.now).toISOString() });
  take({ submitted: new Date(clock.now).toISOString(), id: "other" });
  await vi.waitFor(() => expect(announced).toEqual(["other/completed"]), { timeout: 20_000 });
});

describe("a record that is delivered again while its job's end is announced", () => {
  it("is acked with the first: nothing stays with the broker", async () => {
    const ended = "at=2026-01-01T00:00:00Z\0code=0\0stoppedBy=\0";
    const records = recordsOf("k3f7", { ended });
    const shell = shellThatSays({ squeue: "", scontrol: "", records });
    const announce = async () => {
      if (acks.size === 0) take();
      await sleep(50);
    };
    const { acks, take, tracker } = open({
      observerOf: () => Promise.resolve(slurmObserver(shell)),
      announce,
    });
    take();
    await sleep(1000);
    expect([...acks]).toEqual([1, 2]);
    expect(tracker.size).toBe(0);
  });
});

describe("a job that may be retried once", () => {
  it("fails when its second run does, though its record came back before it was let go", async () => {
    const reported = (id: number, state: string) =>
      `${id}|${state}|0:10|1:00|node|mento:k3f7|/j/k3f7|N/A|NodeDown\n`;
    const answers = {
      squeue: reported(4711, "NODE_FAIL"),
      scontrol: "JobId=4711 JobState=NODE_FAIL ExitCode=0:0 Requeue=0",
      records: "",
    };
    let resubmits = 0;
    const { tracker, events, clock } = open({
      observerOf: () => Promise.resolve(slurmObserver(shellThatSays(answers))),
      resubmit: () => {
        resubmits += 1;
        const submitted = `${4711 + resubmits}\n11010000 ponline node-failure\n`;
        answers.records = recordsOf("k3f7", { submitted });
        answers.squeue = reported(4711 + resubmits, "RUNNING");
        return Promise.resolve();
      },
      track: async (copy) => {
        tracker.take(copy, () => undefined);
        await sleep(1);
      },
    });
    tracker.take({ ...record, retries: 1 }, () => undefined);
    const looks = async (until: () => boolean) => {
      for (let look = 0; look < 20 && !until(); look++) {
        clock.now += 6_000;
        await sleep(500);
      }
    };
    await looks(() => events.length > 0);
    expect(events.map(({ type }) => type)).toEqual(["mento.job.submitted.v1"]);
    answers.squeue = reported(4712, "NODE_FAIL");
    await looks(() => tracker.size === 0);
    expect(resubmits).toBe(1);
    expect(events.map(({ type }) => type)).toEqual(["mento.job.submitted.v1", "mento.job.failed.v1"]);
  });
});

describe("a job whose end Slurm does not explain", () => {
  const stopped = "at=2026-01-01T00:00:00Z\0code=143\0stoppedBy=TERM\0";
  const records = recordsOf("k3f7", { ended: stopped });

  it("goes on being watched while Slurm says that it goes on", async () => {
    const answers = {
      squeue: "4711|PENDING|0:00|1:00||mento:k3f7|/j/k3f7|N/A|BeginTime\n",
      scontrol: "",
      records,
    };
    const { tracker, events, clock, take } = open({
      observerOf: () => Promise.resolve(slurmObserver(shellThatSays(answers))),
    });
    take();
    await sleep(600);
    clock.now += 5 * 60_000;
    await sleep(1000);
    expect([tracker.size, events.length]).toEqual([1, 0]);
    answers.squeue = "4711|TIMEOUT|1:10|1:00|node|mento:k3f7|/j/k3f7|N/A|TimeLimit\n";
    clock.now += 2000;
    await sleep(1000);
    expect(events.map(({ type }) => type)).toEqual(["mento.job.failed.v1"]);
    expect(tracker.size).toBe(0);
  });

  it("without a record does not end before Slurm gives an exit code", async () => {
    const answers = {
      squeue: "4711|FAILED|0:10|1:00|node|mento:k3f7|/j/k3f7|N/A|NonZeroExitCode\n",
      scontrol: "",
      records: "",
    };
    const { events, clock, take } = open({
      observerOf: () => Promise.resolve(slurmObserver(shellThatSays(answers))),
    });
    take();
    for (let look = 0; look < 3; look++) {
      await sleep(600);
      clock.now += 15_000;
    }
    expect(events).toEqual([]);
    answers.scontrol = "JobId=4711 JobState=FAILED ExitCode=0:9 Requeue=0";
    await sleep(1000);
    expect(events[0]?.data).toMatchObject({ exit: { signal: "SIGKILL", reason: "signal" } });
  });
});
