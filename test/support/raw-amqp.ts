import { once } from "node:events";
import { connect as connectSocket, type Socket } from "node:net";

/**
 * A client that publishes whatever bytes it is given as a message's properties: what other clients refuse to write, or
 * write in one way only. Speaks as much of AMQP 0-9-1 as a confirmed publish needs.
 */
export interface RawPublisher {
  /** Resolves with "ack", or with what RabbitMQ closed the channel or connection for. */
  publish(message: RawMessage): Promise<string>;
  close(): void;
}

export interface RawMessage {
  exchange: string;
  routingKey: string;
  body: Buffer;
  /** Flags and values as on the wire; see `rawProperties`. */
  properties: Buffer;
}

/** In the order of the wire, with their bits. */
const PROPERTIES = {
  contentType: 15,
  contentEncoding: 14,
  headers: 13,
  deliveryMode: 12,
  priority: 11,
  correlationId: 10,
  replyTo: 9,
  expiration: 8,
  messageId: 7,
  timestamp: 6,
  type: 5,
  userId: 4,
  appId: 3,
  clusterId: 2,
} as const;

export type RawProperties = Partial<Record<keyof typeof PROPERTIES, Buffer>>;

/** Each value is encoded already: `shortString`, `table`, `u64`, or bytes of any kind. */
export function rawProperties(values: RawProperties): Buffer {
  let flags = 0;
  const parts: Buffer[] = [];
  for (const [name, bit] of Object.entries(PROPERTIES)) {
    const value = values[name as keyof RawProperties];
    if (value === undefined) continue;
    flags |= 1 << bit;
    parts.push(value);
  }
  return Buffer.concat([u16(flags), ...parts]);
}

export function shortString(text: string | Buffer): Buffer {
  const bytes = Buffer.from(text as string);
  return Buffer.concat([Buffer.from([bytes.length]), bytes]);
}

export function longString(text: string | Buffer): Buffer {
  const bytes = Buffer.from(text as string);
  return Buffer.concat([u32(bytes.length), bytes]);
}

/** A header table: each value with its tag before it, as `field` gives it. */
export function table(entries: readonly (readonly [key: string | Buffer, value: Buffer])[]): Buffer {
  return longString(Buffer.concat(entries.flatMap(([key, value]) => [shortString(key), value])));
}

/** A tagged value of a header table, such as `field("S", longString("text"))`. */
export function field(tag: string, value: Buffer = Buffer.alloc(0)): Buffer {
  return Buffer.concat([Buffer.from(tag, "latin1"), value]);
}

export function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
}

export function double(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleBE(value);
  return bytes;
}

interface Frame {
  type: number;
  payload: Buffer;
}

const FRAME_BYTES = 120_000;

export async function connectRaw(url: string): Promise<RawPublisher> {
  const { hostname, port, username, password, pathname } = new URL(url);
  const socket = connectSocket(Number(port), hostname);
  await once(socket, "connect");
  const frames = framesOf(socket);
  const next = async (): Promise<Frame> => {
    for (;;) {
      const { value, done } = await frames.next();
      if (done === true) throw new Error("RabbitMQ closed the socket");
      if (value.type !== 8) return value;
    }
  };
  const send = (channel: number, classId: number, methodId: number, ...args: Buffer[]) =>
    socket.write(frame(1, channel, Buffer.concat([u16(classId), u16(methodId), ...args])));
  socket.write(Buffer.from("AMQP\0\0\x09\x01", "latin1"));
  await next();
  const login = longString(`\0${decodeURIComponent(username)}\0${decodeURIComponent(password)}`);
  send(0, 10, 11, table([]), shortString("PLAIN"), login, shortString("en_US"));
  await next();
  send(0, 10, 31, u16(100), u32(131_072), u16(0));
  const vhost = pathname.length > 1 ? decodeURIComponent(pathname.slice(1)) : "/";
  send(0, 10, 40, shortString(vhost), shortString(""), Buffer.from([0]));
  await next();
  send(1, 20, 10, shortString(""));
  await next();
  send(1, 85, 10, Buffer.from([0]));
  await next();
  return {
    publish: async ({ exchange, routingKey, body, properties }) => {
      send(1, 60, 40, u16(0), shortString(exchange), shortString(routingKey), Buffer.from([0]));
      const size = u64(BigInt(body.length));
      socket.write(frame(2, 1, Buffer.concat([u16(60), u16(0), size, properties])));
      for (let at = 0; at < body.length; at += FRAME_BYTES) {
        socket.write(frame(3, 1, body.subarray(at, at + FRAME_BYTES)));
      }
      const { payload } = await next();
      const method = `${payload.readUInt16BE(0)}.${payload.readUInt16BE(2)}`;
      return method === "60.80" ? "ack" : `${method} ${payload.subarray(4).toString("latin1")}`;
    },
    close: () => socket.destroy(),
  };
}

function frame(type: number, channel: number, payload: Buffer): Buffer {
  return Buffer.concat([
    Buffer.from([type]),
    u16(channel),
    u32(payload.length),
    payload,
    Buffer.from([0xce]),
  ]);
}

async function* framesOf(socket: Socket): AsyncGenerator<Frame, void, undefined> {
  let left = Buffer.alloc(0);
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    left = Buffer.concat([left, chunk]);
    while (left.length >= 7 && left.length >= left.readUInt32BE(3) + 8) {
      const size = left.readUInt32BE(3);
      yield { type: left.readUInt8(0), payload: left.subarray(7, 7 + size) };
      left = left.subarray(size + 8);
    }
  }
}
