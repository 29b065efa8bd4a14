import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { BrokerClient } from "../../src/broker/client.ts";
import { TestSite, writeOnCore } from "../support/site.ts";

const NUMBERS =
  '{"big":9007199254740993,"one":1.0,"zero":-0,"huge":1e400,"list":[1E5,-12345678901234567890]}';
const templates = ["big", "one", "zero", "huge", "list"].map((name) => `{{ parameters.${name} }}`);
const write =
  'cat "$MENTO_PARAMETERS" > "$MENTO_RESULTS_DIR/given"; printf "%s\\n" "$@" > "$MENTO_RESULTS_DIR/arguments"';
const program = ["/bin/sh", "-c", write, "sh", ...templates];
const site = new TestSite(
  [
    { name: "first", on: { technique: "numbers", parameters: { big: { min: 5 }, one: 1 } }, run: program },
    {
      name: "second",
      on: { type: "job.completed", trigger: "first" },
      method: "remote-command",
      run: program,
    },
    { name: "plain", on: { technique: "plain" }, run: ["/bin/true", "{{ path }}"] },
    { name: "named", on: { technique: "named" }, run: ["/bin/true", "{{ sample }}"] },
  ],
  { worker: { maxEventBytes: 20_000 } },
);
let client: BrokerClient;

beforeAll(async () => {
  await site.startWorker();
  client = await site.client();
});
afterAll(() => site.tearDown());

const publish = (body: string, properties: object = {}) =>
  client.publisher.publish({
    ...{ exchange: client.topology.dataExchange, routingKey: "p11.-.data.ready", body: Buffer.from(body) },
    properties: { messageId: randomUUID(), ...properties },
  });
const data = (technique: string, more = "") =>
  `{"path":"${writeOnCore()}","technique":"${technique}"${more}}`;
const binary = (id: string, type = "mento.data.ready.v1") => ({
  headers: {
    "cloudEvents:specversion": "1.0",
    "cloudEvents:id": id,
    "cloudEvents:source": "/b",
    "cloudEvents:type": type,
  },
});

it("numbers are the program's as they were written, and those of a job that follows", async () => {
  const id = randomUUID();
  await publish(data("numbers", `,"parameters":${NUMBERS}`), { messageId: id });
  for (const trigger of ["first", "second"]) {
    const event = await site.eventOf("job.completed", id, trigger);
    const folder = dirname(event.data.results[0]?.path ?? "");
    expect(readFileSync(join(folder, "given"), "utf8")).toBe(NUMBERS);
    const given = "9007199254740993\n1.0\n-0\n1e400\n1E5\n-12345678901234567890\n";
    expect(readFileSync(join(folder, "arguments"), "utf8")).toBe(given);
  }
});

describe("an event in binary mode", () => {
  it("is known by its own id: two of them with one body are two jobs", async () => {
    const body = data("plain");
    const ids = [randomUUID(), randomUUID()];
    for (const id of ids) await publish(body, binary(id));
    for (const id of ids) await site.event("job.completed", id);
  });

  it("of another type is not taken for data", async () => {
    const id = randomUUID();
    await publish(data("plain"), binary(id, "com.example.other"));
    expect((await site.event("message.rejected", id)).data.error?.code).toBe("unknown-type");
  });
});

describe("a message of 1 MiB makes no event larger than worker.maxEventBytes", () => {
  it.each<[string, string, string]>([
    ["of many mistakes", `{"path":[1${",1".repeat(500_000)}]}`, "wrong-schema"],
    [
      "of results that are none",
      `{"specversion":"1.0","id":"ID","source":"/s","type":"mento.job.completed.v1","data":{"results":[{}${",{}".repeat(330_000)}]}}`,
      "wrong-schema",
    ],
    ["of a long path", `{"technique":"plain","path":"/${"x".repeat(1_000_000)}"}`, "wrong-schema"],
    [
      "of a long unknown type",
      `{"specversion":"1.0","id":"ID","source":"/s","type":"${"t".repeat(1_000_000)}"}`,
      "wrong-schema",
    ],
  ])("%s", async (_, body, code) => {
    const id = randomUUID();
    await publish(body.replace('"ID"', `"${id}"`), { messageId: id });
    const event = await site.event("message.rejected", id);
    expect(event.data.error?.code).toBe(code);
    expect(Buffer.byteLength(JSON.stringify(event))).toBeLessThanOrEqual(20_000);
  });

  it("nor an answer to its producer", async () => {
    const channel = await client.link.consuming.createChannel();
    const { queue } = await channel.assertQueue("", { exclusive: true });
    const answer = new Promise<Buffer>((resolve) => {
      void channel.consume(queue, (message) => resolve(message?.content ?? Buffer.alloc(0)), { noAck: true });
    });
    const paths = Array.from({ length: 60 }, (_, index) => `/${"x".repeat(4000)}${index}`);
    await publish(JSON.stringify({ technique: "plain", path: paths }), { replyTo: queue });
    const bytes = await answer;
    expect(bytes.byteLength).toBeLessThanOrEqual(20_000);
    expect(JSON.parse(bytes.toString())).toMatchObject({
      error: { code: "path-outside-beamtime" },
      pathsCut: expect.any(Number) as number,
    });
    await channel.close();
  });

  it("of parameters that do not fit: the program has them, the event says that it has not", async () => {
    const id = randomUUID();
    await publish(data("plain", `,"parameters":{"x":"${"y".repeat(30_000)}"}`), { messageId: id });
    const { data: ended } = await site.event("job.completed", id);
    expect(ended).toMatchObject({ parametersCut: true, message: { parameters: {} } });
  });
});

it("a name that begins with - is not given to a program as an option", async () => {
  const id = randomUUID();
  await publish(data("named", ',"sample":"-rf"'), { messageId: id });
  expect((await site.event("message.rejected", id)).data.error?.code).toBe("wrong-argument");
});
