import { brokerLost, type BrokerLink } from "../broker/connection.ts";
import { openConsumer, type Consumer, type Delivery } from "../broker/consumer.ts";
import type { LinkCare } from "../broker/link-care.ts";
import type { Publisher } from "../broker/publisher.ts";
import type { Topology } from "../broker/topology.ts";
import { BrokerUnavailable, MentoError, errorText } from "../errors.ts";
import { readTrackingRecord, writeTrackingRecord, type TrackingRecord } from "./tracking-record.ts";
import type { Log } from "../log.ts";
import { HeldRecords, RECORDS_AT_ONCE } from "./held-records.ts";
import { yieldForLarge } from "../messages/yield-for-large.ts";
import { receive } from "../messages/received.ts";
import { isHostRequest } from "../messages/job-cancel.ts";

/**
 * Where a policy limits deliveries, RabbitMQ gives up a record that has come back more often, and with it the job's end: a
 * copy begins anew.
 */
const RENEW_AFTER_RETURNS = 1;

interface JobsQueueDeps {
  link: BrokerLink;
  care: LinkCare;
  publisher: Publisher;
  topology: Topology;
  log: Log;
}

export interface JobsQueueUser {
  take: (record: TrackingRecord, ack: () => void) => void;
  /** Lets go of some of those that it has of a queue, for others wait there. */
  handOn: (count: number, isOfQueue: (record: TrackingRecord) => boolean) => void;
  /** Does what another host asks. */
  cancel: (message: Delivery["message"]) => Promise<void>;
}

/** The group's queue of tracking records, and that of jobs which only this host can see. */
export class JobsQueue {
  readonly #deps: JobsQueueDeps;

  constructor(deps: JobsQueueDeps) {
    this.#deps = deps;
  }

  /** Puts a record on its queue, confirmed. */
  async track(record: TrackingRecord): Promise<void> {
    await publishRecord(record, this.#queueOf(record), this.#deps.publisher);
  }

  /** Puts a record that does not fit into the dead-letter queue, confirmed: its job may still run. */
  async putAside(record: TrackingRecord, why: string): Promise<void> {
    await this.#putAside(this.#queueOf(record), writeTrackingRecord(record), why);
  }

  async open(user: JobsQueueUser): Promise<Pick<Consumer, "pause">[]> {
    const { jobsQueue, hostJobsQueue } = this.#deps.topology;
    return [await this.#consume(jobsQueue, user), await this.#consume(hostJobsQueue, user)];
  }

  async #consume(queue: string, user: JobsQueueUser): Promise<Pick<Consumer, "pause">> {
    const { link } = this.#deps;
    let isOver = false;
    const held = new HeldRecords({
      ask: async () => {
        const consumer = await opened;
        // RabbitMQ counts what is un-acked anew for each consumer.
        if (!isOver) await consumer.setPrefetch(RECORDS_AT_ONCE);
        if (isOver) await consumer.pause();
      },
      waiting: () => this.#waiting(queue),
      handOn: (count) => user.handOn(count, (record) => this.#queueOf(record) === queue),
      lost: link.lost,
    });
    const opened = openConsumer(link, queue, RECORDS_AT_ONCE, (delivery) => {
      const letGo = held.take(delivery.message.content.byteLength);
      const settle = (how: () => void) => () => {
        letGo();
        how();
      };
      const [ack, deadLetter] = [settle(delivery.ack), settle(delivery.deadLetter)];
      void this.#take(queue, { ...delivery, ack, deadLetter }, user);
    });
    const consumer = await opened;
    return {
      pause: async () => {
        isOver = true;
        await consumer.pause();
      },
    };
  }

  async #waiting(queue: string): Promise<number> {
    const { link } = this.#deps;
    // On the one to publish RabbitMQ answers nothing during an alarm.
    const channel = await link.answer(link.consuming.createChannel(), "opening a channel");
    channel.on("error", () => undefined);
    try {
      return (await link.answer(channel.checkQueue(queue), `looking at ${queue}`)).messageCount;
    } finally {
      await channel.close().catch(() => undefined);
    }
  }

  /** Never rejects. What does not belong on the queue keeps nothing behind it. */
  async #take(queue: string, delivery: Delivery, user: JobsQueueUser): Promise<void> {
    const { message, ack } = delivery;
    const { care, log } = this.#deps;
    try {
      try {
        if (message.fields.exchange !== "") throw new Error("it was not published to the queue by its name");
        if (!isHostRequest(message.properties)) {
          await yieldForLarge(message.content.byteLength);
          const record = readTrackingRecord(message.content);
          const { returns } = receive(message);
          const name = careNameOfJob(record.data.job.id);
          if (care.losesLinks(name)) {
            log.error(
              { job: record.data.job.id },
              "each time that it was announced the link to RabbitMQ was lost",
            );
            care.forget(name);
            delivery.deadLetter();
            return;
          }
          if (returns < RENEW_AFTER_RETURNS) {
            user.take(record, ack);
            return;
          }
          await this.track(record);
          ack();
          return;
        }
        await user.cancel(message);
      } catch (error) {
        if (error instanceof BrokerUnavailable) throw error;
        await this.#putAside(queue, message.content, errorText(error));
      }
      ack();
    } catch (error) {
      this.#deps.link.fail(error instanceof MentoError ? error : brokerLost(errorText(error), error));
    }
  }

  async #putAside(queue: string, body: Buffer, why: string): Promise<void> {
    const { log, publisher, topology } = this.#deps;
    log.error({ queue, why }, "a tracking record is put aside, into the dead-letter queue");
    await publisher.publish({
      exchange: "",
      routingKey: topology.deadQueue,
      body,
      properties: {
        messageId: "tracking-record",
        headers: {
          "mento-error-code": "record-unfit",
          "mento-error-message": why.slice(0, 1000),
          "mento-error-hint":
            "Another version or configuration of Mento wrote it, or it is forged; its job may run. Replay it when it fits.",
          "mento-routing-key": queue,
          "mento-queue": queue,
        },
      },
    });
  }

  /** Only workers on the same host can see these jobs, or run `squeue` for them. */
  #queueOf({ data }: TrackingRecord): string {
    const { jobsQueue, hostJobsQueue } = this.#deps.topology;
    const isOfThisHost = ["local-bash-script", "local-sbatch-script"].includes(data.job.method);
    return isOfThisHost ? hostJobsQueue : jobsQueue;
  }
}

/**
 * Whoever takes it from the queue watches the job. Resolves when the broker has it.
 *
 * @throws MentoError `nobody-listens` if there is no such queue
 */
export async function publishRecord(
  record: TrackingRecord,
  queue: string,
  publisher: Publisher,
): Promise<void> {
  await publisher.publish({
    exchange: "",
    routingKey: queue,
    body: writeTrackingRecord(record, publisher.maxBytes),
    properties: { messageId: record.data.job.id, contentType: "application/json" },
  });
}

/** By which {@link LinkCare} knows a job that is watched. */
export function careNameOfJob(id: string): string {
  return `job ${id}`;
}
