/**
 * CloudEvents attributes in AMQP headers: the binary content mode
 * (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/amqp-protocol-binding.md). The prefixes are
 * `cloudEvents:`, its form for those who cannot write a colon, and HTTP's, as Knative's RabbitMQ source has it.
 */
const ATTRIBUTE = /^(cloudevents:|cloudevents_|ce-)([a-z0-9]{1,40})$/i;

/** What every event has. */
export const REQUIRED_ATTRIBUTES: readonly string[] = ["specversion", "id", "source", "type"];
/** How the `specversion` begins that a message which is no event has on its way: what follows is why. */
export const NO_EVENT = "none: ";
const MAX_ATTRIBUTES = 64;
const MAX_VALUE_BYTES = 2048;
const MAX_BYTES = 16 * 1024;

export interface HeaderAttributes {
  /** By name; of one that cannot be read the text is empty, which no attribute's is. */
  attributes: ReadonlyMap<string, string>;
  /** A sentence: why this is no event. */
  mistake: string | undefined;
}

/**
 * The attributes that headers hold, as text; null if the message is not in binary mode: none of the four attributes that
 * every event has is there. Never throws, whatever amqplib has made of a stranger's headers.
 */
export function attributesInHeaders(headers: unknown): HeaderAttributes | null {
  const attributes = new Map<string, string>();
  const prefixes = new Set<string>();
  let mistake: string | undefined;
  let bytes = 0;
  for (const [header, value] of ownEntries(headers)) {
    const [, prefix = "", written = ""] = ATTRIBUTE.exec(header) ?? [];
    // A void header is an attribute that is not there.
    if (written === "" || value === null || value === undefined) continue;
    const name = written.toLowerCase();
    prefixes.add(prefix.toLowerCase());
    const text = canonicalText(value);
    if (name === "specversion" && text?.startsWith(NO_EVENT) === true)
      mistake ??= text.slice(NO_EVENT.length);
    if (name === "data") mistake ??= `its header ${header} is no attribute: data is the body`;
    const isTwice = attributes.has(name);
    if (text === undefined) {
      mistake ??= `its header ${header} is not text of 1 to ${MAX_VALUE_BYTES} bytes in UTF-8 without control characters`;
    }
    if (isTwice) mistake ??= `its headers hold the attribute ${name} twice`;
    attributes.set(name, isTwice ? "" : (text ?? ""));
    bytes += header.length + Buffer.byteLength(text ?? "");
  }
  if (!REQUIRED_ATTRIBUTES.some((name) => attributes.has(name))) return null;
  if (prefixes.size > 1) mistake ??= `its headers mix the prefixes ${[...prefixes].join(" and ")}`;
  if (attributes.size > MAX_ATTRIBUTES) mistake ??= `its headers hold more than ${MAX_ATTRIBUTES} attributes`;
  if (bytes > MAX_BYTES) mistake ??= `the attributes in its headers have more than ${MAX_BYTES} bytes`;
  return { attributes, mistake };
}

/** Own properties alone: a header named `__proto__` is the prototype of what amqplib gives. */
export function ownEntries(headers: unknown): [string, unknown][] {
  try {
    return typeof headers === "object" && headers !== null ? Object.entries(headers) : [];
  } catch {
    return [];
  }
}

/**
 * The text of a value, which may come as one of AMQP's own types. A string that was not UTF-8 has U+FFFD where amqplib
 * could not read it; an integer beyond 2^53 is no longer the one that was sent.
 */
export function canonicalText(value: unknown): string | undefined {
  const text = textOf(value);
  if (text === undefined || text === "" || Buffer.byteLength(text) > MAX_VALUE_BYTES) return undefined;
  return /[\p{Cc}\ufffd]/u.test(text) || !text.isWellFormed() ? undefined : text;
}

function textOf(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (typeof value === "boolean") return String(value);
  if (typeof value === "number") {
    return Number.isFinite(value) && Math.abs(value) <= Number.MAX_SAFE_INTEGER ? String(value) : undefined;
  }
  if (value instanceof Uint8Array) return utf8Of(value);
  const [type, of] = timestampOf(value);
  return type === "timestamp" && typeof of === "number" ? timeOfTimestamp(of) : undefined;
}

function utf8Of(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/** amqplib's `{ "!": "timestamp", value }`. */
function timestampOf(value: unknown): [unknown, unknown] {
  const fields = new Map(ownEntries(value));
  return [fields.get("!"), fields.get("value")];
}

/** AMQP's timestamp is in seconds; many producers send milliseconds. What is neither is no time. */
export function timeOfTimestamp(timestamp: number): string | undefined {
  const isTime = (milliseconds: number) => milliseconds > 0 && milliseconds < Date.UTC(2200, 0);
  const found = [timestamp * 1000, timestamp].find(isTime);
  return found === undefined ? undefined : new Date(found).toISOString();
}
