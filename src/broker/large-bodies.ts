import { createHash } from "node:crypto";
import type { Channel } from "amqplib";
import type { LeftOutBody } from "../messages/received.ts";

/** What amqplib 2.3.1 gives a channel (lib/frame.js): a message is one frame of properties, then those of its content. */
interface Frame {
  size?: number;
  fields?: object;
  content?: Buffer;
}

/** amqplib's channel, as far as it is used here: its types leave out how it receives. */
interface Receiving {
  accept: (frame: Frame) => void;
}

/**
 * amqplib holds all of a body before anybody can look at it, and of as many messages as are prefetched. Of bodies that are
 * larger than `most` the bytes go by here: such a message is delivered without its body, with `leftOut` among its properties.
 */
export function leaveOutLargeBodies(channel: Channel, most: number): void {
  const receiving = channel as unknown as Receiving;
  const accept = receiving.accept.bind(receiving);
  let large:
    { header: Frame; bytes: number; missing: number; hash: ReturnType<typeof createHash> } | undefined;
  receiving.accept = (frame) => {
    const { size, content } = frame;
    if (size !== undefined && size > most) {
      large = { header: frame, bytes: size, missing: size, hash: createHash("sha256") };
      return;
    }
    if (large === undefined || content === undefined) {
      accept(frame);
      return;
    }
    large.hash.update(content);
    large.missing -= content.length;
    if (large.missing > 0) return;
    const leftOut: LeftOutBody = { bytes: large.bytes, sha256: large.hash.digest("hex") };
    accept({ ...large.header, size: 0, fields: { ...large.header.fields, leftOut } });
    large = undefined;
  };
}
