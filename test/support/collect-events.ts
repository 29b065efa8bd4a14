import { setTimeout as sleep } from "node:timers/promises";
import { connectBroker } from "../../src/broker/client.ts";
import type { AnyEvent, TestSite } from "./site.ts";

/**
 * Collects a site's events through every fault of the broker: they wait in a durable queue while it is away. Resolves
 * when the queue is there; needs a worker to have run.
 */
export async function collectEvents(
  site: TestSite,
  url: string | string[],
  stop: AbortSignal,
): Promise<void> {
  await new Promise<void>((resolve) => {
    void (async () => {
      while (!stop.aborted) {
        await collectOnce(site, url, stop, resolve).catch(() => undefined);
        await sleep(200);
      }
    })();
  });
}

async function collectOnce(
  site: TestSite,
  url: string | string[],
  stop: AbortSignal,
  onReady: () => void,
): Promise<void> {
  const client = await connectBroker({ url, prefix: site.prefix });
  try {
    const { link, topology } = client;
    const channel = await link.consuming.createChannel();
    channel.on("error", () => undefined);
    const queue = `${site.prefix}.seen`;
    await channel.assertQueue(queue, { durable: true, arguments: { "x-queue-type": "quorum" } });
    await channel.bindQueue(queue, topology.eventsExchange, "#");
    await channel.consume(queue, (message) => {
      if (message === null) {
        channel.emit("close");
        return;
      }
      site.events.push(JSON.parse(message.content.toString("utf8")) as AnyEvent);
      channel.ack(message);
    });
    const broken = new Promise((resolve) => channel.once("close", resolve));
    onReady();
    const stopped = new Promise((resolve) => stop.addEventListener("abort", resolve));
    await Promise.race([link.lost, broken, stopped]);
  } finally {
    await client.close();
  }
}
