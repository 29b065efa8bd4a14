import type { ConsumeMessage } from "amqplib";
import { setTimeout as sleep } from "node:timers/promises";
import { MentoError, Misconfigured, errorText } from "../errors.ts";
import { isDataReadyEvent, isJobEvent } from "../messages/announced-event.ts";
import { bindingFits } from "../messages/binding-key.ts";
import { CloudEvent, decodeMessage } from "../messages/cloud-event.ts";
import { parseJson, plainNumbers } from "../messages/json.ts";
import { receive } from "../messages/received.ts";
import { bindingKeys, type EventFilter } from "../messages/event-filter.ts";
import { parsePastTime, PAST_TIME_FORMS } from "../messages/past-time.ts";
import { RecentEvents } from "../messages/recent-events.ts";
import type { BrokerClient } from "./client.ts";
import { brokerLost, openLink, type BrokerAddress, type BrokerLink } from "./connection.ts";
import { endOfHistory, HistoryReader, offsetOf } from "./history.ts";
import { backoff } from "../time/backoff.ts";

export interface SubscribeOptions extends EventFilter {
  /** Only jobs' events of this trigger. */
  trigger?: string | undefined;
  /**
   * First the events that the broker has taken since then, by its clock and in whole seconds, as far as it keeps them
   * (14 days): a time, as a Date or in ISO 8601, or how long ago, such as `2h`. Default: events from now on.
   */
  since?: Date | string | undefined;
  /**
   * Ends after the last event that the broker had taken then, by its clock and in whole seconds; in the future, when it is
   * that time by this host's. Default: it never ends by itself.
   */
  until?: Date | undefined;
  /** Only events about data whose path has this part. */
  path?: string | undefined;
  /**
   * If no worker has run on the broker yet, wait for the first one and have all of its events: for a program that starts
   * together with them. Default: `exchange-missing`.
   */
  wait?: boolean | undefined;
  /** Ends the subscription, as `close` does. */
  signal?: AbortSignal | undefined;
  /**
   * Called with the reason when the broker is lost, and again for each attempt in vain; with undefined when it is back. No
   * event is lost meanwhile. And with `events-missed`, which nothing follows, when the broker has removed events that this
   * subscription had not read yet: it keeps them for 14 days, but less where a policy says so.
   */
  onFailure?: ((failure: MentoError | undefined) => void) | undefined;
}

export interface Subscription {
  /** Ends when the subscription is closed; leaving its loop closes it. */
  events: AsyncIterableIterator<CloudEvent>;
  close: () => Promise<void>;
}

/** The clocks of the broker, of workers and of clients differ by less. */
const CLOCKS_DIFFER_MS = 60_000;
/** The broker sends a message that it has in less. */
const IDLE_MS = 2_000;
/** Node's timers count no longer. */
const LONGEST_SLEEP_MS = 24 * 3600_000;
/** The broker sends a message that it has in much less. */
const SAME_STREAM_WITHIN_MS = 10_000;
const PAUSES = { first: 250, longest: 15_000 };

/**
 * The events that fit the filter, each once, in the order in which the broker took them; without a gap, however often the
 * broker is lost: then it connects again, for as long as it takes, and goes on after the last message that it has read.
 *
 * A slow reader misses nothing: the broker keeps what it has not taken, for as long as it keeps anything.
 *
 * @throws Misconfigured `wrong-usage`
 * @throws MentoError `exchange-missing` if no worker has run on the broker yet, unless it is to `wait`
 * @throws Unavailable `broker-lost`, `broker-refused`
 */
export async function subscribe(client: BrokerClient, options: SubscribeOptions = {}): Promise<Subscription> {
  const feed = new EventFeed(client, options);
  await feed.open();
  return { events: feed.events(), close: () => feed.close() };
}

class EventFeed {
  readonly #client: BrokerClient;
  readonly #options: SubscribeOptions;
  readonly #keys: ReturnType<typeof bindingKeys>;
  readonly #seen = new RecentEvents();
  readonly #stop = new AbortController();
  /** Of its own, once the client's link is lost. */
  #link: BrokerLink | undefined;
  #reader: HistoryReader | undefined;
  /** The last message that was read, wanted or not: reading goes on after it. */
  #last: ConsumeMessage | undefined;
  /** Where reading began. Only the broker's clock has to do with it: what events tell of their time is others' word. */
  readonly #from: Date;
  /** There was no history when it was asked for: all that will be in it is new. */
  #isAheadOfAll = false;
  /** The time of the newest event so far. */
  #latest: Date | undefined;
  /** The place in the history before which reading ends. */
  #end = Infinity;

  constructor(client: BrokerClient, options: SubscribeOptions) {
    this.#client = client;
    this.#options = options;
    this.#keys = bindingKeys(options);
    const now = new Date();
    this.#from = options.since === undefined ? now : timeSince(options.since, now);
    if (options.until !== undefined && !(options.until > this.#from))
      throw wrongUsage("until is not after since.", "Name a later time.");
  }

  async open(): Promise<void> {
    const { signal } = this.#options;
    signal?.throwIfAborted();
    if (this.#client.closed.aborted) {
      throw wrongUsage(
        "The client is closed already.",
        "Subscribe with one from connectBroker, and close it after.",
      );
    }
    for (const end of [this.#client.closed, signal]) {
      end?.addEventListener("abort", () => void this.close(), { signal: this.#stop.signal });
    }
    const { link, address, topology } = this.#client;
    const start = this.#options.since === undefined ? "next" : this.#from;
    const openOn = async (one: BrokerLink) => {
      this.#reader = await HistoryReader.open(one, topology.historyStream, start);
    };
    try {
      await openOn(link).catch(async (error: unknown) => {
        // A program may keep its client for longer than the link lives.
        if (asFailure(error).code !== "broker-lost") throw error;
        this.#link = await openLink(address, this.#stop.signal);
        await openOn(this.#link);
      });
    } catch (error) {
      const failure = asFailure(error);
      this.#isAheadOfAll = this.#options.wait === true && failure.code === "exchange-missing";
      if (this.#isAheadOfAll) await this.#connectAgain(failure);
      else {
        await this.close();
        throw error;
      }
    }
    if (this.#stop.signal.aborted) await this.#release();
    else if (this.#options.until !== undefined) await this.#prepareEnd(this.#options.until);
  }

  /** Of the past before anything is read, else beside that. */
  async #prepareEnd(until: Date): Promise<void> {
    // Closed before.
    const found = this.#findEnd(until).catch(() => undefined);
    if (until <= new Date()) await found;
  }

  async #findEnd(until: Date): Promise<void> {
    const { signal } = this.#stop;
    for (let left = until.getTime() - Date.now(); left > 0; left = until.getTime() - Date.now()) {
      await sleep(Math.min(left, LONGEST_SLEEP_MS), undefined, { signal });
    }
    while (this.#end === Infinity) {
      const { link, topology } = this.#client;
      const found = endOfHistory(this.#link ?? link, topology.historyStream, until);
      this.#end = await found.catch(() => Infinity);
      if (this.#end === Infinity) await sleep(IDLE_MS, undefined, { signal });
    }
  }

  /** Whether all is read, when nothing has come for so many times {@link IDLE_MS}. */
  #isAtEnd(idle: number): boolean {
    if (this.#end === Infinity) return false;
    return this.#last === undefined ? idle >= 2 : offsetOf(this.#last) + 1 >= this.#end || idle >= 5;
  }

  async *events(): AsyncGenerator<CloudEvent, void, undefined> {
    try {
      let idle = 0;
      while (!this.#stop.signal.aborted) {
        const message = await this.#nextMessage();
        idle = message === undefined ? idle + 1 : 0;
        if (message === undefined ? this.#isAtEnd(idle) : offsetOf(message) >= this.#end) return;
        if (message !== undefined) await this.#tellOfGap(message);
        const event = message && this.#take(message);
        if (event !== undefined) yield event;
      }
    } finally {
      await this.close();
    }
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#release();
  }

  /** Undefined when there is none, for now or at all. */
  async #nextMessage(): Promise<ConsumeMessage | undefined> {
    try {
      const mayEnd = this.#options.until !== undefined;
      if (mayEnd && (await this.#reader?.peek(IDLE_MS)) === undefined) return undefined;
      return await this.#reader?.next();
    } catch (error) {
      await this.#connectAgain(asFailure(error));
      return undefined;
    }
  }

  /** Places in the stream can be left out; but what is before its first message was removed. */
  async #tellOfGap(message: ConsumeMessage): Promise<void> {
    if (this.#last === undefined) return;
    const after = offsetOf(this.#last) + 1;
    if (offsetOf(message) <= after) return;
    const { link, topology } = this.#client;
    let first: ConsumeMessage | undefined;
    try {
      const reader = await HistoryReader.open(this.#link ?? link, topology.historyStream, 0);
      first = await reader.peek(SAME_STREAM_WITHIN_MS);
      await reader.close();
    } catch {
      // The link is lost: what was removed is still to be told.
    }
    if (first !== undefined && offsetOf(first) <= after) return;
    this.#options.onFailure?.(eventsMissed(offsetOf(message) - after));
  }

  /** The event that a message of the stream holds, if it is wanted and new. */
  #take(message: ConsumeMessage): CloudEvent | undefined {
    if (this.#last !== undefined && offsetOf(message) <= offsetOf(this.#last)) return undefined;
    this.#last = message;
    const event = this.#isWanted(message) ? this.#decode(message) : undefined;
    if (event === undefined) return undefined;
    // On the exchange for data there are messages alone: what calls itself an event there is anybody's.
    if (message.fields.exchange === this.#client.topology.dataExchange && !isDataReadyEvent(event))
      return undefined;
    const { trigger, path } = this.#options;
    if (trigger !== undefined && !(isJobEvent(event) && event.data.job.trigger === trigger)) return undefined;
    if (path !== undefined && !pathsIn(event).some((one) => one.includes(path))) return undefined;
    // A producer can give his message the source and id of any event.
    const source = `${message.fields.exchange} ${event.source}`;
    if (!this.#seen.add({ source, id: event.id })) return undefined;
    // Anybody may publish, and tell any time.
    const time = new Date(event.time ?? Number.NaN);
    if (time > (this.#latest ?? this.#from) && time <= new Date()) this.#latest = time;
    return event;
  }

  #isWanted({ fields: { exchange, routingKey } }: ConsumeMessage): boolean {
    const { eventsExchange, dataExchange } = this.#client.topology;
    const { events, data } = this.#keys;
    const keys = exchange === eventsExchange ? events : exchange === dataExchange ? data : [];
    return keys.some((key) => bindingFits(key, routingKey));
  }

  /** Undefined for what is no event: anybody may publish. */
  #decode(message: ConsumeMessage): CloudEvent | undefined {
    const { body, properties, exchange } = receive(message);
    try {
      return exchange === this.#client.topology.dataExchange
        ? CloudEvent.parse(plainNumbers(decodeMessage(body, properties), []))
        : CloudEvent.parse(plainNumbers(parseJson(body.toString("utf8")), []));
    } catch {
      return undefined;
    }
  }

  /** Returns when it reads again, or is closed. */
  async #connectAgain(reason: MentoError): Promise<void> {
    const { onFailure } = this.#options;
    const { signal } = this.#stop;
    let failure: MentoError | undefined = reason;
    for (let attempt = 0; failure !== undefined && !signal.aborted; attempt++) {
      onFailure?.(failure);
      await this.#release();
      await sleep(backoff(attempt, PAUSES), undefined, { signal }).catch(() => undefined);
      failure = await this.#openAgain(attempt).then(() => undefined, asFailure);
    }
    if (signal.aborted) await this.#release();
    else onFailure?.(undefined);
  }

  async #openAgain(attempt: number): Promise<void> {
    const { address, topology } = this.#client;
    this.#link = await openLink(startingWith(address, attempt), this.#stop.signal);
    if (this.#last !== undefined) {
      // It must be there, and be the same: else the stream is another, and its places mean other messages.
      this.#reader = await HistoryReader.open(this.#link, topology.historyStream, offsetOf(this.#last));
      const first = await this.#reader.peek(SAME_STREAM_WITHIN_MS);
      if (first !== undefined && isAtOrAfter(first, this.#last)) return;
      await this.#reader.close();
    }
    if (this.#isAheadOfAll && this.#last === undefined) {
      this.#reader = await HistoryReader.open(this.#link, topology.historyStream, 0);
      return;
    }
    this.#last = undefined;
    // Of another history all is new; what it has of the old one's last minute has been seen.
    const start = this.#latest === undefined ? this.#from : before(this.#latest);
    this.#reader = await HistoryReader.open(this.#link, topology.historyStream, start);
  }

  async #release(): Promise<void> {
    const [reader, link] = [this.#reader, this.#link];
    this.#link = undefined;
    await reader?.close();
    await link?.close();
  }
}

function pathsIn(event: CloudEvent): string[] {
  const { paths, path } = event.data as { paths?: unknown; path?: unknown };
  return [paths, path].flat().filter((one) => typeof one === "string");
}

function isAtOrAfter(message: ConsumeMessage, last: ConsumeMessage): boolean {
  return offsetOf(message) > offsetOf(last) || message.content.equals(last.content);
}

function before(time: Date): Date {
  return new Date(time.getTime() - CLOCKS_DIFFER_MS);
}

/** The nodes of a cluster in turn: one may be up, but not have the stream. */
function startingWith(address: BrokerAddress, attempt: number): BrokerAddress {
  if (typeof address.url === "string") return address;
  const first = attempt % Math.max(1, address.url.length);
  return { ...address, url: [...address.url.slice(first), ...address.url.slice(0, first)] };
}

function eventsMissed(count: number): MentoError {
  return new MentoError({
    code: "events-missed",
    message: `RabbitMQ has removed up to ${count} messages and events from its history before this subscription read them.`,
    hint: "Read faster; or have a policy that limits the history (max-length-bytes, max-age) changed: `mento doctor` names it.",
  });
}

function asFailure(error: unknown): MentoError {
  return error instanceof MentoError ? error : brokerLost(errorText(error), error);
}

function timeSince(since: Date | string, now: Date): Date {
  const time = typeof since === "string" ? parsePastTime(since, now) : since;
  if (time === undefined || Number.isNaN(time.getTime())) {
    throw wrongUsage(`since is not a time: ${String(since)}.`, `It looks like ${PAST_TIME_FORMS}.`);
  }
  if (time.getTime() - now.getTime() > CLOCKS_DIFFER_MS) {
    throw wrongUsage(
      "since is in the future, by this host's clock.",
      "It is a time of the past: 2h, or 2026-11-21T20:15:00Z.",
    );
  }
  return time;
}

function wrongUsage(message: string, hint: string): Misconfigured {
  return new Misconfigured({ code: "wrong-usage", message, hint });
}
