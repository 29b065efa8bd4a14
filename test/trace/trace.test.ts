import { describe, expect, it } from "vitest";
import { messageEvent, jobEvent, toCloudEvent, type MessageEventData } from "../../src/messages/job-event.ts";
import { answerOf, positionWords, type Live, type SlurmSays } from "../../src/trace/answer.ts";
import { nearMissesOf } from "../../src/trace/near-misses.ts";
import { backlogTakes, reservationLines, reservationNeeds } from "../../src/trace/reservations.ts";
import { standingsOf } from "../../src/trace/standing.ts";
import { Trigger } from "../../src/triggers/trigger-config.ts";
import { Stories, storiesOf, type Story } from "../../src/trace/stories.ts";
import { rowsOf } from "../../src/trace/table.ts";
import { workersIn } from "../../src/trace/workers.ts";
import { readHeartbeat, type Heartbeat } from "../../src/messages/heartbeat.ts";
import { duration, firstSentence, pendingWords } from "../../src/trace/words.ts";
import { shortName, wrapped } from "../../src/text/layout.ts";
import { jobData } from "../support/job-data.ts";

const NOW = new Date("2026-01-01T12:00:00Z");
const at = (seconds: number) => new Date(NOW.getTime() + seconds * 1000).toISOString();
const exchanges = { dataExchange: "mento.data", eventsExchange: "mento.events" };

function message(id: string, path: string | string[], seconds = -60) {
  const body = {
    specversion: "1.0",
    id,
    source: "/daq",
    type: "mento.data.ready.v1",
    time: at(seconds),
    data: { path },
  };
  return {
    content: Buffer.from(JSON.stringify(body)),
    fields: { exchange: "mento.data", routingKey: "-.-.data.ready" },
    properties: { contentType: "application/cloudevents+json", headers: {} },
  };
}

type JobChanges = Parameters<typeof jobData>[1] & object;

function jobsEvent(id: string, state: Parameters<typeof jobData>[0], changes: JobChanges = {}) {
  const cause = { source: "/daq", id, type: "mento.data.ready.v1" };
  const data = jobData(state, { cause, ...changes });
  return eventOf(toCloudEvent(jobEvent(data, NOW), "/mento/default"));
}

function messagesEvent(
  id: string,
  outcome: "rejected" | "deferred" | "ignored",
  changes: Partial<MessageEventData> = {},
) {
  const data: MessageEventData = {
    cause: { source: "/daq", id, type: "mento.data.ready.v1" },
    ...{ group: "default", correlationId: null, beamline: null, beamtimeId: null },
    ...{ paths: [], error: null, reason: null, reasons: [] },
    ...changes,
  };
  return eventOf(toCloudEvent(messageEvent(outcome, data, NOW), "/mento/default"));
}

function eventOf(event: object) {
  const content = Buffer.from(JSON.stringify(event));
  return {
    content,
    fields: { exchange: "mento.events", routingKey: "p11.1.x" },
    properties: { headers: {} },
  };
}

function told(...messages: object[]): Story[] {
  const stories = new Stories(exchanges);
  for (const one of messages) stories.add(one as Parameters<Stories["add"]>[0]);
  return stories.all;
}

function live(changes: Partial<Live> = {}): Live {
  return {
    ...{ now: NOW, group: "default", keys: ["#"], today: null, unasked: [] },
    broker: { blocked: undefined, intake: { waiting: 0, consumers: 1 }, triggerQueues: [] },
    ...{ slurm: new Map(), data: new Map(), logs: new Map(), alike: new Map(), ahead: new Map() },
    ...changes,
  };
}

const error = (
  code: "private-key-unreadable" | "data-not-there" | "wrong-schema" | "out-of-memory",
  text: string,
) => ({
  code,
  message: text,
  hint: "Have it mended.",
});

const answer = (messages: object[], changes: Partial<Live> = {}) => {
  const [story] = told(...messages);
  if (story === undefined) throw new Error("there is no story");
  return answerOf(story, live(changes));
};

describe("what became of a message", () => {
  it("is told by its last event, whatever is announced again after its job's end", () => {
    const id = { job: { ...jobData("completed").job, id: "j1" } };
    const ended = {
      ...id,
      times: { ready: at(-60), received: at(-59), submitted: at(-58), started: at(-50), ended: at(-20) },
    };
    const { standing, answer: text } = answer([
      message("1", "/gpfs/current/raw/a.h5"),
      messagesEvent("1", "deferred", { error: error("data-not-there", "It is not there.") }),
      jobsEvent("1", "completed", ended),
      jobsEvent("1", "started", { job: { ...id.job, state: "started" } }),
    ]);
    expect([standing, text]).toEqual(["waiting", expect.stringContaining("data-not-there")]);
    const done = answer([
      message("1", "/a.h5"),
      jobsEvent("1", "completed", ended),
      jobsEvent("1", "started", { job: { ...id.job, state: "started" } }),
    ]);
    expect([done.standing, done.answer]).toEqual(["completed", "t completed, 40 s after ready."]);
  });

  it("is that nobody has taken it, that the broker blocks, or where it waits", () => {
    const published = [message("1", "/a.h5")];
    const none = { blocked: undefined, intake: { waiting: 14, consumers: 0 }, triggerQueues: [] };
    expect(answer(published, { broker: none }).answer).toBe(
      "No worker has taken it, 1 min after ready: group default has none that takes messages. 14 messages wait.",
    );
    expect(answer(published, { broker: { ...none, intake: undefined } }).answer).toContain(
      "group default has none",
    );
    const blocked = { ...none, blocked: "memory", intake: { waiting: 1, consumers: 1 } };
    expect(answer(published, { broker: blocked }).answer).toMatch(
      /^RabbitMQ blocks whoever publishes \(memory\)/,
    );
    const queued = { ...blocked, blocked: undefined, triggerQueues: [{ trigger: "fit", waiting: 3 }] };
    const today = { matched: ["fit"], unmatched: [] };
    expect(answer(published, { broker: queued, today }).answer).toBe(
      "It waits in the queue of fit, where 3 messages wait.",
    );
    const ahead = new Map([["fit", 2]]);
    expect(answer(published, { broker: queued, today, ahead }).answer).toBe(
      "It waits in the queue of fit, where 3 messages wait; 2 of them came before it.",
    );
  });

  it("is that its key is not one that the group takes", () => {
    const said = answer([message("1", "/a.h5")], { keys: ["p11.#", "x.y"] });
    expect(said.answer).toBe(
      "Group default does not take it: it was published with the key -.-.data.ready, and the group takes p11.#, x.y.",
    );
  });

  it("is first what keeps it from the trigger that it fits best", () => {
    const reasons = ["far", "near"].map((trigger) => ({ trigger, reason: `${trigger} is not met` }));
    const ignored = messagesEvent("1", "ignored", { reason: "no-trigger", reasons });
    const said = (nearest: string) =>
      answer([message("1", "/a.h5"), ignored], { today: { matched: [], unmatched: reasons, nearest } })
        .answer;
    expect([said("near"), said("gone")]).toEqual([
      "No trigger wants it. near: near is not met.",
      "No trigger wants it. far: far is not met.",
    ]);
  });

  it("is that nobody looks: the broker is blocked, no worker is there, or its time is over", () => {
    const deferred = messagesEvent("1", "deferred", {
      ...{ error: error("data-not-there", "It is not there."), givesUpAt: at(-10) },
    });
    const more = (broker: Partial<Live["broker"]>) =>
      answer([message("1", "/a.h5"), deferred], { broker: { ...live().broker, ...broker } }).more;
    expect(more({ blocked: "low on memory" })).toEqual([
      expect.stringMatching(/^Was to be given up at /),
      "RabbitMQ takes no messages at the moment (low on memory), so nothing is looked at.",
    ]);
    expect(more({ intake: { waiting: 0, consumers: 0 } })[1]).toBe(
      "No worker of group default takes messages at the moment, so nothing is looked at.",
    );
  });

  it("is that its data is waited for: how often it was looked at, when next, and when it is given up", () => {
    const waiting = (seconds: number, givesUpAt?: string | null) =>
      answerOf(
        told(
          message("1", "/a.h5"),
          messagesEvent("1", "deferred", {
            ...{ error: error("data-not-there", "It is not there."), paths: ["/a.h5"] },
            ...(givesUpAt !== undefined && { givesUpAt }),
          }),
        )[0] as Story,
        live({ now: new Date(NOW.getTime() + seconds * 1000) }),
      ).more;
    expect(waiting(0)).toEqual(["Looked at once, next within 1 s."]);
    expect(waiting(8, null)).toEqual(["Looked at about 4 times, next within 10 s."]);
    expect(waiting(600, at(1800))).toEqual([
      expect.stringMatching(/^Looked at about 24 times, next within 30 s; gives up at .*:30:00\.$/),
    ]);
  });

  it("names the key that cannot be read, and memory that was not enough", () => {
    const key = messagesEvent("1", "deferred", {
      error: error("private-key-unreadable", "The key /x/id_rsa cannot be read."),
    });
    expect(answer([message("1", "/a.h5"), key]).answer).toContain(
      "[private-key-unreadable]: The key /x/id_rsa",
    );
    const failed = jobsEvent("1", "failed", {
      exit: { code: null, signal: null, reason: "out-of-memory" },
      error: error("out-of-memory", "The program used more memory than it had."),
    });
    const { answer: text, todo } = answer([message("1", "/a.h5"), failed]);
    expect(text).toContain("used more memory");
    expect(todo).toContain("slurm.memory");
  });

  it("says what Slurm says of a pending job in plain words, and of a state that it does not know the word", () => {
    const pending = jobsEvent("1", "submitted", { times: { ...jobData().times, submitted: at(-24) } });
    const slurm = (reason: string, position: SlurmSays["position"] = null) => ({
      slurm: new Map([["4711", { state: "PENDING", reason, position }]]),
    });
    expect(answer([pending], slurm("(Resources)")).answer).toBe(
      "t is pending since 24 s: reservation r is full (Resources).",
    );
    expect(answer([pending], slurm("(Resources)", { at: 1, of: 7 })).answer).toMatch(/ Next in its queue\.$/);
    const places = [2, 3, 11, 22, 57, 112].map((at) => positionWords({ at, of: 204 }));
    expect(places.map((text) => text.trim().split(" ")[0])).toEqual([
      ...["2nd", "3rd", "11th", "22nd", "57th", "112th"],
    ]);
    expect(answer([pending], slurm("SomethingNew")).answer).toContain("Slurm says: SomethingNew");
    expect(answer([pending], { unasked: ["the node is away"] }).answer).toContain("the node is away");
  });
});

describe("a message is found", () => {
  const stories = told(
    message("b1f3c9a2-0001", "/gpfs/current/raw/s1/scan_0001_master.h5"),
    message("b1f3c9a2-0002", "/gpfs/current/raw/s1/scan_0002_master.h5"),
    jobsEvent("b1f3c9a2-0002", "submitted", {
      job: { ...jobData().job, id: "k3f7xyzabc" },
      slurm: { ...jobData().slurm, jobId: "48213_4" },
    }),
  );
  it.each([
    ["scan_0001_master.h5", ["b1f3c9a2-0001"]],
    ["s1/scan_0002_master.h5", ["b1f3c9a2-0002"]],
    ["b1f3c9a2-0001", ["b1f3c9a2-0001"]],
    ["b1f3c9", ["b1f3c9a2-0001", "b1f3c9a2-0002"]],
    ["k3f7xyz", ["b1f3c9a2-0002"]],
    ["48213", ["b1f3c9a2-0002"]],
    ["48213_4", ["b1f3c9a2-0002"]],
    ["scan_000", ["b1f3c9a2-0001", "b1f3c9a2-0002"]],
    ["1", ["b1f3c9a2-0001"]],
    ["k3f7", []],
    ["nothing", []],
  ])("by %s", (what, ids) => {
    expect(storiesOf(what, stories).map(({ cause }) => cause.id)).toEqual(ids);
  });

  it("also if it cannot be read, by its id", () => {
    const broken = {
      ...message("x", "/a"),
      content: Buffer.from("{oops"),
      properties: { messageId: "broken-1", headers: {} },
    };
    const garbage = { ...eventOf({}), content: Buffer.from("not json") };
    expect(storiesOf("broken-1", told(broken, garbage)).length).toBe(1);
  });
});

it("a path that is another message's id means both: whoever publishes chooses his ids", () => {
  const stories = told(message("/asap3/b/raw/x.h5", "/asap3/a/raw/z.h5"), message("2", "/asap3/b/raw/x.h5"));
  expect(storiesOf("/asap3/b/raw/x.h5", stories).map(({ paths }) => paths[0])).toEqual([
    "/asap3/a/raw/z.h5",
    "/asap3/b/raw/x.h5",
  ]);
});

it("what is unfinished, done and failed is counted, and failures alike are one", () => {
  const times = (ready: number, ended: number | null) => ({
    ...{ ready: at(ready), received: at(ready), submitted: at(ready + 1), started: at(ready + 2) },
    ended: ended === null ? null : at(ended),
  });
  const job = (id: string, state: "completed" | "failed" | "started") => ({ ...jobData(state).job, id });
  const stories = told(
    message("1", "/raw/a.h5", -500),
    jobsEvent("1", "completed", { job: job("1", "completed"), times: times(-500, -490) }),
    message("4", "/raw/d.h5", -90),
    jobsEvent("4", "started", { job: job("4", "started"), times: times(-90, null) }),
    message("2", "/raw/b.h5", -30),
    jobsEvent("2", "failed", {
      job: job("2", "failed"),
      times: times(-30, -20),
      error: error("out-of-memory", "No memory. Its log ends: x"),
    }),
    message("3", "/raw/c.h5", -30),
    jobsEvent("3", "failed", {
      job: job("3", "failed"),
      times: times(-30, -10),
      error: error("out-of-memory", "No memory. Its log ends: y"),
    }),
    message("5", "/raw/e.h5", -5),
  );
  const { paces, oldest, unfinished, backlog, triggers, failures } = standingsOf(
    stories,
    ["t", "never"],
    NOW.getTime(),
  );
  expect(paces.map(({ arrived, done }) => [arrived, done])).toEqual([
    [3, 2],
    [5, 3],
    [5, 3],
  ]);
  const deferred = messagesEvent("9", "deferred", { error: error("data-not-there", "It is not there.") });
  expect(standingsOf(told(deferred), [], NOW.getTime()).waiting).toEqual([
    { code: "data-not-there", count: 1, since: NOW.getTime() },
  ]);
  const submitted = jobsEvent("9", "submitted", { times: { ...jobData().times, submitted: at(1) } });
  expect(standingsOf(told(deferred, submitted), [], NOW.getTime()).waiting).toEqual([]);
  expect([oldest?.name, unfinished, backlog]).toEqual(["d.h5", 2, 2]);
  expect(triggers).toMatchObject([
    { today: 4, failed: 2, median: 10_000 },
    { today: 0, median: null },
  ]);
  expect(failures).toMatchObject([{ trigger: "t", why: "No memory", count: 2 }]);
  expect(rowsOf(stories, { state: ["published"] }).map(({ name }) => name)).toEqual(["e.h5"]);
  expect(rowsOf(stories).map(({ name }) => name)).toEqual(["e.h5", "c.h5", "b.h5", "d.h5", "a.h5"]);
});

it("the condition that kept most messages from a trigger that nothing matched is told, unless they failed others too", () => {
  const sent = (id: string, data: object) => {
    const { fields, properties } = message(id, "/a");
    const event = { specversion: "1.0", id, source: "/daq", type: "mento.data.ready.v1", data };
    return { content: Buffer.from(JSON.stringify({ ...event, time: at(-5) })), fields, properties };
  };
  const stories = told(
    sent("1", { path: "/raw/a.h5", technique: "Calibration" }),
    sent("2", { path: "/raw/b.h5", technique: "Calibration" }),
    sent("3", { path: "/raw/c.h5", technique: "saxs" }),
    sent("4", { path: "/raw/d.tif", technique: "waxs" }),
    jobsEvent("3", "completed", { job: { ...jobData("completed").job, trigger: "ran" } }),
    { ...message("5", "/a"), content: Buffer.from("no message") },
  );
  const trigger = (name: string, on: object) => Trigger.parse({ name, on, run: ["/bin/true"] });
  const triggers = [
    trigger("calib", { path: "/raw/*.h5", technique: "calibration" }),
    trigger("ran", { technique: "other" }),
    trigger("follows", { type: "job.completed" }),
    trigger("waits", { technique: "waxs" }),
    trigger("far", { path: "/raw/*.cbf", technique: "xpcs" }),
  ];
  expect(nearMissesOf(stories, triggers)).toEqual([
    {
      trigger: "calib",
      reason: "technique is Calibration; the trigger wants calibration",
      count: 2,
    },
  ]);
});

describe("a reservation's time that is left", () => {
  const min = 60_000;
  const one = (left: number | null, name = "r") => ({ session: "s", name, left });
  const pace = (done: number, backlog: number) => ({
    ...standingsOf([], [], NOW.getTime()),
    backlog,
    paces: [{ milliseconds: 10 * min, arrived: 0, done }],
  });

  it("is held against what the backlog needs at the pace of the last ten minutes", () => {
    expect(backlogTakes(pace(9, 100))).toBeNull();
    expect(backlogTakes(pace(100, 200))).toBe(20 * min);
    const needs = (left: number | null, takes: number | null) => reservationNeeds([one(left)], takes);
    expect(needs(240 * min, 20 * min)).toEqual([]);
    expect(needs(240 * min, 277 * min)).toEqual([
      "At this pace the backlog outlives the reservation by 37 min",
    ]);
    expect(needs(12 * min, null)).toEqual(["Reservation r of s ends in 12 min"]);
    expect(needs(0, null)).toEqual(["Reservation r of s has ended"]);
    expect(needs(null, null)).toEqual(["Slurm has no reservation r, which s names"]);
    expect(reservationNeeds([], 99 * min)).toEqual([]);
    expect(reservationNeeds([one(5 * min), one(240 * min, "r_1")], 20 * min)).toHaveLength(1);
  });

  it("is told with its end", () => {
    const lines = (left: number | null) => reservationLines([one(left)], 30_000, NOW.getTime())[0];
    expect(lines(60 * min)).toMatch(/^r ends .*:00:00, in 1 h; backlog needs 30 s$/);
    expect(lines(Infinity)).toBe("r does not end; backlog needs 30 s");
    expect([lines(0), lines(null)]).toEqual(["r has ended", "r: Slurm has none of this name"]);
  });
});

it("a message came when its producer says, if that can be true where it stands; else when was announced what stands before", () => {
  const came = (time: string | undefined) => {
    const sent = message("2", "/b");
    const body = JSON.parse(sent.content.toString()) as Record<string, unknown>;
    const content = Buffer.from(JSON.stringify({ ...body, time }));
    const stories = told(message("1", "/a", -100), messagesEvent("1", "ignored"), { ...sent, content });
    return new Date(stories[1]?.arrived ?? 0).toISOString();
  };
  expect(came(at(-10))).toBe(at(-10));
  expect(came(at(3600))).toBe(at(3600));
  for (const time of [undefined, "9999-12-31T23:59:59Z", "1970-01-01T00:00:00Z", at(-7200)])
    expect(came(time)).toBe(NOW.toISOString());
  const [alone] = told({ ...message("1", "/a"), content: Buffer.from('{"path":"/a"}') });
  expect(standingsOf(alone === undefined ? [] : [alone], ["t"], NOW.getTime())).toMatchObject({
    ...{ oldest: null, unfinished: 1 },
    paces: [{ arrived: 0 }, { arrived: 0 }, { arrived: 0 }],
  });
});

it("of messages as they were sent the last 64 MiB are kept", () => {
  const large = (id: string) => {
    const sent = message(id, `/${id}`);
    const body = { ...(JSON.parse(sent.content.toString()) as object), subject: "x".repeat(1_000_000) };
    return { ...sent, content: Buffer.from(JSON.stringify(body)) };
  };
  const stories = new Stories(exchanges);
  for (let nth = 0; nth < 80; nth++)
    stories.add(large(`m${nth}`) as unknown as Parameters<Stories["add"]>[0]);
  for (let nth = 0; nth < 80; nth++) stories.add(large("again") as unknown as Parameters<Stories["add"]>[0]);
  const whole = stories.all.filter(({ message: sent }) => sent !== null);
  expect(stories.all).toHaveLength(81);
  expect(whole.length).toBeGreaterThan(60);
  expect(whole.length).toBeLessThan(68);
  expect(stories.all[0]).toMatchObject({ paths: ["/m0"], message: null });
});

it("durations, reasons and names are short and plain", () => {
  expect([0, 59_400, 60_000, 1_060_000, 17_280_000, 180_000_000].map(duration)).toEqual([
    ...["0 s", "59 s", "1 min", "17 min 40 s", "4 h 48 min", "2 d 2 h"],
  ]);
  expect(pendingWords("Priority", null)).toBe("other jobs are before it in the partition (Priority)");
  expect(pendingWords("None", "r")).toBe("Slurm has not said why yet");
  expect(firstSentence("It ended with code 1.5 of v2.0. Then more.")).toBe("It ended with code 1.5 of v2.0");
  expect(shortName("plla_ramp2_00412_master.h5", 20)).toBe("…mp2_00412_master.h5");
  expect(wrapped("  a bc def ghij", 8, "    ")).toEqual(["  a bc", "    def", "    ghij"]);
});

it("a worker that says nothing is silent, one that has stopped or was replaced is gone", () => {
  const beat = (worker: string, changes: Partial<Heartbeat> = {}): Heartbeat => ({
    ...{
      worker,
      host: worker,
      pid: 1,
      group: "default",
      version: "1",
      roles: ["intake"],
      configuration: "abc",
    },
    ...{ state: "ready", since: at(-1000), time: at(-5) },
    ...changes,
  });
  const beats = [
    beat("one", { time: at(-500) }),
    beat("one"),
    beat("hangs", { time: at(-120) }),
    beat("stopped"),
    beat("stopped", { state: "stopped" }),
    beat("killed", { host: "same", time: at(-300) }),
    beat("again", { host: "same", since: at(-200) }),
  ];
  const seen = workersIn(beats, NOW.getTime()).map(({ worker, isSilent }) => [worker, isSilent]);
  expect(seen).toEqual([
    ["hangs", true],
    ["one", false],
    ["again", false],
  ]);
  expect(readHeartbeat(Buffer.from(JSON.stringify(beat("x"))))).toMatchObject({ worker: "x" });
  expect([readHeartbeat(Buffer.from("{")), readHeartbeat(Buffer.from("{}"))]).toEqual([undefined, undefined]);
});
