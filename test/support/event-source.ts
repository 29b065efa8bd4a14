import { randomUUID } from "node:crypto";
import { connectBroker, type BrokerClient } from "../../src/broker/client.ts";
import { openLink } from "../../src/broker/connection.ts";
import { subscribe, type SubscribeOptions } from "../../src/broker/subscribe.ts";
import { declareTopology, topologyFor } from "../../src/broker/topology.ts";
import type { CloudEvent } from "../../src/messages/cloud-event.ts";

interface Announced {
  id?: string;
  source?: string;
  beamline?: string;
  session?: string;
  type?: string;
  trigger?: string;
  time?: Date;
}

/** Names of its own on the broker, with what a worker declares, and events that no job has caused. */
export class EventSource {
  readonly url: string;
  readonly prefix = `t${randomUUID().slice(0, 8)}`;
  #client: BrokerClient | undefined;

  constructor(url: string) {
    this.url = url;
  }

  /** Declares what is missing. */
  async declare(): Promise<void> {
    const link = await openLink({ url: this.url, name: "mento test" });
    await declareTopology(link, topologyFor(this.prefix, "default"), { keys: ["#"] });
    await link.close();
  }

  async client(): Promise<BrokerClient> {
    this.#client ??= await connectBroker({ url: this.url, prefix: this.prefix });
    return this.#client;
  }

  async announce(id: string, announced: Announced = {}): Promise<void> {
    const { source = "/test", beamline = "p11", session = "11010000", type = "job.completed" } = announced;
    const { trigger = "azimuthal", time = new Date() } = announced;
    const data = { job: { id, trigger, state: type.split(".")[1] }, paths: [], results: [] };
    const event = {
      specversion: "1.0",
      id,
      source,
      type: `mento.${type}.v1`,
      time: time.toISOString(),
      data,
    };
    const key = `${beamline}.${session}.${type}`;
    await this.publish((await this.client()).topology.eventsExchange, key, JSON.stringify(event));
  }

  async publish(exchange: string, routingKey: string, text: string): Promise<void> {
    const { publisher } = await this.client();
    const properties = { messageId: randomUUID() };
    await publisher.publish({ exchange, routingKey, body: Buffer.from(text), properties });
  }

  /** Events with the ids `<name>-0`, `<name>-1` …, one after the other, until it is stopped. */
  stream(name: string) {
    let count = 0;
    const stopped = new AbortController();
    const done = (async () => {
      while (!stopped.signal.aborted) await this.announce(`${name}-${count++}`);
    })();
    const stop = async () => {
      stopped.abort();
      await done;
      return Array.from({ length: count }, (_, number) => `${name}-${number}`);
    };
    return { stop, count: () => count };
  }

  async close(): Promise<void> {
    await this.#client?.close();
  }
}

/** What a subscription gives, collected, and how it ended. */
export async function listen(client: BrokerClient, options: SubscribeOptions = {}) {
  const { events, close } = await subscribe(client, options);
  const got: CloudEvent[] = [];
  const ended = (async () => {
    for await (const event of events) got.push(event);
  })();
  return { got, ids: () => got.map(({ id }) => id), ended, close };
}
