import { createHash } from "node:crypto";
import type { Channel } from "amqplib";
import { expect, it } from "vitest";
import { leaveOutLargeBodies } from "../../src/broker/large-bodies.ts";

it("a body over the limit goes by, and is known by its size and hash; those before and behind it stay", () => {
  const accepted: object[] = [];
  const channel = { accept: (frame: object) => accepted.push(frame) };
  leaveOutLargeBodies(channel as unknown as Channel, 10);
  const frames = (name: string, body: string) => [
    { id: 60, size: body.length, fields: { messageId: name } },
    ...(body.match(/.{1,4}/g) ?? []).map((part) => ({ content: Buffer.from(part) })),
  ];
  const deliver = { id: 3932220, fields: { deliveryTag: 1 } };
  const sent = [
    ...[deliver, ...frames("small", "1234567890")],
    ...[deliver, ...frames("large", "12345678901")],
    ...[deliver, ...frames("empty", "")],
    ...[deliver, ...frames("large", "abcdefghijklm")],
    ...[deliver, ...frames("next", "{}")],
  ];
  for (const frame of sent) channel.accept(frame);
  const leftOut = (body: string) => ({
    ...{ id: 60, size: 0 },
    fields: {
      messageId: "large",
      leftOut: { bytes: body.length, sha256: createHash("sha256").update(body).digest("hex") },
    },
  });
  expect(accepted).toEqual([
    ...[deliver, ...frames("small", "1234567890")],
    ...[deliver, leftOut("12345678901")],
    ...[deliver, ...frames("empty", "")],
    ...[deliver, leftOut("abcdefghijklm")],
    ...[deliver, ...frames("next", "{}")],
  ]);
});
