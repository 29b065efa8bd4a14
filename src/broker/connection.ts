import { connect, credentials, type ChannelModel } from "amqplib";
import { BrokerUnavailable, errorText, MentoError } from "../errors.ts";
import { leaveOutUnreadableHeaders } from "./readable-headers.ts";
import { readBrokerUrl } from "./url.ts";
import { within } from "../time/within.ts";

export interface BrokerAddress {
  /** Of several, each attempt takes the first that answers: the nodes of one cluster. */
  url: string | readonly string[];
  username?: string | undefined;
  password?: string | undefined;
  /** Shown on RabbitMQ's page of connections. */
  name: string;
}

/**
 * Two connections to the broker, because a memory alarm blocks a connection that publishes, and with it the
 * acknowledgements on it. They live and die together: when one is lost, the link is lost, and all deliveries with it.
 */
export interface BrokerLink {
  consuming: ChannelModel;
  publishing: ChannelModel;
  /** Host, port and virtual host. */
  place: string;
  /** Resolves once, with the reason, when the link is no longer usable; with undefined after our own `close`. */
  lost: Promise<MentoError | undefined>;
  /** Whether it was lost by what was done over it: a channel broke, a confirm did not come, the broker found a mistake. */
  readonly wasGivenUp: boolean;
  /** Why the broker takes no publishes for the moment, e.g. `low on memory`; undefined while it takes them. */
  readonly blocked: string | undefined;
  /** Resolves with the reason as soon as the broker takes no publishes; with undefined when the link is lost. */
  whenBlocked(): Promise<string | undefined>;
  /** Resolves as soon as the broker takes publishes again, or the link is lost. */
  whenUnblocked(): Promise<void>;
  /**
   * Waits for the broker's answer, but not for one that never comes: of a broker that hangs, or over a lost link.
   *
   * @throws Unavailable `broker-unreachable` after a minute, and `broker-lost`
   */
  answer<T>(work: Promise<T>, what: string): Promise<T>;
  /** Gives the link up: a channel broke, a confirm did not come. */
  fail(error: MentoError): void;
  close(): Promise<void>;
}

const CONNECT_TIMEOUT_MS = 10_000;
const HEARTBEAT_SECONDS = 10;
const CLOSE_TIMEOUT_MS = 2_000;
/** Declaring queues takes a cluster under load some seconds. */
const ANSWER_TIMEOUT_MS = 60_000;

/**
 * One attempt, at each of the urls in turn.
 *
 * @param stop ends the attempt at once
 * @throws Unavailable `broker-unreachable`, `broker-refused`; Misconfigured `wrong-configuration` for a malformed url
 */
export async function openLink(address: BrokerAddress, stop?: AbortSignal): Promise<BrokerLink> {
  const urls = typeof address.url === "string" ? [address.url] : address.url;
  const failures: BrokerUnavailable[] = [];
  for (const url of urls) {
    try {
      return await openLinkTo(url, address, stop);
    } catch (error) {
      if (!(error instanceof BrokerUnavailable)) throw error;
      failures.push(error);
    }
  }
  throw ofAll(failures);
}

/** A refusal is what a person can mend; else all are out of reach. */
function ofAll(failures: readonly BrokerUnavailable[]): BrokerUnavailable {
  const [first] = failures;
  const refused = failures.find(({ code }) => code === "broker-refused");
  if (refused !== undefined) return refused;
  if (first !== undefined && failures.length === 1) return first;
  return new BrokerUnavailable({
    code: "broker-unreachable",
    message: failures.map(({ message }) => message).join(" ") || "No url of RabbitMQ is given.",
    hint: "Is one of them running, and is broker.url right?",
    cause: first,
  });
}

async function openLinkTo(url: string, address: BrokerAddress, stop?: AbortSignal): Promise<BrokerLink> {
  // Ends the sockets: of an attempt that is stopped, and of a broker that does not answer our closing.
  const sockets = new AbortController();
  const onStop = () => sockets.abort();
  stop?.addEventListener("abort", onStop);
  if (stop?.aborted === true) sockets.abort();
  const tooEarly: MentoError[] = [];
  let lose: (error: MentoError, cause?: object) => void = (error) => {
    tooEarly.push(error);
  };
  try {
    const open = (purpose: string) =>
      openConnection(
        url,
        { ...address, name: `${address.name} ${purpose}` },
        sockets.signal,
        (error, cause) => lose(error, cause),
      );
    const consuming = await open("consume");
    const publishing = await open("publish");
    if (tooEarly[0] !== undefined) throw tooEarly[0];
    const link = new Link(consuming, publishing, { place: placeOf(url), sockets });
    lose = (error, cause) => link.lose(error, isMistake(cause));
    return link;
  } catch (error) {
    sockets.abort();
    throw error;
  } finally {
    stop?.removeEventListener("abort", onStop);
  }
}

async function openConnection(
  text: string,
  address: BrokerAddress,
  signal: AbortSignal,
  lose: (error: MentoError, cause?: object) => void,
): Promise<ChannelModel> {
  const read = readBrokerUrl(text);
  const username = address.username ?? read.username ?? "guest";
  const password = address.password ?? read.password ?? "guest";
  const url = new URL(read.href);
  if (!url.searchParams.has("heartbeat")) url.searchParams.set("heartbeat", String(HEARTBEAT_SECONDS));
  try {
    const options = {
      timeout: CONNECT_TIMEOUT_MS,
      noDelay: true,
      // Not from the url: amqplib reads anything but ASCII there wrongly.
      credentials: credentials.plain(username, password),
      clientProperties: { connection_name: address.name },
      // amqplib hands it to the socket.
      signal,
    };
    const connection = await connect(url.href, options);
    leaveOutUnreadableHeaders(connection);
    // `error` comes before `close`, or not at all; only `close` means that the connection is gone.
    connection.on("error", () => undefined);
    connection.on("close", (error?: Error) =>
      lose(brokerLost(error?.message ?? "it was closed", error), error),
    );
    return connection;
  } catch (cause) {
    throw connectError(cause, placeOf(text));
  }
}

class Link implements BrokerLink {
  readonly consuming: ChannelModel;
  readonly publishing: ChannelModel;
  readonly place: string;
  readonly lost: Promise<MentoError | undefined>;
  readonly #sockets: AbortController;
  readonly #resolveLost: (error: MentoError | undefined) => void;
  /** What is told when the link is lost: whoever waits for an answer. */
  readonly #asking = new Set<(error: MentoError) => void>();
  #isLost = false;
  #wasGivenUp = false;
  #blocked: string | undefined;
  #awaitingChange: (() => void)[] = [];

  constructor(
    consuming: ChannelModel,
    publishing: ChannelModel,
    { place, sockets }: { place: string; sockets: AbortController },
  ) {
    let resolveLost: (error: MentoError | undefined) => void = () => undefined;
    this.lost = new Promise((resolve) => (resolveLost = resolve));
    this.#resolveLost = resolveLost;
    this.consuming = consuming;
    this.publishing = publishing;
    this.place = place;
    this.#sockets = sockets;
    const block = (reason: string | undefined) => {
      this.#blocked = reason;
      this.#tellChange();
    };
    publishing.on("blocked", (reason) => block(reason || "it gives no reason"));
    publishing.on("unblocked", () => block(undefined));
  }

  get wasGivenUp(): boolean {
    return this.#wasGivenUp;
  }

  get blocked(): string | undefined {
    return this.#blocked;
  }

  async whenBlocked(): Promise<string | undefined> {
    while (this.#blocked === undefined && !this.#isLost) await this.#change();
    return this.#isLost ? undefined : this.#blocked;
  }

  async whenUnblocked(): Promise<void> {
    while (this.#blocked !== undefined && !this.#isLost) await this.#change();
  }

  answer<T>(work: Promise<T>, what: string): Promise<T> {
    return new Promise((resolve, reject) => {
      const end = () => {
        clearTimeout(timer);
        this.#asking.delete(give);
      };
      const give = (error: Error) => {
        end();
        reject(error);
      };
      const timer = setTimeout(() => this.fail(hangs(this.place, what)), ANSWER_TIMEOUT_MS);
      this.#asking.add(give);
      work.then((value) => {
        end();
        resolve(value);
      }, give);
      if (this.#isLost) give(brokerLost("it was closed"));
    });
  }

  lose(error: MentoError | undefined, isGivenUp = false): void {
    if (this.#isLost) return;
    this.#isLost = true;
    this.#wasGivenUp = isGivenUp;
    this.#resolveLost(error);
    for (const give of this.#asking) give(error ?? brokerLost("it was closed"));
    this.#tellChange();
  }

  fail(error: MentoError): void {
    this.lose(error, true);
    void this.close();
  }

  async close(): Promise<void> {
    this.lose(undefined);
    const closed = Promise.allSettled([this.consuming.close(), this.publishing.close()]);
    // Closing waits for the broker's answer, which a dead broker never gives; nor one that blocks its publishers. The
    // wait may be all that keeps the process alive.
    await within(CLOSE_TIMEOUT_MS, closed);
    this.#sockets.abort();
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#awaitingChange.push(resolve));
  }

  #tellChange(): void {
    const waiting = this.#awaitingChange;
    this.#awaitingChange = [];
    for (const resolve of waiting) resolve();
  }
}

/** AMQP's codes from 501 on are mistakes of a client, or of the broker about it; below, a person or the network closed it. */
function isMistake(cause: object | undefined): boolean {
  return cause !== undefined && "code" in cause && typeof cause.code === "number" && cause.code > 500;
}

/** Host, port and virtual host, without the password. */
function placeOf(text: string): string {
  const { host, port, virtualHost } = readBrokerUrl(text);
  return `${host}:${port}${virtualHost === undefined ? "" : `, virtual host ${virtualHost}`}`;
}

function connectError(cause: unknown, place: string): BrokerUnavailable {
  const said = errorText(cause) || "no answer";
  // A virtual host that does not exist comes as `Expected ConnectionOpenOk; got <ConnectionClose channel:0>`.
  if (/got <ConnectionClose|vhost \S+ not found/i.test(said)) {
    return new BrokerUnavailable({
      code: "broker-refused",
      message: `RabbitMQ at ${place} has no such virtual host, or refuses this user in it: ${said}.`,
      hint: "The virtual host is the path of broker.url, and / is written without a path or as %2F; `rabbitmqctl list_vhosts` and `rabbitmqctl list_permissions -p VHOST` say what there is.",
      cause,
    });
  }
  if (/ACCESS.REFUSED|NOT.ALLOWED/.test(said)) {
    return new BrokerUnavailable({
      code: "broker-refused",
      message: `RabbitMQ at ${place} refused the login: ${said}.`,
      hint: "Check broker.url, broker.username and the password; the virtual host is the path of the url.",
      cause,
    });
  }
  return new BrokerUnavailable({
    code: "broker-unreachable",
    message: `RabbitMQ at ${place} cannot be reached: ${said}.`,
    hint: "Is it running, and is broker.url right?",
    cause,
  });
}

function hangs(place: string, what: string): BrokerUnavailable {
  return new BrokerUnavailable({
    code: "broker-unreachable",
    message: `RabbitMQ at ${place} has not answered for ${ANSWER_TIMEOUT_MS / 1000} s: ${what}.`,
    hint: "It hangs, or most nodes of its cluster are away; Mento tries again.",
  });
}

export function brokerLost(what: string, cause?: unknown): BrokerUnavailable {
  return new BrokerUnavailable({
    code: "broker-lost",
    message: `The connection to RabbitMQ broke: ${what}.`,
    hint: "Mento connects again; nothing is lost.",
    cause,
  });
}
