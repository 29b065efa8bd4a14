import { hostname } from "node:os";
import { accountHere } from "../files/account-here.ts";
import { isTerminal } from "../jobs/job.ts";
import { within } from "../time/within.ts";
import type { BrokerClient } from "../broker/client.ts";
import { topologyFor } from "../broker/topology.ts";
import { publishRecord } from "../tracking/jobs-queue.ts";
import type { TrackingRecord } from "../tracking/tracking-record.ts";
import type { JobMethod } from "../messages/job-event.ts";
import { errorText } from "../errors.ts";
import type { Log } from "../log.ts";
import { MAX_MESSAGE_BYTES, type CloudEvent } from "../messages/cloud-event.ts";
import { eventBytes, type EventData } from "../messages/event-bytes.ts";

/** A broker that takes events does so in much less. */
const WAIT_MS = 2_000;
/** Any worker of a group can watch these; others are processes of one host, or on a node that no configuration names. */
const WATCHED_ANYWHERE: readonly JobMethod[] = ["remote-sbatch-script", "slurm-rest-api"];

export const LIBRARY_SOURCE = `/library/${accountHere()}@${hostname()}`;

/** Announces the library's events on a broker, in their order. No job depends on who is told of it. */
export class Announcer {
  /** As in the events. */
  readonly source: string;
  readonly #broker: Pick<BrokerClient, "publisher" | "topology">;
  readonly #group: string | undefined;
  readonly #log: Log | undefined;
  /** Jobs that workers of the group watch, and announce. */
  readonly #handedOver = new Set<string>();
  #last: Promise<void> = Promise.resolve();
  /** It has not taken an event in time, and is not waited for until it has. */
  #isBehind = false;

  /** @param group whose workers watch jobs of Slurm; undefined: none's, and all is announced from here */
  constructor(
    broker: Pick<BrokerClient, "publisher" | "topology">,
    group: string | undefined,
    log: Log | undefined,
  ) {
    this.#broker = broker;
    this.#group = group;
    this.#log = log;
    this.source = group === undefined ? LIBRARY_SOURCE : `/mento/${group}`;
  }

  /**
   * Gives a job that was submitted to the workers, which announce what becomes of it, also when this program has ended. If
   * there are none, or the broker takes nothing, it is announced from here. Never rejects.
   */
  async handOver(record: TrackingRecord): Promise<void> {
    const { job } = record.data;
    if (this.#group === undefined || !WATCHED_ANYWHERE.includes(job.method)) return;
    const { jobsQueue } = topologyFor(this.#broker.topology.prefix, this.#group);
    const say = (why: string) =>
      this.#log?.warn(
        `workers of group ${this.#group} do not watch job ${job.id} yet, this program does: ${why}`,
      );
    try {
      const given = await within(WAIT_MS, publishRecord(record, jobsQueue, this.#broker.publisher));
      if ("value" in given) this.#handedOver.add(job.id);
      else say(`RabbitMQ did not take its record within ${WAIT_MS / 1000} s`);
    } catch (error) {
      say(errorText(error));
    }
  }

  /**
   * Resolves when the broker has the event; or without, if it takes none, as one that is short of memory does: it gets
   * the event when it takes some again. Never rejects.
   */
  async announce(event: CloudEvent & { data: EventData }, routingKey: string): Promise<void> {
    if ("job" in event.data && this.#handedOver.has(event.data.job.id)) {
      if (isTerminal(event.data.job.state)) this.#handedOver.delete(event.data.job.id);
      return;
    }
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
