import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { connectBroker, publishDataReady, type BrokerClient } from "../../src/broker/client.ts";
import { ConfirmedOfLate } from "../../src/broker/confirmed-of-late.ts";
import { openLink } from "../../src/broker/connection.ts";
import { Publisher } from "../../src/broker/publisher.ts";
import { MentoError } from "../../src/errors.ts";
import { codeOf } from "../support/code-of.ts";
import { eventually, facility, TestSite } from "../support/site.ts";
import { openTcpProxy } from "../support/tcp-proxy.ts";

const site = new TestSite([{ name: "t", run: ["/bin/true"] }]);
let client: BrokerClient;

beforeAll(async () => {
  await site.startWorker();
  client = await site.client();
});
afterAll(() => site.tearDown());

const messageTo = (exchange: string) => ({
  exchange,
  routingKey: "p11.-.test",
  body: Buffer.from("x"),
  properties: { messageId: randomUUID() },
});

/** A visualization client's queue that takes no more, and makes the broker say so to whoever publishes. */
async function fullQueue(exchange: string) {
  const channel = await client.link.consuming.createChannel();
  const { queue } = await channel.assertQueue("", {
    exclusive: true,
    arguments: { "x-max-length": 1, "x-overflow": "reject-publish" },
  });
  channel.sendToQueue(queue, Buffer.from("x"));
  await channel.bindQueue(queue, exchange, "p11.-.test");
  return {
    empty: () => channel.purgeQueue(queue),
    remove: () => channel.deleteQueue(queue),
  };
}

describe("a publish", () => {
  it("for which there is no queue is an error, though the broker confirms it", async () => {
    const message = { exchange: "", routingKey: "no-such-queue", body: Buffer.from("x") };
    const properties = { messageId: "m" };
    expect(await codeOf(client.publisher.publish({ ...message, properties }))).toBe("nobody-listens");
    expect(await codeOf(publishDataReady(client, { path: "/x" }))).toBe("none");
  });

  it("whose connection breaks before the confirm is unknown: broker-lost", async () => {
    const other = await connectBroker({ url: facility.broker.url, prefix: site.prefix });
    const publishing = codeOf(publishDataReady(other, { path: "/x" }));
    other.link.fail(new MentoError({ code: "broker-lost", message: "cut", hint: "" }));
    expect(await publishing).toBe("broker-lost");
    expect(await codeOf(publishDataReady(other, { path: "/x" }))).toBe("broker-lost");
  });

  it("that a full queue refuses is tried again, and taken when there is room", async () => {
    const { publisher, topology } = client;
    const queue = await fullQueue(topology.dataExchange);
    const publishing = codeOf(publisher.publish(messageTo(topology.dataExchange)));
    await sleep(300);
    await queue.empty();
    expect(await publishing).toBe("none");
    await queue.remove();
  });

  it("that a client's full queue goes on refusing is an error; the next ones get one try each, and others get all", async () => {
    const { link, topology } = client;
    const publisher = await Publisher.open(link, { retryForMs: 1_000 });
    const exchange = topology.eventsExchange;
    const channel = await link.consuming.createChannel();
    const other = await channel.assertQueue("", { exclusive: true });
    await channel.bindQueue(other.queue, exchange, "p11.-.test");
    const seen: unknown[] = [];
    await channel.consume(other.queue, (one) => seen.push(one?.properties.messageId), { noAck: true });
    const publishOne = async () => {
      const message = messageTo(exchange);
      const outcome = await codeOf(publisher.publish(message));
      const tries = () => seen.filter((id) => id === message.properties.messageId).length;
      await eventually("others get it", () => (tries() > 0 ? true : undefined));
      return { outcome, tries };
    };

    const queue = await fullQueue(exchange);
    const first = await publishOne();
    const later = [await publishOne(), await publishOne(), await publishOne()];
    expect([first, ...later].map(({ outcome }) => outcome)).toEqual(Array(4).fill("publish-refused"));
    expect(first.tries()).toBeGreaterThan(1);
    expect(later.map(({ tries }) => tries())).toEqual([1, 1, 1]);
    // What is for others is taken, and the link still stands.
    expect(await codeOf(publishDataReady(client, { path: "/x" }))).toBe("none");
    await queue.remove();
    expect(await codeOf(publisher.publish(messageTo(exchange)))).toBe("none");
    await channel.close();
  });

  it("on a half-open connection is given up after a while: publish-unconfirmed", async () => {
    const proxy = await openTcpProxy(Number(new URL(facility.broker.url).port));
    const url = new URL(facility.broker.url);
    url.port = String(proxy.port);
    const other = await connectBroker({ url: url.href, prefix: site.prefix });
    proxy.freeze();
    expect(await codeOf(publishDataReady(other, { path: "/x" }))).toBe("publish-unconfirmed");
    proxy.close();
  });
});

it("a tracking record that this version cannot read is kept as a dead letter: its job may run", async () => {
  const properties = { messageId: "odd" };
  const body = Buffer.from('{"version": 99}');
  await client.publisher.publish({ exchange: "", routingKey: client.topology.jobsQueue, body, properties });
  const channel = await client.link.consuming.createChannel();
  const dead = await eventually("a dead letter", async () => {
    const found = await channel.get(client.topology.deadQueue, { noAck: true });
    return found !== false && found.content.equals(body) ? found : undefined;
  });
  expect(dead.properties.headers).toMatchObject({ "mento-error-code": "record-unfit" });
});

describe("a broker that confirms in its last moments what it does not keep", () => {
  it("gets it once more over the next link, and again if that one is lost as soon; three times in all", async () => {
    const queue = `${site.prefix}.kept`;
    const confirmed = new ConfirmedOfLate();
    const gone = `${site.prefix}.gone`;
    const to = (routingKey: string) => ({
      ...{ exchange: "", routingKey, body: Buffer.from("x") },
      properties: { messageId: `m-${routingKey}` },
    });
    const counts: number[] = [];
    for (let nth = 0; nth < 4; nth++) {
      const link = await openLink({ url: facility.broker.url, name: "publisher test" });
      const channel = await link.consuming.createChannel();
      await channel.assertQueue(queue, { durable: true });
      if (nth === 0) await channel.assertQueue(gone, { durable: true });
      const publisher = await Publisher.open(link, { confirmed });
      if (nth === 0) {
        await publisher.publish(to(queue));
        await publisher.publish(to(gone));
        await publisher.publishOnce(to(queue));
        await channel.deleteQueue(gone);
      }
      await publisher.caughtUp;
      counts.push((await channel.purgeQueue(queue)).messageCount);
      if (nth === 3) await channel.deleteQueue(queue);
      link.fail(new MentoError({ code: "broker-lost", message: "cut", hint: "" }));
    }
    // An answer, or a heartbeat, is not.
    expect(counts).toEqual([2, 1, 1, 0]);
  });

  it("is asked again after a link that was lost while it was asked", async () => {
    const queue = `${site.prefix}.asked`;
    const confirmed = new ConfirmedOfLate();
    confirmed.add({
      ...{ exchange: "", routingKey: queue, body: Buffer.from("x") },
      properties: { messageId: "m" },
    });
    const first = await openLink({ url: facility.broker.url, name: "publisher test" });
    const publisher = await Publisher.open(first, { confirmed });
    first.fail(new MentoError({ code: "broker-lost", message: "cut", hint: "" }));
    await publisher.caughtUp;
    const second = await openLink({ url: facility.broker.url, name: "publisher test" });
    const channel = await second.consuming.createChannel();
    await channel.assertQueue(queue, { durable: true });
    await channel.purgeQueue(queue);
    await (
      await Publisher.open(second, { confirmed })
    ).caughtUp;
    expect((await channel.deleteQueue(queue)).messageCount).toBe(1);
    await second.close();
  });
});
