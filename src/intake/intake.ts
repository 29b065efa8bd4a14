import { Deferred, MentoError, Misconfigured, Rejected, Unavailable, errorText } from "../errors.ts";
import type { ReceivedMessage } from "./message.ts";
import { yieldForLarge } from "../messages/yield-for-large.ts";
import type { Log } from "../log.ts";
import { MAX_MESSAGE_BYTES, tooLarge } from "../messages/cloud-event.ts";
import {
  CANCEL_ANSWER_TYPE,
  cancelAnswerBytes,
  isJobCancel,
  type CancelAnswer,
} from "../messages/job-cancel.ts";
import { derivedId } from "../messages/derived-id.ts";
import { answerBytes } from "../messages/event-bytes.ts";
import type { OutgoingEvent } from "../messages/job-event.ts";
import { originOf, type Origin } from "../messages/origin.ts";
import { copyProperties, receive, type Received } from "../messages/received.ts";
import { cameBack, cameBackTooOften } from "./came-back.ts";
import { failureEvent, timeAfter } from "./failure-event.ts";
import { brokerLost, type BrokerLink } from "../broker/connection.ts";
import { openConsumer, type Consumer, type Delivery } from "../broker/consumer.ts";
import { careName, type LinkCare } from "../broker/link-care.ts";
import { headersOf, historyOf, queuedPositionOf, positionHeaders, type History } from "./message-history.ts";
import type { Publish } from "../broker/publisher.ts";
import { WAIT_SECONDS, type Topology } from "../broker/topology.ts";

/** An answer's bytes, of which there are at most so many if they can be fewer. */
type AnswerBody = (most: number) => Buffer;

export interface IntakeDeps {
  link: BrokerLink;
  topology: Topology;
  group: string;
  /** The group's intake queue, or the queue of one trigger. */
  queue: string;
  publish: (message: Publish) => Promise<void>;
  /** To a queue of a producer's, which may take nothing: without a second attempt. */
  answer: (message: Omit<Publish, "body">, body: AnswerBody) => Promise<void>;
  /** Messages held at once; most wait for their session's turn. */
  prefetch: number;
  handle: (received: ReceivedMessage) => Promise<void>;
  /** A message that cancels jobs; its sender is answered. */
  cancel: (received: ReceivedMessage) => Promise<CancelAnswer>;
  announce: (event: OutgoingEvent) => Promise<void>;
  /** Who handles it has asked for its turn there by himself. */
  care: LinkCare;
  /** Resolves when what stopped everybody is over: at once if it is. */
  whenOpen: () => Promise<void>;
  log: Log;
  now: () => Date;
}

/** Errors in headers are cut here: RabbitMQ has limits for headers, and people for patience. */
const MAX_HEADER_TEXT = 1000;

/** Not handled, and not to be acked: the broker has it when the link is closed. */
export class LeftWaiting extends Error {}

/**
 * Consumes a queue of messages, and decides here, from the kind of error alone, what becomes of a message:
 *
 * - handled: acked; a request to cancel jobs is answered before
 * - too large to be read: announced, answered, and dead-lettered by the broker, which alone has all of it
 * - one that loses the link each time that it is handled: dead-lettered by the broker, without a word
 * - Rejected, or a bug: a copy with the reason to the dead-letter queue, announced, answered, acked
 * - Deferred: a copy to a wait queue, announced once per reason, acked; past its deadline it is rejected
 * - Unavailable, Misconfigured: a copy to a wait queue, acked, and consuming pauses until it is over
 *
 * The ack comes last. If the broker is lost meanwhile, the message is delivered again.
 */
export async function openIntake(deps: IntakeDeps): Promise<Intake> {
  const intake = new Intake(deps);
  await intake.open();
  return intake;
}

export class Intake {
  readonly #deps: IntakeDeps;
  readonly #underWay = new Set<Promise<void>>();
  #consumer: Consumer | undefined;
  #isPaused = false;
  #isOver = false;
  #lastCame = 0;

  constructor(deps: IntakeDeps) {
    this.#deps = deps;
  }

  async open(): Promise<void> {
    const { care, link, queue, prefetch } = this.#deps;
    const take = (delivery: Delivery) => {
      const handled = this.#take(delivery);
      this.#underWay.add(handled);
      void handled.finally(() => this.#underWay.delete(handled));
    };
    const first = care.isCareful ? 1 : prefetch;
    this.#consumer = await openConsumer(link, queue, first, take, { maxBytes: MAX_MESSAGE_BYTES });
    void link.lost.then(() => (this.#isOver = true));
    if (care.isCareful) void care.whenCalm().then(() => this.#widen());
    void this.#pauseWhileBlocked();
  }

  /** No new messages; resolves when those under way are done with. */
  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#consumer?.pause();
    await Promise.all(this.#underWay);
  }

  /** Never rejects: whatever fails here leaves the message un-acked on a lost link. */
  async #take(delivery: Delivery): Promise<void> {
    await yieldForLarge(delivery.message.content.byteLength);
    const message = receive(delivery.message);
    const { care, log, topology } = this.#deps;
    const history = historyOf(message, this.#nextTime());
    const origin = originOf(message.body, message.properties);
    const name = careName(origin);
    if (history.returned > 0) care.hasComeBack();
    if (care.losesLinks(name)) {
      log.error(
        { cause: origin.cause },
        "each time that it was handled the link to RabbitMQ was lost: put away",
      );
      care.forget(name);
      delivery.deadLetter();
      return;
    }
    try {
      if (message.leftOut !== undefined) {
        const { bytes } = message.leftOut;
        await care.handle(name, () => this.#tell(tooLarge(bytes), message, origin));
        delivery.deadLetter();
        return;
      }
      try {
        const queuedPosition = queuedPositionOf(message);
        const tooOften = cameBackTooOften(history) ? cameBack(history) : undefined;
        if (tooOften !== undefined && queuedPosition === undefined) throw tooOften;
        const received: ReceivedMessage = {
          body: message.body,
          properties: { ...message.properties, userId: history.userId ?? undefined },
          isFromEvents: history.exchange === topology.eventsExchange,
          routingKey: history.routingKey,
          receivedAt: new Date(history.firstSeen),
          isRedelivered: history.returns > 0,
          dataCheck: history.dataCheck ?? undefined,
          onlyTrigger: history.onlyTrigger ?? undefined,
          queuedFor: history.queuedFor,
          queuedPosition,
          cameBack: tooOften,
          copyFor: (trigger: string, position: Parameters<typeof positionHeaders>[2]) => ({
            body: message.body,
            properties: copyProperties(message, positionHeaders(history, trigger, position)),
          }),
          answer: (event) => this.#answer(message, event, (most) => answerBytes(event.data, most)),
        };
        if (isJobCancel(origin.cause.type)) {
          await care.handle(name, async () => {
            const data = await this.#deps.cancel(received);
            const id = `${derivedId(origin.cause.source, origin.cause.id)}/cancel-answer`;
            const body = (most: number) => cancelAnswerBytes(data, most);
            await this.#answer(message, { id, type: CANCEL_ANSWER_TYPE }, body);
          });
        } else {
          await this.#deps.handle(received);
        }
      } catch (error) {
        if (error instanceof LeftWaiting) return;
        await care.handle(name, () => this.#decide(error, message, history, origin));
      }
      delivery.ack();
    } catch (error) {
      // Of a lost link one line is enough.
      log[this.#isOver ? "debug" : "error"](
        { err: error, cause: origin.cause },
        "a message could not be put away; it is delivered again",
      );
      await care.handle(name, () => {
        this.#deps.link.fail(error instanceof MentoError ? error : brokerLost(errorText(error), error));
        return this.#deps.link.lost;
      });
    }
  }

  /** Links hold again: as many at once as usual. */
  async #widen(): Promise<void> {
    try {
      if (!this.#isOver) await this.#consumer?.setPrefetch(this.#deps.prefetch);
      if (this.#isPaused || this.#isOver) await this.#consumer?.pause();
    } catch (error) {
      this.#deps.link.fail(error instanceof MentoError ? error : brokerLost(errorText(error), error));
    }
  }

  /** When a message came. No two have the same millisecond: `latest` tells by it which is newer. */
  #nextTime(): Date {
    this.#lastCame = Math.max(this.#deps.now().getTime(), this.#lastCame + 1);
    return new Date(this.#lastCame);
  }

  async #decide(error: unknown, message: Received, history: History, origin: Origin): Promise<void> {
    if (error instanceof Deferred) {
      await this.#defer(error, message, history, origin);
    } else if (error instanceof Unavailable || error instanceof Misconfigured) {
      if (error.code === "broker-lost" || error.code === "publish-unconfirmed") throw error;
      await this.#copyToWait(message, history, 1);
      await this.#pauseUntil(() => this.#deps.whenOpen());
    } else {
      await this.#reject(error instanceof Rejected ? error : this.#bug(error), message, history, origin);
    }
  }

  #bug(error: unknown): Rejected {
    this.#deps.log.error({ err: error }, "a bug: a message could not be handled");
    return new Rejected({
      code: "internal-error",
      message: `Mento failed on this message: ${errorText(error)}`,
      hint: "This is a bug; the worker's log has its stack. Replay the message once it is mended.",
      cause: error,
    });
  }

  async #defer(reason: Deferred, message: Received, history: History, origin: Origin): Promise<void> {
    const { announce, group, log, now } = this.#deps;
    const waits = WAIT_SECONDS.filter((seconds) => seconds <= reason.waitAtMostSeconds);
    if (reason.isSilent) {
      // After pauses that differ, neighbours of a message that ends workers do not come back together with it.
      const waited = waits[Math.floor(Math.random() * waits.length)] ?? 1;
      const seconds = reason.code === "worker-ended" ? waited : reason.waitSeconds;
      const next = { ...history, dataCheck: reason.dataCheck ?? history.dataCheck };
      await this.#copyToWait(message, next, seconds);
      return;
    }
    const isNew = !isSameFailure(history.reason, reason.code);
    const since = isNew ? now() : new Date(history.reasonSince ?? now());
    const waited = (now().getTime() - since.getTime()) / 1000;
    const ownFailures = history.ownFailures + (reason.giveUpAfterTimes === Infinity ? 0 : 1);
    if (waited >= reason.giveUpAfterSeconds || ownFailures > reason.giveUpAfterTimes) {
      const rejected = new Rejected({
        code: "waited-too-long",
        message: `After ${Math.round(waited)} s of waiting: ${reason.message}`,
        hint: reason.hint,
        cause: reason,
      });
      await this.#reject(rejected, message, history, origin);
      return;
    }
    const attempts = isNew ? 1 : history.attempts + 1;
    const seconds = waits[Math.min(attempts, waits.length) - 1] ?? 1;
    const next = {
      ...history,
      attempts,
      ownFailures,
      reason: reason.code,
      reasonSince: since.toISOString(),
      dataCheck: reason.dataCheck ?? null,
    };
    await this.#copyToWait(message, next, seconds);
    if (!isNew) return;
    const { code, message: text } = reason;
    log.info({ cause: origin.cause, path: origin.paths[0], code }, `deferred: ${text}`);
    const givesUpAt = timeAfter(since, reason.giveUpAfterSeconds);
    await announce(failureEvent("deferred", group, message, reason, now(), { givesUpAt }));
  }

  async #copyToWait(message: Received, history: History, seconds: number): Promise<void> {
    await this.#putAway(this.#deps.topology.waitQueue(seconds), message, headersOf(history));
  }

  /** If it cannot be published with what its producer wrote beside it, then without. */
  async #putAway(
    routingKey: string,
    message: Received,
    ours: Readonly<Record<string, string | number>>,
  ): Promise<void> {
    const { publish } = this.#deps;
    const properties = copyProperties(message, ours);
    const copy = { exchange: "", routingKey, body: message.body };
    try {
      await publish({ ...copy, properties });
    } catch (error) {
      if (!(error instanceof MentoError) || error.code !== "publish-impossible") throw error;
      const messageId = derivedId(properties.messageId);
      await publish({ ...copy, properties: { messageId, headers: { ...ours } } });
    }
  }

  async #reject(error: Rejected, message: Received, history: History, origin: Origin): Promise<void> {
    const { topology } = this.#deps;
    const { code, message: text, hint } = error;
    const headers = {
      ...headersOf(history),
      "mento-error-code": code,
      "mento-error-message": text.slice(0, MAX_HEADER_TEXT),
      "mento-error-hint": hint.slice(0, MAX_HEADER_TEXT),
      "mento-queue": topology.intakeQueue,
    };
    await this.#putAway(topology.deadQueue, message, headers);
    await this.#tell(error, message, origin);
  }

  async #tell(error: Rejected, message: Received, origin: Origin): Promise<void> {
    const { announce, group, log, now } = this.#deps;
    const { code, message: text, hint } = error;
    log.warn({ cause: origin.cause, path: origin.paths[0], code, hint }, `rejected: ${text}`);
    const event = failureEvent("rejected", group, message, error, now());
    await announce(event);
    await this.#answer(message, event, (most) => answerBytes(event.data, most));
  }

  /** To the producer's own queue, if it asked and its queue still exists; never to one of Mento's or of RabbitMQ's. */
  async #answer(
    message: Received,
    { id, type }: Pick<OutgoingEvent, "id" | "type">,
    body: AnswerBody,
  ): Promise<void> {
    const { replyTo, messageId, correlationId = messageId } = message.properties;
    if (replyTo === undefined) return;
    if (!this.#deps.topology.takesAnswers(replyTo)) {
      this.#deps.log.warn(
        { replyTo },
        "a producer asks to be answered in a queue of Mento's or RabbitMQ's, and is not answered",
      );
      return;
    }
    try {
      const properties = {
        ...{ messageId: id, type, contentType: "application/json" },
        ...(correlationId === undefined ? {} : { correlationId }),
      };
      await this.#deps.answer({ exchange: "", routingKey: replyTo, properties }, body);
    } catch (error) {
      // Its queue is gone, or full, or RabbitMQ takes no answer of that size: its own affair.
      const theirs = /^(nobody-listens|publish-refused|publish-impossible)$/;
      if (!(error instanceof MentoError) || !theirs.test(error.code)) throw error;
      this.#deps.log.info({ replyTo, code: error.code }, "the producer does not take its answer");
    }
  }

  /** A broker that takes no publishes gets no work done: what is submitted then could not be recorded. */
  async #pauseWhileBlocked(): Promise<void> {
    const { link, log } = this.#deps;
    for (let reason = await link.whenBlocked(); reason !== undefined; reason = await link.whenBlocked()) {
      log.error(`RabbitMQ takes no messages: ${reason}. None are handled until it does.`);
      await this.#pauseUntil(() => link.whenUnblocked());
      await link.whenUnblocked();
      log.info("RabbitMQ takes messages again");
    }
  }

  /** Stops consuming until this is over. */
  async #pauseUntil(isOver: () => Promise<void>): Promise<void> {
    if (this.#isPaused || this.#isOver) return;
    this.#isPaused = true;
    await this.#consumer?.pause();
    void this.#resumeAfter(isOver);
  }

  /** Never rejects: a broker that does not let us consume again is lost, and everything starts over. */
  async #resumeAfter(isOver: () => Promise<void>): Promise<void> {
    const { link } = this.#deps;
    try {
      await isOver();
      await link.whenUnblocked();
      if (!this.#isOver) await this.#consumer?.resume();
      this.#isPaused = false;
      // Stopped while it resumed.
      if (this.#isOver) await this.#consumer?.pause();
    } catch (error) {
      link.fail(error instanceof MentoError ? error : brokerLost(errorText(error), error));
    }
  }
}

/**
 * A submit that fails for an unknown reason is then looked for as one in flight, in turns; data is missing, then still
 * being written: in each case it is one trouble, whose time runs on.
 */
export function isSameFailure(before: string | null, now: string): boolean {
  if (before === now) return true;
  return ["submit-", "data-"].some((prefix) => before?.startsWith(prefix) === true && now.startsWith(prefix));
}
