import { within } from "../time/within.ts";
import type { BrokerClient } from "../broker/client.ts";
import { errorText } from "../errors.ts";
import type { Log } from "../log.ts";
import { MAX_MESSAGE_BYTES, type CloudEvent } from "../messages/cloud-event.ts";
import { eventBytes, type EventData } from "../messages/event-bytes.ts";

/** A broker that takes events does so in much less. */
const WAIT_MS = 2_000;

/** Announces the library's events on a broker, in their order. No job depends on who is told of it. */
export class Announcer {
  readonly #broker: Pick<BrokerClient, "publisher" | "topology">;
  readonly #log: Log | undefined;
  #last: Promise<void> = Promise.resolve();
  /** It has not taken an event in time, and is not waited for until it has. */
  #isBehind = false;

  constructor(broker: Pick<BrokerClient, "publisher" | "topology">, log: Log | undefined) {
    this.#broker = broker;
    this.#log = log;
  }

  /**
   * Resolves when the broker has the event; or without, if it takes none, as one that is short of memory does: it gets
   * the event when it takes some again. Never rejects.
   */
  async announce(event: CloudEvent & { data: EventData }, routingKey: string): Promise<void> {
    const announced = this.#last.then(() => this.#publish(event, routingKey));
    this.#last = announced;
    if (this.#isBehind) return;
    if ("isLate" in (await within(WAIT_MS, announced))) this.#isBehind = true;
  }

  async #publish(event: CloudEvent & { data: EventData }, routingKey: string): Promise<void> {
    const { publisher, topology } = this.#broker;
    try {
      await publisher.publish({
        exchange: topology.eventsExchange,
        routingKey,
        body: eventBytes(event, MAX_MESSAGE_BYTES),
        properties: { messageId: event.id, type: event.type, contentType: "application/cloudevents+json" },
      });
    } catch (error) {
      this.#log?.warn(`${event.type} was not announced: ${errorText(error)}`);
    }
    this.#isBehind = false;
  }
}
