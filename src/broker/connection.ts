import { connect, credentials, type ChannelModel } from "amqplib";
import { MentoError, Unavailable, errorText } from "../errors.ts";

export interface BrokerAddress {
  url: string;
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
  /** Resolves once, with the reason, when the link is no longer usable; with undefined after our own `close`. */
  lost: Promise<MentoError | undefined>;
  /** Gives the link up: a channel broke, a confirm did not come. */
  fail(error: MentoError): void;
  close(): Promise<void>;
}

const CONNECT_TIMEOUT_MS = 10_000;
const HEARTBEAT_SECONDS = 10;
const CLOSE_TIMEOUT_MS = 2_000;

/**
 * One attempt.
 *
 * @throws Unavailable `broker-unreachable`, `broker-refused`
 */
export async function openLink(address: BrokerAddress): Promise<BrokerLink> {
  let lose: (error?: MentoError) => void = () => undefined;
  const lost = new Promise<MentoError | undefined>((resolve) => (lose = resolve));
  const consuming = await openConnection(address, "consume", lose);
  let publishing: ChannelModel;
  try {
    publishing = await openConnection(address, "publish", lose);
  } catch (error) {
    await closeQuietly(consuming);
    throw error;
  }
  const close = async () => {
    lose();
    await Promise.all([closeQuietly(consuming), closeQuietly(publishing)]);
  };
  return {
    consuming,
    publishing,
    lost,
    fail: (error) => {
      lose(error);
      void close();
    },
    close,
  };
}

async function openConnection(
  address: BrokerAddress,
  purpose: string,
  lose: (error: MentoError) => void,
): Promise<ChannelModel> {
  const url = new URL(address.url);
  const username = address.username ?? decodeURIComponent(url.username || "guest");
  const password = address.password ?? decodeURIComponent(url.password || "guest");
  url.searchParams.set("heartbeat", String(HEARTBEAT_SECONDS));
  try {
    const connection = await connect(url.href, {
      timeout: CONNECT_TIMEOUT_MS,
      noDelay: true,
      // Not from the url: amqplib reads anything but ASCII there wrongly.
      credentials: credentials.plain(username, password),
      clientProperties: { connection_name: `${address.name} ${purpose}` },
    });
    // `error` comes before `close`, or not at all; only `close` means that the connection is gone.
    connection.on("error", () => undefined);
    connection.on("close", (error?: Error) => lose(brokerLost(error?.message ?? "it was closed", error)));
    return connection;
  } catch (cause) {
    throw connectError(cause, address);
  }
}

function connectError(cause: unknown, address: BrokerAddress): Unavailable {
  const place = new URL(address.url);
  const where = `${place.hostname}:${place.port || (place.protocol === "amqps:" ? "5671" : "5672")}`;
  const said = errorText(cause) || "no answer";
  // amqplib gives refusals of the handshake no code, only RabbitMQ's text.
  // A virtual host that does not exist comes as `Expected ConnectionOpenOk; got <ConnectionClose channel:0>`.
  if (/ACCESS.REFUSED|NOT.ALLOWED|got <ConnectionClose/.test(said)) {
    return new Unavailable({
      code: "broker-refused",
      message: `RabbitMQ at ${where} refused the login: ${said}.`,
      hint: "Check broker.url, broker.username and the password; the virtual host is the path of the url.",
      cause,
    });
  }
  return new Unavailable({
    code: "broker-unreachable",
    message: `RabbitMQ at ${where} cannot be reached: ${said}.`,
    hint: "Is it running, and is broker.url right?",
    cause,
  });
}

export function brokerLost(what: string, cause?: unknown): Unavailable {
  return new Unavailable({
    code: "broker-lost",
    message: `The connection to RabbitMQ broke: ${what}.`,
    hint: "Mento connects again; nothing is lost.",
    cause,
  });
}

/** Closing waits for the broker's answer, which a dead broker never gives. */
async function closeQuietly(connection: ChannelModel): Promise<void> {
  const closed = connection.close().catch(() => undefined);
  const timeout = new Promise<void>((resolve) => setTimeout(resolve, CLOSE_TIMEOUT_MS).unref());
  await Promise.race([closed, timeout]);
}
