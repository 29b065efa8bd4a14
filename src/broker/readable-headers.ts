import type { ChannelModel } from "amqplib";
import { LEFT_OUT_HEADER } from "../messages/received.ts";

/** What amqplib 2.3.1 decodes (lib/codec.js). RabbitMQ passes on others too, e.g. `L`, and then the whole connection breaks. */
const FIXED_SIZES: ReadonlyMap<string, number> = new Map([
  ...(["b", "B", "t"] as const).map((tag) => [tag, 1] as const),
  ...(["s", "u"] as const).map((tag) => [tag, 2] as const),
  ...(["I", "i", "f"] as const).map((tag) => [tag, 4] as const),
  ...(["l", "d", "T"] as const).map((tag) => [tag, 8] as const),
  ["D", 5],
  ["V", 0],
]);
const TEXTS = "Sx";
const CONTAINERS = "FA";

/** amqplib decodes by recursion: some thousand tables in one another are more than the stack holds. */
const MAX_DEPTH = 32;

const FRAME_HEADER_BYTES = 7;
const CONTENT_HEADER = 2;
const FLAGS_AT = FRAME_HEADER_BYTES + 12;
const CONTENT_TYPE_FLAG = 1 << 15;
const CONTENT_ENCODING_FLAG = 1 << 14;
const HEADERS_FLAG = 1 << 13;

/** amqplib's connection, as far as it is used here: its types leave out how it reads. */
interface Reading {
  rest: Buffer;
  recvFrame: () => unknown;
}

/**
 * A message with headers that amqplib cannot decode would end the connection of whoever it is delivered to, again and again.
 * So such headers are taken out of the frame before it is decoded; the message is then handled like any other.
 */
export function leaveOutUnreadableHeaders({ connection }: ChannelModel): void {
  const reading = connection as unknown as Reading;
  const receive = reading.recvFrame.bind(reading);
  reading.recvFrame = () => {
    reading.rest = withReadableHeaders(reading.rest);
    return receive();
  };
}

/** Bytes that begin with a frame (https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf, 4.2), whole or not. */
export function withReadableHeaders(bytes: Buffer): Buffer {
  if (bytes.length < FRAME_HEADER_BYTES || bytes[0] !== CONTENT_HEADER) return bytes;
  const size = bytes.readUInt32BE(3);
  const end = FRAME_HEADER_BYTES + size;
  if (bytes.length <= end || size < 14) return bytes;
  const flags = bytes.readUInt16BE(FLAGS_AT);
  if ((flags & HEADERS_FLAG) === 0) return bytes;
  let at = FLAGS_AT + 2;
  for (const flag of [CONTENT_TYPE_FLAG, CONTENT_ENCODING_FLAG]) {
    if ((flags & flag) !== 0) at += 1 + (bytes[at] ?? 0);
  }
  if (at + 4 > end) return bytes;
  const tableEnd = at + 4 + bytes.readUInt32BE(at);
  if (tableEnd > end) return bytes;
  const table = bytes.subarray(at + 4, tableEnd);
  const kept = readableEntries(table);
  if (kept.equals(table)) return bytes;
  const tableSize = Buffer.alloc(4);
  tableSize.writeUInt32BE(kept.length);
  const frame = [bytes.subarray(0, at), tableSize, kept, bytes.subarray(tableEnd)];
  const result = Buffer.concat(frame);
  result.writeUInt32BE(size - (table.length - kept.length), 3);
  return result;
}

/** amqplib assigns each value to an object by its key: this one would make the object another's descendant, e.g. a Buffer's. */
const PROTOTYPE = "__proto__";

const LEFT_OUT = Buffer.concat([
  Buffer.from([LEFT_OUT_HEADER.length]),
  Buffer.from(`${LEFT_OUT_HEADER}t\x01`, "latin1"),
]);

/**
 * The entries of a header table that amqplib can decode; of those behind one of an unknown type nothing can be told. Of
 * equal keys RabbitMQ reads and writes the first, and amqplib keeps the last: so the first alone is left, and a value that
 * holds a table with equal keys is none that can be read.
 */
function readableEntries(table: Buffer): Buffer {
  const kept: Buffer[] = [];
  const keys = new Set<string>();
  let at = 0;
  let isWhole = true;
  while (at < table.length) {
    const valueAt = at + 1 + (table[at] ?? 0);
    const key = table.toString("latin1", at + 1, valueAt);
    const value = valueFrom(table, valueAt);
    if (value === undefined) {
      isWhole = false;
      break;
    }
    if (!value.isReadable || key === PROTOTYPE) isWhole = false;
    else if (!keys.has(key)) kept.push(table.subarray(at, value.end));
    keys.add(key);
    at = value.end;
  }
  if (!isWhole) kept.push(LEFT_OUT);
  return Buffer.concat(kept);
}

/** Where a tagged value ends, and whether amqplib can decode it; undefined if its end cannot be told. */
function valueFrom(bytes: Buffer, at: number): { end: number; isReadable: boolean } | undefined {
  const tag = String.fromCharCode(bytes[at] ?? 0);
  // RabbitMQ's second tag for a signed integer of 64 bits.
  const size = tag === "L" ? 8 : FIXED_SIZES.get(tag);
  if (size !== undefined) return within(bytes, at + 1 + size, tag !== "L");
  if (at + 5 > bytes.length) return undefined;
  const end = at + 5 + bytes.readUInt32BE(at + 1);
  if (TEXTS.includes(tag)) return within(bytes, end, true);
  if (!CONTAINERS.includes(tag)) return undefined;
  return within(bytes, end, end <= bytes.length && isReadableContainer(bytes.subarray(at, end)));
}

function within(
  bytes: Buffer,
  end: number,
  isReadable: boolean,
): { end: number; isReadable: boolean } | undefined {
  return end <= bytes.length ? { end, isReadable } : undefined;
}

/** Without recursion: the depth is what is looked for. */
function isReadableContainer(container: Buffer): boolean {
  const open: { end: number; keys: Set<string> | undefined }[] = [];
  let at = 0;
  for (;;) {
    while (open.length > 0 && at === open.at(-1)?.end) open.pop();
    const inner = open.at(-1);
    if (inner === undefined && at > 0) return true;
    if (inner?.keys !== undefined) {
      const keyEnd = at + 1 + (container[at] ?? 0);
      const key = container.toString("latin1", at + 1, keyEnd);
      if (key === PROTOTYPE || inner.keys.has(key)) return false;
      inner.keys.add(key);
      at = keyEnd;
    }
    const tag = String.fromCharCode(container[at] ?? 0);
    const limit = inner?.end ?? container.length;
    if (CONTAINERS.includes(tag)) {
      if (at + 5 > limit || open.length >= MAX_DEPTH) return false;
      const end = at + 5 + container.readUInt32BE(at + 1);
      if (end > limit) return false;
      open.push({ end, keys: tag === "F" ? new Set() : undefined });
      at += 5;
      continue;
    }
    const value = valueFrom(container, at);
    if (value === undefined || !value.isReadable || value.end > limit) return false;
    at = value.end;
  }
}
