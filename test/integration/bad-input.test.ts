import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { GetMessage } from "amqplib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { publishDataReady, type BrokerClient } from "../../src/broker/client.ts";
import type { ErrorCode } from "../../src/errors.ts";
import { MAX_MESSAGE_BYTES } from "../../src/messages/cloud-event.ts";
import { readDeadLetter } from "../../src/messages/dead-letter.ts";
import {
  beamtime,
  eventually,
  facility,
  TestSite,
  writeData,
  writeOnCore,
  type TestWorker,
} from "../support/site.ts";

const site = new TestSite([
  { name: "powder", on: { technique: "powder" }, run: ["/bin/true", "{{ path }}"], dataTimeout: 4 },
  { name: "geometry", on: { technique: "geometry" }, run: ["/bin/true", "{{ parameters.poni }}"] },
]);
let worker: TestWorker;
let client: BrokerClient;

beforeAll(async () => {
  worker = await site.startWorker();
  client = await site.client();
});
afterAll(() => site.tearDown());

/** Publishes raw bytes as any producer could, and gives the answer, the event and the dead letter. */
async function publishRaw(body: Buffer, properties: object = {}) {
  const messageId = `bad-${Math.random()}`;
  const channel = await client.link.consuming.createChannel();
  const { queue } = await channel.assertQueue("", { exclusive: true });
  await client.publisher.publish({
    exchange: client.topology.dataExchange,
    routingKey: "p11.-.data.ready",
    body,
    properties: { messageId, replyTo: queue, headers: { theirs: "shown" }, ...properties },
  });
  const get = (from: string) => async () => {
    const found = await channel.get(from, { noAck: true });
    return found === false ? undefined : found;
  };
  const answer = await eventually("an answer", get(queue));
  const dead = await eventually("a dead letter", get(client.topology.deadQueue));
  const event = await site.event("message.rejected", messageId);
  await channel.close();
  return { answer: JSON.parse(answer.content.toString()) as typeof event.data, event, dead, messageId };
}

function expectDead(dead: GetMessage, code: ErrorCode, body: Buffer) {
  const { headers } = dead.properties;
  expect(headers).toMatchObject({ "mento-error-code": code, "mento-other-headers": `{"theirs":"shown"}` });
  expect(headers?.["mento-error-message"]).toMatch(/\w.*\.?/);
  expect(headers?.["mento-error-hint"]).toMatch(/\w/);
  expect(headers?.["mento-routing-key"]).toBe("p11.-.data.ready");
  expect(Date.parse(String(headers?.["mento-first-seen"]))).not.toBeNaN();
  expect(dead.content.equals(body)).toBe(true);
}

const json = (value: unknown) => Buffer.from(JSON.stringify(value));
const powder = (path: string | string[], more: object = {}) => json({ path, technique: "powder", ...more });
const current = join(facility.roots.gpfs, "current");

describe("bad input gets a dead letter with the reason, an event and an answer, and the worker runs on", () => {
  const cases: [string, ErrorCode, Buffer, object?][] = [
    ["not JSON", "not-json", Buffer.from("{oops")],
    ["not UTF-8", "not-utf8", Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d])],
    ["of a wrong schema", "wrong-schema", powder("/x", { filename: "a" })],
    ["a broken envelope", "wrong-schema", json({ specversion: "1.0" })],
    ["of an unknown version", "unknown-version", powder("/x"), { type: "mento.data.ready.v2" }],
    ["of an unknown type", "unknown-type", powder("/x"), { type: "hello" }],
    [
      "of an unknown beamtime",
      "unknown-beamtime",
      powder(join(current, "raw/x"), { beamtimeId: "99999999" }),
    ],
    ["of another beamline", "wrong-beamline", powder(join(current, "raw/x"), { beamline: "p02.1" })],
    ["a path outside the beamtime", "path-outside-beamtime", powder("/etc/passwd")],
    [
      "a path that climbs out",
      "path-outside-beamtime",
      powder(join(current, "raw") + "/../../../etc/passwd"),
    ],
    ["a path in scratch_bl", "path-not-synced", powder(join(current, "scratch_bl/x"))],
    [
      "an argument with a NUL byte",
      "wrong-argument",
      json({ path: join(current, "raw/x"), technique: "geometry", parameters: { poni: "a\0b" } }),
    ],
    [
      "without a value that a trigger needs",
      "template-value-missing",
      json({ path: join(current, "raw/x"), technique: "geometry" }),
    ],
  ];

  it.each(cases)("%s: %s", async (_, code, body, properties = {}) => {
    const { answer, event, dead } = await publishRaw(body, properties);
    expectDead(dead, code, body);
    expect(event.data.error?.code).toBe(code);
    expect(event.data.error?.hint).not.toBe("");
    expect(answer).toEqual(event.data);
    expect(worker.process.exitCode).toBeNull();
  });

  it("over 1 MiB: message-too-large, and the dead letter is the message as it was published", async () => {
    const body = Buffer.alloc(MAX_MESSAGE_BYTES + 1, 0x20);
    const { answer, event, dead } = await publishRaw(body);
    expect(event.data.error).toMatchObject({
      code: "message-too-large",
      message: "The message has 1048577 bytes; the limit is 1048576.",
    });
    expect(answer).toEqual(event.data);
    expect(dead.content.equals(body)).toBe(true);
    expect(dead.properties.headers).toMatchObject({ theirs: "shown" });
    expect(readDeadLetter(dead)).toMatchObject({
      error: { code: "message-too-large" },
      queue: client.topology.intakeQueue,
    });
  });

  it("headers of the producer that look like ours, or fill all the room, do not keep it from being put away", async () => {
    const headers = {
      "mento-reason": "data-not-there",
      "mento-reason-since": "soon",
      "mento-first-seen": "x",
    };
    const odd = await publishRaw(powder(join(current, "raw/never.h5")), { headers });
    expect(odd.event.data.error?.code).toBe("waited-too-long");
    const full = await publishRaw(Buffer.from("{oops"), { headers: { theirs: "x".repeat(60_000) } });
    expect(full.dead.properties.headers).toMatchObject({ "mento-error-code": "not-json" });
  });

  it("an id that was used for other data", async () => {
    const one = await publishDataReady(
      client,
      { path: writeOnCore(), technique: "powder" },
      { source: "/same" },
    );
    await site.event("job.completed", one.id);
    const other = { path: writeOnCore(), technique: "powder" };
    await publishDataReady(client, other, { source: "/same", id: one.id });
    const { data } = await site.event("message.rejected", one.id);
    expect(data.error?.code).toBe("id-reused");
    await (await client.link.consuming.createChannel()).purgeQueue(client.topology.deadQueue);
  });

  it("data that does not come in time: deferred once, then rejected with what was seen", async () => {
    const body = powder(join(current, "raw/never.h5"));
    const { event, dead, messageId } = await publishRaw(body);
    expectDead(dead, "waited-too-long", body);
    expect(event.data.error?.message).toContain(`${beamtime.corePath}/raw/never.h5 is not there`);
    const kinds = site.eventsOf(messageId).map(({ type }) => type);
    expect(kinds).toEqual(["mento.message.deferred.v1", "mento.message.rejected.v1"]);
  });
});

describe("a message that is not bad", () => {
  it("but that no trigger wants is ignored, with each trigger's reason", async () => {
    const { id } = await publishDataReady(client, { path: "/gpfs/current/raw/x", technique: "xpcs" });
    const { data } = await site.event("message.ignored", id);
    expect(data).toMatchObject({
      error: null,
      reasons: [
        { trigger: "powder", reason: "technique is xpcs; the trigger wants powder" },
        { trigger: "geometry", reason: "technique is xpcs; the trigger wants geometry" },
      ],
    });
  });

  it("waits until its data has its whole size on the core file system, and runs then", async () => {
    const data = writeData("half");
    const { id } = await publishDataReady(client, { path: data.path, bytes: 10, technique: "powder" });
    const deferred = await site.event("message.deferred", id);
    expect(deferred.data.error).toMatchObject({ code: "data-not-there" });
    writeFileSync(data.path, "half+other");
    await site.event("job.completed", id);
  });

  it("bare and without an id keeps the id of its body while it waits", async () => {
    const data = writeData("half");
    const body = json({ path: data.path, bytes: 10, technique: "powder" });
    const channel = await client.link.consuming.createChannel();
    channel.publish(client.topology.dataExchange, "p11.-.data.ready", body);
    const deferred = await eventually("deferred", () =>
      site.events.find(({ data: one, type }) => type.includes("deferred") && one.paths[0] === data.path),
    );
    writeFileSync(data.path, "half+other");
    await site.event("job.completed", deferred.data.cause.id);
  });
});
