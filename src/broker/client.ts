import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import type { CloudEvent } from "../messages/cloud-event.ts";
import { DATA_READY_TYPE, validateDataReady, type DataReady } from "../messages/data-ready.ts";
import { shortId } from "../messages/derived-id.ts";
import { routingKey } from "../messages/job-event.ts";
import { writeJson } from "../messages/json.ts";
import { openLink, type BrokerAddress, type BrokerLink } from "./connection.ts";
import { Publisher } from "./publisher.ts";
import { topologyFor, type Topology } from "./topology.ts";

/** A warm connection of a producer or a visualization client. */
export interface BrokerClient {
  link: BrokerLink;
  publisher: Publisher;
  topology: Topology;
  /** Where it is connected to: a subscription connects there again when the link is lost. */
  address: BrokerAddress;
  /** Aborted by `close`. */
  closed: AbortSignal;
  /** Ends its subscriptions too. */
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
  const address = { url, username, password, name };
  const link = await openLink(address);
  let publisher: Publisher;
  try {
    publisher = await Publisher.open(link);
  } catch (error) {
    await link.close();
    throw error;
  }
  const closing = new AbortController();
  return {
    link,
    publisher,
    topology: topologyFor(prefix, "default"),
    address,
    closed: closing.signal,
    close: () => {
      closing.abort();
      return link.close();
    },
  };
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
  const event = dataReadyEvent(data, attributes);
  await client.publisher.publish({
    exchange: client.topology.dataExchange,
    routingKey: routingKey(data.beamline ?? null, data.beamtimeId ?? null, "data.ready"),
    body: Buffer.from(writeJson(event)),
    properties: {
      messageId: shortId(event.id),
      type: event.type,
      contentType: "application/cloudevents+json",
      timestamp: Math.floor(Date.now() / 1000),
    },
  });
  return event;
}

/**
 * What would be published.
 *
 * @throws Rejected `wrong-schema`
 */
export function dataReadyEvent(data: DataReady, attributes: MessageAttributes = {}): CloudEvent {
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
  return event;
}
