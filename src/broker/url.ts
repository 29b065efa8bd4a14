import { Misconfigured } from "../errors.ts";

/** What a url of RabbitMQ says, decoded. */
export interface BrokerUrl {
  host: string;
  port: number;
  /** undefined: RabbitMQ's own, `/`. */
  virtualHost: string | undefined;
  username: string | undefined;
  password: string | undefined;
  /** To connect with, without user and password. */
  href: string;
}

const FORM = "amqp://user:password@host:port/vhost";

/**
 * What is wrong with a url, and how it is written; undefined if nothing is. It is read strictly: what a url parser would
 * take for a host, because a password holds a `/`, is a mistake. Nothing of the url is repeated, as it holds a password.
 */
export function brokerUrlMistake(url: string): string | undefined {
  const [, rest] = /^amqps?:\/\/(.*)$/s.exec(url) ?? [];
  if (rest === undefined) return "must begin with amqp:// or amqps://";
  if (/[\s\p{Cc}]/u.test(url)) return "has a space or a control character; a space is written %20";
  if (/%(?![0-9A-Fa-f]{2})/.test(rest)) return "has a % that begins no %XX; a % itself is written %25";
  if (!isDecodable(rest)) {
    return "has %XX that stand for no UTF-8 text; a % itself is written %25, as in pass%25word";
  }
  const [, authority = "", path = ""] = /^([^/?#]*)(.*)$/s.exec(rest) ?? [];
  if (path.includes("@")) {
    return "has an @ behind a /, ? or #: in a user name or password these are written %2F, %3F and %23, and @ everywhere else %40";
  }
  if (path.includes("#")) return "has a #, which is written %23";
  const at = authority.lastIndexOf("@");
  if (authority.slice(0, Math.max(0, at)).includes("@"))
    return "has more than one @; in a password it is written %40";
  return mistakeOfHost(authority.slice(at + 1)) ?? mistakeOfPath(path) ?? notAUrl(url);
}

function isDecodable(text: string): boolean {
  try {
    decodeURIComponent(text);
    return true;
  } catch {
    return false;
  }
}

function mistakeOfHost(place: string): string | undefined {
  if (!place.startsWith("[") && place.split(":").length > 2) {
    return "has more than one : in its host; an IPv6 address stands in brackets, as in amqp://[::1]:5672";
  }
  const [, host = "", port] = /^(\[[^\]]*\]|[^:]*)(?::(.*))?$/s.exec(place) ?? [];
  if (host === "") return `names no host: ${FORM}`;
  if (host.includes(",")) return "names several hosts: give a list of urls instead";
  if (!/^(\[[0-9A-Fa-f:.]+\]|[\w.-]+)$/.test(host)) {
    return "has a host that is neither a name nor an address; an IPv6 address stands in brackets, without a zone";
  }
  if (port === undefined) return undefined;
  const isPort = /^\d{1,5}$/.test(port) && Number(port) >= 1 && Number(port) <= 65_535;
  return isPort ? undefined : `has a port that is no number from 1 to 65535; its form is ${FORM}`;
}

function mistakeOfPath(path: string): string | undefined {
  const [virtualHost = "", query = ""] = path.split("?");
  if (virtualHost.slice(1).includes("/")) return "has a / in its virtual host, which is written %2F there";
  const heartbeat = new URLSearchParams(query).get("heartbeat");
  const isHeartbeat = heartbeat === null || (/^\d{1,3}$/.test(heartbeat) && Number(heartbeat) >= 1);
  return isHeartbeat ? undefined : "has a heartbeat that is no number of seconds from 1 to 999";
}

function notAUrl(url: string): string | undefined {
  return URL.canParse(url) ? undefined : `is not a url: ${FORM}`;
}

/**
 * @throws Misconfigured `wrong-configuration`
 */
export function readBrokerUrl(text: string): BrokerUrl {
  const mistake = brokerUrlMistake(text);
  if (mistake !== undefined) {
    throw new Misconfigured({
      code: "wrong-configuration",
      message: `The url of RabbitMQ ${mistake}.`,
      hint: `Its form is ${FORM}; a password with unusual characters is better in broker.passwordFile.`,
    });
  }
  const url = new URL(text);
  const decoded = (part: string) => (part === "" ? undefined : decodeURIComponent(part));
  const [username, password] = [decoded(url.username), decoded(url.password)];
  url.username = "";
  url.password = "";
  return {
    ...{ host: url.hostname, username, password, href: url.href },
    port: Number(url.port || (url.protocol === "amqps:" ? 5671 : 5672)),
    virtualHost: decoded(url.pathname.slice(1)),
  };
}
