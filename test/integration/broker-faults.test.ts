import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { connectBroker, publishDataReady } from "../../src/broker/client.ts";
import { DeadLetters } from "../../src/broker/dead-letters.ts";
import { TcpProxy } from "../../src/facility/tcp-proxy.ts";
import { collectEvents } from "../support/collect-events.ts";
import { listen } from "../support/event-source.ts";
import { tryMento } from "../support/mento.ts";
import { OwnFacility } from "../support/own-facility.ts";
import { eventually, TestSite, TestWorker, writeOnCore } from "../support/site.ts";

let own: OwnFacility;
let proxy: TcpProxy;
let site: TestSite;
/** A worker, and one subscription over the same wire, which meet everything here. */
let worker: TestWorker;
let subscription: Awaited<ReturnType<typeof listen>>;
const stopped = new AbortController();

/** Runs until its data is told to be over: a job that ends when a test says so, however slow the machine is. */
const untilLetGo = 'while [ ! -e "$0.over" ]; do sleep 0.2; done';

beforeAll(async () => {
  own = await OwnFacility.start({ broker: "own" });
  const url = new URL(own.facility.broker.url);
  proxy = await TcpProxy.to(Number(url.port));
  url.port = String(proxy.port);
  const triggers = [
    { name: "quick", on: { technique: "quick" }, run: ["/bin/true"] },
    { name: "nap", on: { technique: "nap" }, run: ["/bin/sleep", "4"] },
    { name: "sleep", on: { technique: "sleep" }, run: ["/bin/sleep", "15"] },
    { name: "held", on: { technique: "held" }, run: ["/bin/sh", "-c", untilLetGo, "{{ path }}"] },
  ];
  site = new TestSite(triggers, { broker: { url: url.href } }, own);
  worker = new TestWorker(site.configFile);
  await worker.ready();
  await collectEvents(site, own.facility.broker.url, stopped.signal);
  const client = await connectBroker({ url: url.href, prefix: site.prefix });
  stopped.signal.addEventListener("abort", () => void client.close());
  subscription = await listen(client);
});

afterAll(async () => {
  expect(worker.process.exitCode, worker.log).toBeNull();
  expect(await worker.stop()).toBe(0);
  stopped.abort();
  await site.tearDown();
  await proxy.close();
  await own.tearDown();
});

async function publish(technique: string, path = writeOnCore("data\n", own)): Promise<string> {
  const client = await connectBroker({ url: own.facility.broker.url, prefix: site.prefix });
  const { id } = await publishDataReady(client, { path, technique });
  await client.close();
  return id;
}

function limitTo(most: number): Promise<string> {
  return own.rabbitmqctl(
    "eval",
    // RabbitMQ 3 reads the one when a channel is opened, RabbitMQ 4 the other.
    `application:set_env(rabbit, max_message_size, ${most}), persistent_term:put(max_message_size, ${most}).`,
  );
}

/** Waits until the worker has logged this after the place in its log. */
async function logged(from: number, what: RegExp): Promise<void> {
  await eventually(
    () => `the worker logs ${what.source}; it said ${worker.log.slice(from)}`,
    () => what.test(worker.log.slice(from)) || undefined,
  );
}

const readyAgain = (from: number) => logged(from, /"msg":"ready"/);

/** With channels that have the broker's settings of now, and no memory of links that were lost. */
async function startAgain(): Promise<void> {
  expect(await worker.stop(), worker.log).toBe(0);
  worker = new TestWorker(site.configFile);
  await worker.ready();
}

describe("a worker goes on", () => {
  it.each(["SIGTERM", "SIGKILL"] as const)(
    "after the broker was ended by %s, and started again",
    async (signal) => {
      const from = worker.log.length;
      const id = await publish("nap");
      await site.event("job.submitted", id);
      await own.endBroker(signal);
      await own.startBroker();
      await readyAgain(from);
      await site.completesOnce(await publish("quick"));
      await site.completesOnce(id);
    },
  );

  it("after the broker has closed its channel for a late ack (406)", async () => {
    await own.rabbitmqctl("eval", "application:set_env(rabbit, consumer_timeout, 4000).");
    await own.rabbitmqctl("eval", "application:set_env(rabbit, channel_tick_interval, 1000).");
    await startAgain();
    const from = worker.log.length;
    // Its record is held as long as it runs.
    const id = await publish("sleep");
    await logged(from, /PRECONDITION_FAILED - delivery acknowledgement/);
    await site.completesOnce(id);
    await own.rabbitmqctl("eval", "application:set_env(rabbit, consumer_timeout, 1800000).");
    await startAgain();
  });

  it("after the broker has closed its channel for the size of an event (406), which it then cuts, as it does the next", async () => {
    const bytes = 20_000;
    // Of no trigger: the event has all that the message has, and a reason for each trigger.
    const paths = Array.from({ length: 100 }, (_, index) => `/${"x".repeat(189)}${index}`);
    const ignored = async () => {
      const client = await connectBroker({ url: own.facility.broker.url, prefix: site.prefix });
      const { id } = await publishDataReady(client, { path: paths, technique: "of nobody" });
      await client.close();
      return site.event("message.ignored", id);
    };
    expect(JSON.stringify(await ignored()).length).toBeGreaterThan(bytes);
    await limitTo(bytes);
    await startAgain();
    const from = worker.log.length;
    for (let messages = 0; messages < 3; messages++) {
      const event = await ignored();
      expect(JSON.stringify(event).length).toBeLessThanOrEqual(bytes);
      expect(event.data.reasonsCut).toBeGreaterThan(0);
    }
    expect(worker.log.slice(from).match(/PRECONDITION_FAILED - message size/g)).toHaveLength(1);
    await limitTo(134_217_728);
    await startAgain();
    await site.completesOnce(await publish("quick"));
  });

  it("after the broker has refused the record of a job for its size (406): the job is watched, and runs once", async () => {
    const bytes = 20_000;
    await limitTo(bytes);
    await startAgain();
    const path = writeOnCore("data\n", own);
    const messages = ["a", "b"].map((deadLetter) => ({
      ...{ path, technique: "quick" },
      // The message is just below the limit; what is said of its job has all of it, and more.
      parameters: { calibration: deadLetter.repeat(bytes - 700) },
    }));
    for (const data of messages) {
      const client = await connectBroker({ url: own.facility.broker.url, prefix: site.prefix });
      const { id } = await publishDataReady(client, data);
      await client.close();
      await site.completesOnce(id);
      expect(site.eventsOf(id).filter(({ type }) => type.includes("rejected"))).toEqual([]);
      expect((await site.event("job.completed", id)).data).toMatchObject({ parametersCut: true });
    }
    await limitTo(134_217_728);
    await startAgain();
    await site.completesOnce(await publish("quick"));
  });

  it("after its queue was deleted, and the broker has cancelled its consumer: the queue is there again", async () => {
    const from = worker.log.length;
    const queue = encodeURIComponent(`${site.prefix}.default.intake`);
    await own.management("DELETE", `/queues/%2F/${queue}`);
    await logged(from, /the broker cancelled the consumer/);
    await readyAgain(from);
    await site.completesOnce(await publish("quick"));
  });

  it("after a memory alarm, without a new connection; what has ended meanwhile is announced then, once", async () => {
    const path = writeOnCore("data\n", own);
    const id = await publish("held", path);
    const { data } = await site.event("job.started", id);
    const from = worker.log.length;
    const record = join(data.job.directory, `ended.${data.slurm.jobId}`);
    await own.rabbitmqctl("set_vm_memory_high_watermark", "0.0001");
    try {
      expect(existsSync(record)).toBe(false);
      writeFileSync(`${path}.over`, "");
      await eventually("the job has ended", () => existsSync(record) || undefined);
      // Longer than a publish without a confirm is waited for.
      await sleep(17_000);
      expect(site.eventsOf(id).map(({ type }) => type)).not.toContain("mento.job.completed.v1");
    } finally {
      await own.rabbitmqctl("set_vm_memory_high_watermark", "0.4");
    }
    await site.completesOnce(id);
    await site.completesOnce(await publish("quick"));
    expect(worker.log.slice(from)).not.toMatch(/"msg":"ready"/);
  });

  it("after its connections went half-open: it notices, and takes new ones", async () => {
    const id = await publish("nap");
    await site.event("job.started", id);
    const from = worker.log.length;
    proxy.set("half-open");
    const meanwhile = await publish("quick");
    await logged(from, /The connection to RabbitMQ broke: Heartbeat timeout|RabbitMQ did not confirm/);
    proxy.set("pass");
    await site.completesOnce(id);
    await site.completesOnce(meanwhile);
  });

  it("after its password was wrong for a while", async () => {
    const from = worker.log.length;
    const { user, password } = own.facility.broker;
    await own.rabbitmqctl("change_password", user, "another");
    await own.rabbitmqctl("close_all_connections", "for a test");
    await logged(from, /refused the login/);
    await own.rabbitmqctl("change_password", user, password);
    await readyAgain(from);
    await site.completesOnce(await publish("quick"));
  });
});

describe("dead letters", () => {
  const dead = (...args: string[]) => tryMento(["dead", ...args, "-c", site.configFile]);

  async function put(id: string, bytes = 2): Promise<void> {
    const client = await connectBroker({ url: own.facility.broker.url, prefix: site.prefix });
    const { publisher, topology } = client;
    const headers = { "mento-error-code": "not-json", "mento-queue": topology.intakeQueue };
    await publisher.publish({
      exchange: "",
      routingKey: topology.deadQueue,
      body: Buffer.from("{".padEnd(bytes)),
      properties: { messageId: id, headers },
    });
    await client.close();
  }

  it("can be looked at as often as one likes while the broker takes no messages, whatever its limit", async () => {
    await own.rabbitmqctl("set_policy", "few", `^${site.prefix}\\.`, '{"delivery-limit":5}');
    for (const id of ["look-1", "look-2"]) await put(id);
    await own.rabbitmqctl("set_vm_memory_high_watermark", "0.0001");
    const client = await connectBroker({ url: own.facility.broker.url, prefix: site.prefix });
    try {
      for (let look = 0; look < 22; look++) {
        const deadLetters = await DeadLetters.open(client);
        const ids: string[] = [];
        for await (const { cause } of deadLetters.read()) ids.push(cause.id);
        await deadLetters.close();
        expect(ids.sort()).toEqual(["look-1", "look-2"]);
      }
    } finally {
      await own.rabbitmqctl("set_vm_memory_high_watermark", "0.4");
      await own.rabbitmqctl("clear_policy", "few");
      await client.close();
    }
    expect((await dead("drop", "--all")).stderr).toContain("dropped 2 dead letters");
  });

  it("for which the broker closes the channel are passed over by a replay, which says so, and the others sent", async () => {
    await put("too-large", 50_000);
    await put("small");
    await limitTo(20_000);
    try {
      for (let call = 0; call < 2; call++) {
        const { code, stdout } = await dead("replay", "too-large", "small");
        expect(stdout).toMatch(/^too-large {2}left: .*(size|at most)/m);
        expect({ call, code, sent: stdout.includes("small  replayed") }).toEqual({
          call,
          code: 1,
          sent: true,
        });
        await site.event("message.rejected", "small");
        await eventually("the small one is back", async () =>
          (await dead("list")).stdout.includes("small  ") ? true : undefined,
        );
      }
    } finally {
      await limitTo(134_217_728);
    }
    await dead("drop", "--all");
  });
});

it("a link tells that the broker blocks it, and that it takes messages again", async () => {
  const client = await connectBroker({ url: own.facility.broker.url, prefix: site.prefix });
  const { link, publisher, topology } = client;
  await own.rabbitmqctl("set_vm_memory_high_watermark", "0.0001");
  const blocked = link.whenBlocked();
  // RabbitMQ tells it those only who publish.
  const publishing = publisher.publish({
    exchange: "",
    routingKey: topology.historyStream,
    body: Buffer.from("x"),
    properties: { messageId: "m" },
  });
  expect(await blocked).toMatch(/memory/);
  expect(link.blocked).toMatch(/memory/);
  await own.rabbitmqctl("set_vm_memory_high_watermark", "0.4");
  await link.whenUnblocked();
  expect(link.blocked).toBeUndefined();
  await publishing;
  const never = link.whenBlocked();
  await client.close();
  expect(await never).toBeUndefined();
});

it("a subscription has had every event once, through all of it", async () => {
  const announced = [...new Set(site.events.map(({ id }) => id))].sort();
  expect(announced.length).toBeGreaterThan(20);
  await eventually("it has had as many", () => subscription.got.length >= announced.length || undefined);
  expect(subscription.ids().sort()).toEqual(announced);
});
