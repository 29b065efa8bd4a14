import { join } from "node:path";
import { createHash, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { BrokerClient } from "../../src/broker/client.ts";
import { mento, tryMento } from "../support/mento.ts";
import { brokerLogin, type BrokerLogin } from "../support/broker-login.ts";
import {
  connectRaw,
  double,
  field,
  longString,
  rawProperties,
  shortString,
  table,
  u16,
  u32,
  u64,
  type RawProperties,
  type RawPublisher,
} from "../support/raw-amqp.ts";
import { beamtime, eventually, TestSite, writeOnCore, type TestWorker } from "../support/site.ts";

// A producer's login, which may write to the exchange for data alone, publishes what it likes.

const site = new TestSite([
  { name: "powder", on: { technique: "powder" }, run: ["/bin/true", "{{ path }}"] },
  { name: "other", on: { technique: "other" }, run: ["/bin/true", "{{ path }}"] },
  {
    name: "after",
    on: { type: "job.completed", trigger: "other" },
    method: "local-bash-script",
    run: ["/bin/true"],
  },
]);
let worker: TestWorker;
let client: BrokerClient;
let producer: RawPublisher;
let login: BrokerLogin;

beforeAll(async () => {
  worker = await site.startWorker();
  client = await site.client();
  login = await brokerLogin({ configure: "", write: `^${site.prefix}\\.data$`, read: "" });
  producer = await connectRaw(login.url);
});
afterAll(async () => {
  producer.close();
  await login.remove();
  await site.tearDown();
});

const json = (value: unknown) => Buffer.from(JSON.stringify(value));
const text = (value: string) => field("S", longString(value));
const list = (...values: Buffer[]) => field("A", longString(Buffer.concat(values)));
const queue = (name: string) => `${site.prefix}.default.${name}`;

function publish(body: Buffer, properties: RawProperties): Promise<string> {
  return producer.publish({
    ...{ exchange: `${site.prefix}.data`, routingKey: "p11.-.data.ready", body },
    properties: rawProperties(properties),
  });
}

async function send(body: Buffer, properties: RawProperties): Promise<string> {
  const messageId = randomUUID();
  expect(await publish(body, { messageId: shortString(messageId), ...properties })).toBe("ack");
  return messageId;
}

/** A message of a producer that means well. */
async function runsHealthy(): Promise<void> {
  const id = await send(json({ path: writeOnCore(), technique: "powder" }), {});
  await site.completesOnce(id);
}

async function waitingIn(name: string): Promise<number> {
  const channel = await client.link.consuming.createChannel();
  const { messageCount } = await channel.checkQueue(name);
  await channel.close();
  return messageCount;
}

async function takeDead() {
  const channel = await client.link.consuming.createChannel();
  const found = await eventually("a dead letter", async () => {
    const one = await channel.get(`${site.prefix}.dead`, { noAck: true });
    return one === false ? undefined : one;
  });
  await channel.close();
  return found;
}

const lostLinks = () => worker.log.split("The connection to RabbitMQ broke").length - 1;

describe("a producer's headers", () => {
  it.each(["CC", "BCC"])(
    "%s brings no byte of his to a queue of Mento's, when it is rejected or replayed",
    async (name) => {
      const targets = ["intake", "jobs", "wait.1", "trigger.powder"].map((one) => text(queue(one)));
      const headers = table([[name, list(...targets, text(`${site.prefix}.dead`))]]);
      const id = await send(json({ path: "/etc/passwd", technique: "powder" }), { headers });
      await site.event("message.rejected", id);
      await mento("dead", "replay", "-c", site.configFile, "--rate", "100");
      await eventually("it is rejected again", async () =>
        (await waitingIn(`${site.prefix}.dead`)) === 1 ? true : undefined,
      );
      const shown = await mento("dead", "show", id, "-c", site.configFile);
      // RabbitMQ takes BCC out by itself.
      if (name === "CC") expect(shown.stdout).toContain(queue("jobs"));
      const dead = await takeDead();
      expect(Object.keys(dead.properties.headers ?? {}).filter((one) => !/^(mento|x)-/.test(one))).toEqual(
        [],
      );
      expect(await waitingIn(`${site.prefix}.dead`)).toBe(0);
      expect(worker.log).not.toContain("put aside");
      await runsHealthy();
    },
  );

  it("of Mento's own names change nothing", async () => {
    const forged = ["trigger", "queued-for", "concurrency-key", "order", "exchange", "session"].map(
      (name) => [`mento-${name}`, text(name === "queued-for" ? "powder other after" : "other")] as const,
    );
    const times = ["first-seen", "reason-since"].map(
      (name) => [`mento-${name}`, text("2001-01-01T00:00:00.000Z")] as const,
    );
    const counts = [["x-delivery-count", field("I", u32(60))]] as const;
    const reasons = [["mento-reason", text("data-not-there")]] as const;
    const headers = table([...forged, ...times, ...counts, ...reasons]);
    const id = await send(json({ path: writeOnCore(), technique: "powder" }), { headers });
    await site.completesOnce(id);
    expect(new Set(site.jobEventsOf(id).map(({ data }) => data.job.trigger))).toEqual(new Set(["powder"]));
    // Late data is waited for, whatever the headers say of how long it was.
    const late = join(beamtime.corePath, "raw", `late_${id}.dat`);
    const waits = await send(json({ path: late, technique: "powder" }), { headers });
    await site.event("message.deferred", waits);
    writeOnCore("data\n", undefined, late);
    await site.completesOnce(waits);
  });
});

describe("what amqplib cannot read, or not write", () => {
  const deep = (levels: number, tag: "F" | "A") => {
    let inner = longString("");
    for (let level = 0; level < levels; level++) {
      inner = tag === "F" ? table([["a", field("F", inner)]]) : longString(field("A", inner));
    }
    return field(tag, inner);
  };
  it.each<[string, RawProperties]>([
    ["a time of 2^64 - 1", { timestamp: u64(2n ** 64n - 1n) }],
    ["a header of -1e300", { headers: table([["a", field("d", double(-1e300))]]) }],
    ["a table with the key !", { headers: table([["a", field("F", table([["!", text("timestamp")]]))]]) }],
    ["a header of the type L", { headers: table([["a", field("L", u64(1n))]]) }],
    ["10,000 tables in one another", { headers: table([["a", deep(10_000, "F")]]) }],
    ["20,000 arrays in one another", { headers: table([["a", deep(20_000, "A")]]) }],
    [
      "properties that are not UTF-8",
      { appId: shortString(Buffer.alloc(255, 0xff)), type: shortString(Buffer.alloc(255, 0xfe)) },
    ],
    ["60 kB of headers", { headers: table([["a", text("x".repeat(60_000))]]) }],
    [
      "a header without a name",
      {
        headers: table([
          ["", text("x")],
          ["__proto__", text("y")],
        ]),
      },
    ],
  ])("%s is the message's own affair", async (_, properties) => {
    const before = lostLinks();
    const path = `/nowhere/${randomUUID()}`;
    await send(json({ path, technique: "powder" }), properties);
    const event = await eventually("it is rejected", () =>
      site.events.find(({ data }) => (data as { paths?: string[] }).paths?.includes(path)),
    );
    expect(event.type).toBe("mento.message.rejected.v1");
    await takeDead();
    await runsHealthy();
    expect(lostLinks()).toBe(before);
  });

  it("is put away whatever a client's properties are, and a healthy message behind is done", async () => {
    const before = lostLinks();
    const tagged: fc.Arbitrary<Buffer> = fc.letrec<{ value: Buffer }>((tie) => ({
      value: fc.oneof(
        { depthSize: "small" },
        fc.uint8Array({ maxLength: 40 }).map((bytes) => field("S", longString(Buffer.from(bytes)))),
        fc.uint8Array({ maxLength: 40 }).map((bytes) => field("x", longString(Buffer.from(bytes)))),
        fc
          .bigInt({ min: 0n, max: 2n ** 64n - 1n })
          .chain((n) => fc.constantFrom("l", "L", "T").map((tag) => field(tag, u64(n)))),
        fc.nat(2 ** 31).chain((n) => fc.constantFrom("I", "i").map((tag) => field(tag, u32(n)))),
        fc.nat(65_535).chain((n) => fc.constantFrom("s", "u").map((tag) => field(tag, u16(n)))),
        fc.nat(255).chain((n) => fc.constantFrom("b", "B", "t").map((tag) => field(tag, Buffer.from([n])))),
        fc.double({ noNaN: true, noDefaultInfinity: true }).map((n) => field("d", double(n))),
        fc.constant(field("V")),
        fc.nat(255).map((places) => field("D", Buffer.concat([Buffer.from([places]), u32(7)]))),
        fc.array(tie("value"), { maxLength: 4 }).map((values) => list(...values)),
        fc
          .array(fc.tuple(fc.constantFrom("!", "value", "a", "__proto__"), tie("value")), { maxLength: 4 })
          .map((entries) => field("F", table(entries))),
      ),
    })).value;
    const name = fc.oneof(
      fc.constantFrom(
        ...[
          "CC",
          "BCC",
          "x-death",
          "x-delivery-count",
          "mento-trigger",
          "mento-concurrency-key",
          "mento-mark",
        ],
      ),
      fc.constantFrom(...["cloudEvents:id", "cloudEvents_type", "ce-source", "traceparent", "mento-queue"]),
      fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes)),
    );
    const short = fc.uint8Array({ maxLength: 255 }).map((bytes) => shortString(Buffer.from(bytes)));
    // RabbitMQ closes the channel for a CC that is no list, for a user_id of another's, and an expiration that is no number.
    const entries = fc
      .array(fc.tuple(name, tagged), { maxLength: 8 })
      .map((all) =>
        all.map(
          ([key, value]) => [key, key === "CC" || key === "BCC" ? list(text(queue("jobs"))) : value] as const,
        ),
      );
    const properties = fc.record(
      {
        headers: entries.map((all) => table(all)),
        ...{
          contentType: short,
          correlationId: short,
          replyTo: short,
          messageId: short,
          type: short,
          appId: short,
        },
        timestamp: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map(u64),
        priority: fc.nat(255).map((n) => Buffer.from([n])),
        clusterId: short,
      },
      { requiredKeys: [] },
    );
    const paths: string[] = [];
    const refused: string[] = [];
    for (const one of fc.sample(properties, 150)) {
      const path = `/nowhere/${randomUUID()}`;
      const answer = await publish(json({ path, technique: "powder" }), one);
      if (answer === "ack") {
        paths.push(path);
        continue;
      }
      // RabbitMQ itself does not take it, and ends the connection.
      refused.push(answer);
      producer.close();
      producer = await connectRaw(login.url);
    }
    expect(paths.length, refused.join()).toBeGreaterThan(100);
    await runsHealthy();
    await eventually(
      () => `all are put away; missing ${paths.filter((path) => !isTold(path)).length}`,
      () => (paths.every(isTold) ? true : undefined),
    );
    expect(lostLinks()).toBe(before);
    // Of those for which RabbitMQ ended the connection some were in the queue already.
    const deadLetters = await waitingIn(`${site.prefix}.dead`);
    expect(deadLetters).toBeGreaterThanOrEqual(paths.length);
    const listed = await mento("dead", "list", "-c", site.configFile);
    expect(listed.stdout.trim().split("\n")).toHaveLength(deadLetters);
    await mento("dead", "replay", "-c", site.configFile, "--rate", "1000");
    await eventually("all are rejected again", async () =>
      (await waitingIn(`${site.prefix}.dead`)) === deadLetters ? true : undefined,
    );
    await mento("dead", "drop", "--all", "-c", site.configFile);
    expect(worker.log).not.toContain("put aside");
  });

  const isTold = (path: string) =>
    site.events.some(({ data }) => (data as { paths?: string[] }).paths?.includes(path));
});

describe("messages of many times what a worker reads", () => {
  const BYTES = 15 * 1024 * 1024;
  const COUNT = 24;

  it("wait for a worker without being loaded by it, and all of each is a dead letter that can be sent again", async () => {
    const away = new TestSite([{ name: "powder", on: { technique: "powder" }, run: ["/bin/true"] }]);
    await (await away.startWorker()).stop();
    const other = await brokerLogin({ configure: "", write: `^${away.prefix}\\.data$`, read: "" });
    const raw = await connectRaw(other.url);
    const bodies = Array.from({ length: COUNT }, (_, index) => Buffer.alloc(BYTES, 0x61 + index));
    for (const body of bodies) {
      const routingKey = "p11.-.data.ready";
      // Without an id: each is known by the hash of its body.
      const answer = await raw.publish({
        ...{ exchange: `${away.prefix}.data`, routingKey, body, properties: rawProperties({}) },
      });
      expect(answer).toBe("ack");
    }
    raw.close();
    const reader = await away.startWorker();
    const ids = bodies.map((body) => createHash("sha256").update(body).digest("hex"));
    for (const id of ids) {
      const { data } = await away.event("message.rejected", id);
      expect(data.error).toMatchObject({ code: "message-too-large" });
    }
    // A worker that has done nothing yet has some 110 MB.
    expect(peakMegabytesOf(reader)).toBeLessThan(180);
    const list = async () => (await mento("dead", "list", "--json", "-c", away.configFile)).stdout;
    const listed = await eventually("all are dead letters", async () => {
      const lines = (await list()).trim().split("\n");
      return lines.length === COUNT ? lines : undefined;
    });
    const deadLetters = listed.map(
      (line) => JSON.parse(line) as { id: string; bytes: number; error: object },
    );
    expect(deadLetters.map(({ id }) => id).sort()).toEqual([...ids].sort());
    for (const { bytes, error } of deadLetters) {
      expect(bytes).toBe(BYTES);
      expect(error).toMatchObject({ code: "message-too-large" });
    }
    const [first = ""] = ids;
    await mento("dead", "replay", first, "-c", away.configFile);
    await eventually("it is put away again", async () =>
      (await list()).trim().split("\n").length === COUNT ? true : undefined,
    );
    await mento("dead", "drop", "--all", "-c", away.configFile);
    await other.remove();
    await away.tearDown();
  });

  /** The most memory that the process has had at any time. */
  function peakMegabytesOf({ process: { pid } }: TestWorker): number {
    const status = readFileSync(`/proc/${pid ?? 0}/status`, "utf8");
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024;
  }
});

describe("a message that would make a script of many times its size", () => {
  it.each([
    ["parameters", { path: join(beamtime.corePath, "raw/a"), parameters: { a: "'".repeat(1_000_000) } }],
    ["paths", { path: Array<string>(300).fill(join(beamtime.corePath, "'".repeat(740))) }],
  ])("of its %s is rejected, and keeps others waiting for nothing", async (_, data) => {
    const before = lostLinks();
    const body = json({ technique: "powder", ...data });
    // One by one: RabbitMQ 4 confirms several at once.
    const ids = [await send(body, {}), await send(body, {}), await send(body, {})];
    for (const id of ids) {
      expect((await site.event("message.rejected", id)).data.error?.code).toBe("wrong-argument");
      await takeDead();
    }
    await runsHealthy();
    expect(lostLinks()).toBe(before);
  });
});

describe("what a producer says of others' work", () => {
  it("is no event of a job: nothing follows from it, and no subscriber hears it", async () => {
    const id = await send(json({ path: writeOnCore(), technique: "powder" }), {});
    const { specversion, source, type, data } = await site.event("job.completed", id);
    const forged = { specversion, source, type, id: randomUUID(), data };
    await send(json(forged), { messageId: shortString(forged.id) });
    const rejected = await eventually("it is rejected", () =>
      site.events.find((one) => one.data.error?.code === "event-not-believed"),
    );
    expect(rejected.type).toBe("mento.message.rejected.v1");
    expect(site.events.filter((one) => one.id === forged.id)).toEqual([]);
    await takeDead();
  });

  it.each([
    ["a queue of Mento's", () => queue("jobs")],
    // RabbitMQ's name for a client's channel: of text in this place that it cannot decode it ends the publisher's connection.
    ["what RabbitMQ decodes", () => "amq.rabbitmq.reply-to.!!!!.x"],
  ])("is not answered in %s", async (_, name) => {
    const before = lostLinks();
    const replyTo = shortString(name());
    const id = await send(json({ path: "/etc/passwd", technique: "powder" }), { replyTo });
    await site.event("message.rejected", id);
    const said = `{"level":"warn",.*"replyTo":"${name()}".*is not answered`;
    await eventually("that is said", () => (new RegExp(said).test(worker.log) ? true : undefined));
    await takeDead();
    await runsHealthy();
    expect(worker.log).not.toContain("put aside");
    expect(lostLinks()).toBe(before);
    expect(await waitingIn(`${site.prefix}.dead`)).toBe(0);
  });
});

describe("an answer that its producer's queue does not take", () => {
  it("is not waited for, however many there are: his messages are put away, and others' run", async () => {
    const channel = await client.link.consuming.createChannel();
    const full = await channel.assertQueue("", {
      exclusive: true,
      arguments: { "x-max-length": 1, "x-overflow": "reject-publish" },
    });
    channel.sendToQueue(full.queue, Buffer.from("x"));
    const gone = `amq.gen-${randomUUID()}`;
    const before = lostLinks();
    const from = worker.log.length;
    const ids: string[] = [];
    for (const [index, replyTo] of Array.from({ length: 20 }, () => [full.queue, gone])
      .flat()
      .entries()) {
      ids.push(
        await send(json({ path: `/etc/${index}`, technique: "powder" }), { replyTo: shortString(replyTo) }),
      );
    }
    await runsHealthy();
    for (const id of ids) await site.event("message.rejected", id);
    await eventually("all are dead letters", async () =>
      (await waitingIn(`${site.prefix}.dead`)) === ids.length ? true : undefined,
    );
    const said =
      worker.log.slice(from).match(/"code":"[^"]*","msg":"the producer does not take its answer"/g) ?? [];
    expect(said.filter((line) => line.includes("publish-refused"))).toHaveLength(20);
    expect(said.filter((line) => line.includes("nobody-listens"))).toHaveLength(20);
    expect(lostLinks()).toBe(before);
    await channel.purgeQueue(`${site.prefix}.dead`);
    await channel.close();
  });
});

describe("what the broker itself puts away", () => {
  type Entries = (readonly [string, Buffer])[];
  const death = (...entries: Entries) => list(field("F", table(entries)));
  const forged = (prefix: string, more: Entries = []): readonly [string, Buffer] => [
    "x-death",
    death(
      ["count", field("l", u64(1n))],
      ["reason", text("delivery_limit")],
      ["queue", text(`${prefix}.default.jobs`)],
      ["exchange", text(`${prefix}.events`)],
      ...more,
    ),
  ];
  const ours = [
    ...[["mento-queue", text(queue("jobs"))] as const, ["mento-trigger", text("other")] as const],
    ...[["mento-mark", text("x")] as const, ["mento-exchange", text(`${site.prefix}.events`)] as const],
  ];

  it.each([
    ["a list of deaths", (prefix) => [forged(prefix)]],
    ["two lists of deaths", (prefix) => [forged(prefix), forged(prefix)]],
    ["a list of deaths that nobody can read", (prefix) => [forged(prefix, [["deep", deepTables(40)]])]],
    [
      "the death that it will have, which names a second queue,",
      (prefix) => [
        [
          "x-death",
          death(
            ["count", field("l", u64(1n))],
            ["reason", text("expired")],
            ["queue", text(`${prefix}.default.intake`)],
            ["queue", text(`${prefix}.default.jobs`)],
          ),
        ],
      ],
    ],
  ] satisfies [string, (prefix: string) => Entries][])(
    "with %s of its producer's is shown, and goes nowhere but to the intake",
    async (_, entriesOf) => {
      const away = new TestSite([{ name: "powder", on: { technique: "powder" }, run: ["/bin/true"] }]);
      const stopped = await away.startWorker();
      await stopped.stop();
      const other = await brokerLogin({ configure: "", write: `^${away.prefix}\\.data$`, read: "" });
      const raw = await connectRaw(other.url);
      const answer = await raw.publish({
        ...{ exchange: `${away.prefix}.data`, routingKey: "p11.-.data.ready", body: json({ job: "x" }) },
        properties: rawProperties({
          headers: table([...entriesOf(away.prefix), ...ours]),
          ...{
            expiration: shortString("1"),
            messageId: shortString("expired"),
            type: shortString("mento.job.cancel.v1"),
          },
        }),
      });
      expect(answer).toBe("ack");
      const listed = await eventually("it is a dead letter", async () => {
        const { stdout } = await mento("dead", "list", "--all-groups", "-c", away.configFile);
        return stdout.includes("expired") ? stdout : undefined;
      });
      expect(listed).not.toContain("default.jobs");
      const replayed = await tryMento(["dead", "replay", "--all-groups", "--json", "-c", away.configFile]);
      const outcomes = replayed.stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as { queue: string });
      expect(outcomes).toHaveLength(1);
      expect(["-", `${away.prefix}.default.intake`]).toContain(outcomes[0]?.queue);
      raw.close();
      await other.remove();
      await away.tearDown();
    },
  );

  it("in the history, with places of its producer's, hides no event from those who listen", async () => {
    const offset = ["x-stream-offset", field("l", u64(9_007_199_254_740_000n))] as const;
    const headers = table([offset, offset, offset]);
    const path = `/nowhere/${randomUUID()}`;
    await send(json({ path, technique: "powder" }), { headers });
    await takeDead();
    await runsHealthy();
  });
});

function deepTables(levels: number): Buffer {
  let inner = longString("");
  for (let level = 0; level < levels; level++) inner = table([["a", field("F", inner)]]);
  return field("F", inner);
}

describe("what lies on the queue of tracking records and does not belong there", () => {
  it.each([
    ["text", Buffer.from("oops"), {}],
    ["a record with a folder of its own", json({ version: 1, jobsDirectory: "/tmp" }), {}],
    ["a request to cancel that is none", json({ job: "x" }), { type: "mento.job.cancel.v1" }],
  ])("is put aside: %s", async (_, body, properties) => {
    const messageId = randomUUID();
    await client.publisher.publish({
      ...{ exchange: "", routingKey: queue("jobs"), body },
      properties: { messageId, ...properties },
    });
    const dead = await takeDead();
    expect(dead.content.equals(body)).toBe(true);
    expect(dead.properties.headers).toMatchObject({
      "mento-error-code": "record-unfit",
      "mento-queue": queue("jobs"),
    });
    await runsHealthy();
  });
});
