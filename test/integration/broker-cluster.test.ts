import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, it } from "vitest";
import { connectBroker, publishDataReady } from "../../src/broker/client.ts";
import { openLink } from "../../src/broker/connection.ts";
import { declareTopology, topologyFor } from "../../src/broker/topology.ts";
import { codeOf } from "../support/code-of.ts";
import { collectEvents } from "../support/collect-events.ts";
import { listen } from "../support/event-source.ts";
import { RabbitmqCluster } from "../support/rabbitmq-cluster.ts";
import { eventually, TestSite, TestWorker, writeOnCore } from "../support/site.ts";

let cluster: RabbitmqCluster;
let site: TestSite;
let worker: TestWorker;
let subscription: Awaited<ReturnType<typeof listen>>;
const stopped = new AbortController();

beforeAll(async () => {
  cluster = await RabbitmqCluster.start();
  const triggers = [
    { name: "quick", on: { technique: "quick" }, run: ["/bin/true"] },
    { name: "nap", on: { technique: "nap" }, run: ["/bin/sleep", "4"] },
  ];
  site = new TestSite(triggers, { broker: { url: [cluster.urlOf(1), cluster.urlOf(2)] } });
  // Whoever declares a queue has its leader on the node that it is connected to.
  const link = await openLink({ url: cluster.urlOf(0), name: "mento test" });
  await declareTopology(link, topologyFor(site.prefix, "default"), { keys: ["#"] });
  await link.close();
  worker = new TestWorker(site.configFile);
  await worker.ready();
  await collectEvents(site, [cluster.urlOf(2), cluster.urlOf(1)], stopped.signal);
  const client = await connectBroker({ url: [cluster.urlOf(1), cluster.urlOf(2)], prefix: site.prefix });
  stopped.signal.addEventListener("abort", () => void client.close());
  subscription = await listen(client);
}, 240_000);

afterAll(async () => {
  expect(worker.process.exitCode, worker.log).toBeNull();
  expect(await worker.stop()).toBe(0);
  stopped.abort();
  await site.tearDown();
  await cluster.stop();
});

/** As a producer does: what is not known to be taken is published again, under the same id. */
async function publish(technique: string): Promise<string> {
  const id = randomUUID();
  const path = writeOnCore();
  return eventually("it is published", async () => {
    const client = await connectBroker({ url: [cluster.urlOf(2), cluster.urlOf(1)], prefix: site.prefix });
    const outcome = await codeOf(publishDataReady(client, { path, technique }, { id }));
    await client.close();
    return outcome === "none" ? id : undefined;
  });
}

const leaders = () =>
  Promise.all(
    ["default.intake", "default.jobs", "history"].map((one) => cluster.leaderOf(`${site.prefix}.${one}`)),
  );

it("a worker goes on when the node that leads its queues and its stream is lost", async () => {
  expect(await leaders()).toEqual([0, 0, 0]);
  const id = await publish("nap");
  await site.event("job.started", id);
  await cluster.killNode(0);
  // RabbitMQ refuses what comes before there is a new leader, and goes on doing so on that channel.
  const client = await connectBroker({ url: cluster.urlOf(2), prefix: site.prefix });
  const { publisher, topology } = client;
  const message = { exchange: "", body: Buffer.from("x"), properties: { messageId: "m" } };
  expect(await codeOf(publisher.publish({ ...message, routingKey: topology.deadQueue }))).toBe("none");
  await client.close();
  await site.completesOnce(await publish("quick"));
  await site.completesOnce(id);
  expect(await leaders()).not.toContain(0);
});

it("a worker goes on over another node when the one that it is connected to is lost", async () => {
  cluster.startNode(0);
  await cluster.isWhole();
  const from = worker.log.length;
  const id = await publish("nap");
  await site.event("job.started", id);
  await cluster.killNode(1);
  await eventually("it is ready again", () => worker.log.slice(from).includes('"msg":"ready"') || undefined);
  await site.completesOnce(await publish("quick"));
  await site.completesOnce(id);
});

it("a subscription has had every event once, through all of it", async () => {
  const announced = [...new Set(site.events.map(({ id }) => id))].sort();
  expect(announced.length).toBeGreaterThanOrEqual(12);
  const hasAll = () => subscription.got.length >= announced.length || undefined;
  await eventually(
    () => `it has had as many as ${announced.length}; it had ${subscription.got.length}`,
    hasAll,
    110_000,
  );
  expect(subscription.ids().sort()).toEqual(announced);
});
