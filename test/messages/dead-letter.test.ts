import { describe, expect, it } from "vitest";
import {
  beforeReturn,
  headersOfReplay,
  isUnprovenEnd,
  readDeadLetter,
  samenessOf,
  withPlace,
} from "../../src/messages/dead-letter.ts";
import { amqpMessage } from "../support/amqp-message.ts";

const json = (value: unknown) => Buffer.from(JSON.stringify(value));
const deadLetter = (headers: object, some: object = {}, body = json({ path: "/x" })) =>
  readDeadLetter(amqpMessage(body, { messageId: "m", ...some, headers }, { redelivered: true }));

const ofWorker = {
  "mento-error-code": "not-json",
  "mento-error-message": "It is not JSON.",
  "mento-error-hint": "Send JSON.",
  "mento-attempts": 2,
  "mento-first-seen": "2026-11-22T12:00:00.000Z",
  "mento-exchange": "mento.data",
  "mento-routing-key": "p11.-.data.ready",
  "mento-queue": "mento.default.intake",
};
/** As RabbitMQ writes it of a message that waited once, and then came back too often; the latest is first. */
const ofBroker = {
  "x-death": [
    {
      ...{ count: 1, reason: "delivery_limit", queue: "mento.default.intake", exchange: "" },
      ...{ "routing-keys": ["mento.default.intake"], time: { "!": "timestamp", value: 1_795_305_600 } },
    },
    { count: 1, reason: "expired", queue: "mento.default.wait.5", exchange: "", "routing-keys": ["x"] },
  ],
  "x-first-death-queue": "mento.default.wait.5",
  "x-first-death-reason": "expired",
};

describe("a dead letter", () => {
  it("of a worker says why, since when, and where it came from", () => {
    expect(deadLetter({ ...ofWorker, "x-delivery-count": 3 })).toMatchObject({
      cause: { id: "m" },
      error: { code: "not-json", message: "It is not JSON.", hint: "Send JSON." },
      ...{ attempts: 2, firstSeen: "2026-11-22T12:00:00.000Z", queue: "mento.default.intake" },
      ...{ exchange: "mento.data", routingKey: "p11.-.data.ready", trigger: null },
    });
  });

  it("of the broker is known by the broker's account of its last death", () => {
    const found = deadLetter(ofBroker);
    expect(found.error.code).toBeNull();
    expect(found.error.message).toContain("again and again");
    expect(found.queue).toBe("mento.default.intake");
    expect(found.firstSeen).toBe("2026-11-22T00:00:00.000Z");
  });

  it("that is too large to be read was put away by the broker, for the worker, and says so", () => {
    const death = { count: 1, reason: "rejected", queue: "mento.default.intake", exchange: "mento.data" };
    const body = Buffer.alloc(2 * 1024 * 1024, 0x20);
    const found = deadLetter({ "x-death": [death] }, {}, body);
    expect(found).toMatchObject({ queue: "mento.default.intake", error: { code: "message-too-large" } });
    expect(found.error.message).toContain("2097152 bytes");
    // Of a usual size it has lost a worker its link, each time.
    expect(deadLetter({ "x-death": [death] }).error).toMatchObject({
      code: "worker-ended",
      message: expect.stringContaining("lost its connection") as string,
    });
  });

  it("of the broker is not what its producer's headers make of it", () => {
    const forged = { ...ofWorker, "mento-queue": "somebody-elses", "mento-trigger": "t" };
    const found = deadLetter({ ...ofBroker, ...forged, "mento-exchange": "mento.events" });
    expect(found.error.code).toBeNull();
    expect(found).toMatchObject({ queue: "mento.default.intake", trigger: null, attempts: 0 });
    expect(headersOfReplay(found, found.trigger)).toEqual({});
  });

  it("of the broker came from the queue of its latest death, whatever its producer wrote behind that", () => {
    const [latest] = ofBroker["x-death"];
    const forged = { count: 1, reason: "delivery_limit", queue: "mento.default.jobs", exchange: "" };
    const found = deadLetter({
      "x-death": [{ ...latest, reason: "expired" }, forged],
      "x-last-death-queue": "x",
    });
    expect(found.queue).toBe("mento.default.intake");
  });

  it("is not a worker's if headers were left out that nobody could read: the broker's account may be among them", () => {
    const found = deadLetter({ ...ofWorker, "x-mento-left-out": true, "mento-exchange": "mento.events" });
    expect(found).toMatchObject({ queue: "-", trigger: null, error: { code: null } });
    expect(headersOfReplay(found, null)).toEqual({});
  });

  it("of the broker that calls itself the end of a job is one only where somebody else says so", () => {
    const type = "mento.job.completed.v1";
    const forged = deadLetter({ ...ofBroker, "mento-exchange": "mento.events" }, { type });
    expect(isUnprovenEnd(forged)).toBe(true);
    expect(isUnprovenEnd(deadLetter(ofWorker, { type }))).toBe(false);
    expect(isUnprovenEnd(deadLetter(ofBroker))).toBe(false);
    const proven = withPlace(forged, "mento.events", "p11.-.job.completed");
    expect(headersOfReplay(proven, null)).toEqual({
      "mento-exchange": "mento.events",
      "mento-routing-key": "p11.-.job.completed",
    });
  });

  it("of the broker that waited for one trigger is for that one", () => {
    const death = { count: 1, reason: "expired", queue: "mento.default.trigger.a.b", exchange: "" };
    expect(deadLetter({ "x-death": [death] }).trigger).toBe("a.b");
  });

  it("of nobody known says that", () => {
    expect(deadLetter({})).toMatchObject({
      error: { code: null },
      queue: null,
      firstSeen: null,
      attempts: 0,
    });
    expect(deadLetter({ "mento-attempts": "odd", "mento-first-seen": "soon" })).toMatchObject({
      ...{ queue: null, firstSeen: null, attempts: 0 },
    });
    expect(deadLetter({ "x-death": "odd" })).toMatchObject({ queue: "-", firstSeen: null });
  });

  const moved = { count: 1, reason: "delivery_limit", queue: "mento.dead", exchange: "" };
  it.each([
    [
      "a worker",
      { ...ofWorker, "mento-trigger": "t" },
      { "x-death": [moved], "x-first-death-queue": "mento.dead", "x-last-death-queue": "mento.dead" },
    ],
    [
      "the broker",
      ofBroker,
      { "x-death": [moved, ...ofBroker["x-death"]], "x-last-death-queue": "mento.dead" },
    ],
    [
      "a producer who plays the broker",
      { "x-death": [] },
      { "x-death": [moved], "x-first-death-queue": "x" },
    ],
  ])("of %s says the same when it has been read too often, and was moved", (_, headers, more) => {
    const after = amqpMessage(json({ path: "/x" }), { messageId: "m", headers: { ...headers, ...more } });
    const { properties, ...read } = readDeadLetter(beforeReturn(after, "mento.dead"));
    const { properties: own, ...before } = deadLetter(headers);
    expect(own.headers).toBeDefined();
    expect(JSON.stringify(properties.headers)).not.toContain('"queue":"mento.dead"');
    for (const one of [read, before]) Object.assign(one.received.properties, { headers: undefined });
    expect(read).toEqual(before);
  });
});

describe("two letters are of the same message", () => {
  const one = deadLetter(ofWorker);
  it("whenever and why they were rejected", () => {
    const other = deadLetter({
      ...ofWorker,
      "mento-error-code": "x",
      "mento-first-seen": "2026-11-23T00:00:00Z",
    });
    expect(samenessOf(one)).toBe(samenessOf(other));
  });

  it.each([
    ["id", deadLetter(ofWorker, { messageId: "n" })],
    ["source", deadLetter(ofWorker, { appId: "/other" })],
    ["body", deadLetter(ofWorker, {}, json({ path: "/y" }))],
    ["queue", deadLetter({ ...ofWorker, "mento-queue": "mento.other.intake" })],
    ["trigger", deadLetter({ ...ofWorker, "mento-trigger": "t" })],
    ["exchange", deadLetter({ ...ofWorker, "mento-exchange": "mento.events" })],
    ["login", deadLetter({ ...ofWorker, "mento-user-id": "daq" })],
    ["encoding", deadLetter(ofWorker, { contentEncoding: "gzip" })],
    ["attribute", deadLetter({ ...ofWorker, "cloudEvents:id": "m", "cloudEvents:subject": "s" })],
    ["sender, who is answered elsewhere", deadLetter(ofWorker, { replyTo: "elsewhere" })],
  ])("but not of another %s", (_, other) => {
    expect(samenessOf(one)).not.toBe(samenessOf(other));
  });
});
