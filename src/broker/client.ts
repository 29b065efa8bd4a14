import type { Channel } from "amqplib";
import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { errorText } from "../errors.ts";
import { CloudEvent } from "../messages/cloud-event.ts";
import { DATA_READY_TYPE, validateDataReady, type DataReady } from "../messages/data-ready.ts";
import { shortId } from "../messages/derived-id.ts";
import { routingKey } from "../messages/job-event.ts";
import { brokerLost, openLink, type BrokerLink } from "./connection.ts";
import { exchangeMissing } from "./confirm-channel.ts";
import { Publisher } from "./publisher.ts";
import { topologyFor, type Topology } from "./topology.ts";

/** A warm connection of a producer or a visualization client. */
export interface BrokerClient {
  link: BrokerLink;
  publisher: Publisher;
  topology: Topology;
  close(): Promise<void>;
}

export interface ClientOptions {
  /** `amqp://host:port/vhost` or `amqps://…`; of several, the nodes of one cluster, the first that answers. */
  url: string | readonly string[];
  username?: string | undefined;
  password?: string | undefined;
  /** The prefix of all names on the broker. Default: `mento`. */
  prefix?: string;
  /** Shown on RabbitMQ's page of connections. */
  name?: string;
}

/**
 * @throws Unavailable `broker-unreachable`, `broker-refused`
 */
export async function connectBroker(options: ClientOptions): Promise<BrokerClient> {
  const { url, username, password, prefix = "mento", name = `mento client on ${hostname()}` } = options;
  const link = await openLink({ url, username, password, name });
  let publisher: Publisher;
  try {
    publisher = await Publisher.open(link);
  } catch (error) {
    await link.close();
    throw error;
  }
  return { link, publisher, topology: topologyFor(prefix, "default"), close: () => link.close() };
}

export interface MessageAttributes {
  /** The same id from the same source is the same message, however often it is published. Default: a new one. */
  id?: string;
  /** Who publishes, e.g. `/petra3/p11/eiger`. Default: `/<host name>`. */
  source?: string;
  traceparent?: string;
}

/**
 * Publishes a data-ready message. When the promise resolves, the broker has it in a queue.
 *
 * @returns the CloudEvent as sent; jobs' events carry its `source` and `id` as their `cause`
 * @throws Rejected `wrong-schema` before anything is sent
 * @throws MentoError `exchange-missing`, `nobody-listens`
 * @throws Unavailable `publish-refused`, `broker-lost`, `publish-unconfirmed`: publish again with the same id
 */
export async function publishDataReady(
  client: BrokerClient,
  data: DataReady,
  attributes: MessageAttributes = {},
): Promise<CloudEvent> {
  const event: CloudEvent = {
    specversion: "1.0",
    id: attributes.id ?? randomUUID(),
    source: attributes.source ?? `/${hostname()}`,
    type: DATA_READY_TYPE,
    time: new Date().toISOString(),
    datacontenttype: "application/json",
    ...(attributes.traceparent === undefined ? {} : { traceparent: attributes.traceparent }),
    data,
  };
  validateDataReady(event);
  await client.publisher.publish({
    exchange: client.topology.dataExchange,
    routingKey: routingKey(data.beamline ?? null, data.beamtimeId ?? null, "data.ready"),
    body: Buffer.from(JSON.stringify(event)),
    properties: {
      messageId: shortId(event.id),
      type: event.type,
      contentType: "application/cloudevents+json",
      timestamp: Math.floor(Date.now() / 1000),
    },
  });
  return event;
}

function parseEvent(body: Buffer): CloudEvent | undefined {
  try {
    return CloudEvent.safeParse(JSON.parse(body.toString("utf8"))).data;
  } catch {
    return undefined;
  }
}

export interface EventFilter {
  beamline?: string | undefined;
  /** A beamtime's or commissioning run's id. */
  session?: string | undefined;
  /** The ends of event types: `job.completed`, `job.*`, `message.*`. Default: all. */
  types?: string[] | undefined;
}

/** Events as they happen. Ends, with an error, when the connection is lost. */
export interface Subscription {
  events: AsyncIterableIterator<CloudEvent>;
  close(): Promise<void>;
}

/**
 * Subscribes with a queue of its own, which goes with the connection. Events of before are not in it.
 *
 * @throws MentoError `exchange-missing`
 */
export async function subscribe(client: BrokerClient, filter: EventFilter = {}): Promise<Subscription> {
  const { link } = client;
  const channel = await link.answer(link.consuming.createChannel(), "opening a channel");
  channel.on("error", () => undefined);
  const asked = channel.assertQueue("", { exclusive: true, autoDelete: true });
  const { queue } = await link.answer(asked, "declaring a queue");
  for (const type of filter.types ?? ["#"]) {
    const place = (name: string | undefined) =>
      name === undefined ? "*" : routingKey(name, null, "").split(".")[0];
    const key = `${place(filter.beamline)}.${place(filter.session)}.${type}`;
    await bind(channel, queue, client.topology.eventsExchange, key);
  }

  const waiting: CloudEvent[] = [];
  let wake: () => void = () => undefined;
  let ended: Error | "closed" | undefined;
  const end = (how: Error | "closed") => {
    ended ??= how;
    wake();
  };
  channel.on("close", () => end(brokerLost("the subscription's channel was closed")));
  void link.lost.then((error) => end(error ?? "closed"));
  await channel.consume(
    queue,
    (message) => {
      if (message === null) {
        end(brokerLost("the subscription's queue was deleted"));
        return;
      }
      const event = parseEvent(message.content);
      // What somebody else publishes on this exchange is not ours to read.
      if (event === undefined) return;
      waiting.push(event);
      wake();
    },
    { noAck: true },
  );

  async function* events(): AsyncGenerator<CloudEvent, void, undefined> {
    for (;;) {
      const event = waiting.shift();
      if (event !== undefined) yield event;
      else if (ended === "closed") return;
      else if (ended !== undefined) throw ended;
      else await new Promise<void>((resolve) => (wake = resolve));
    }
  }
  return {
    events: events(),
    close: async () => {
      end("closed");
      await channel.close().catch(() => undefined);
    },
  };
}

async function bind(channel: Channel, queue: string, exchange: string, key: string): Promise<void> {
  try {
    await channel.bindQueue(queue, exchange, key);
  } catch (cause) {
    throw /no exchange/.test(errorText(cause)) ? exchangeMissing(exchange, cause) : cause;
  }
}
