import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { originOf } from "../../src/messages/origin.ts";
import { copyProperties, receive } from "../../src/messages/received.ts";
import { amqpMessage } from "../support/amqp-message.ts";

const body = Buffer.from(JSON.stringify({ path: "/x" }));

describe("what is kept of a message", () => {
  const ours = { "mento-trigger": "t", "mento-queued-for": "a b", "mento-attempts": 3 };

  it("are Mento's own headers only if it was published to its queue by name", () => {
    expect(receive(amqpMessage(body, { headers: ours })).ours).toEqual(ours);
    expect(receive(amqpMessage(body, { headers: ours }, { exchange: "mento.data" })).ours).toEqual({});
    expect(receive(amqpMessage(body, { headers: ours }, { exchange: "mento.events" })).ours).toEqual({});
  });

  it("is how often it came back only if it came back", () => {
    const headers = { "x-delivery-count": 40 };
    expect(receive(amqpMessage(body, { headers })).returns).toBe(0);
    expect(receive(amqpMessage(body, { headers }, { redelivered: true })).returns).toBe(40);
  });

  it("are no properties that a copy could not have", () => {
    const odd = {
      ...{ messageId: "", appId: "\ufffd".repeat(200), timestamp: 2 ** 64, type: "t", replyTo: "r" },
      ...{ expiration: "1", priority: 9, clusterId: "c" },
    };
    const { properties } = receive(amqpMessage(body, odd));
    expect(properties).toEqual({ type: "t", replyTo: "r", headers: {}, appId: "\ufffd".repeat(85) });
  });

  it("is the producer's other headers as text alone, which a later copy still has", () => {
    const headers = {
      CC: ["mento.default.jobs"],
      nested: { "!": "timestamp", value: 2 ** 64 },
      "x-match": "any",
    };
    const first = receive(amqpMessage(body, { headers }, { exchange: "mento.data" }));
    expect(first.otherHeaders).toBe(
      '{"CC":["mento.default.jobs"],"nested":{"!":"timestamp","value":18446744073709552000}}',
    );
    const copy = copyProperties(first, { "mento-attempts": 1 });
    expect(receive(amqpMessage(body, { ...copy })).otherHeaders).toBe(first.otherHeaders);
  });

  const value = fc.oneof(
    ...[fc.string({ unit: "binary" }), fc.double(), fc.boolean(), fc.constant(null)],
    fc.uint8Array().map((bytes) => Buffer.from(bytes)),
    fc.record({ "!": fc.constantFrom("timestamp", "decimal", "odd"), value: fc.anything() }),
    fc.anything(),
  );
  const names = [
    "CC",
    "BCC",
    "traceparent",
    "cloudEvents:id",
    "cloudEvents_id",
    "mento-trigger",
    "x-death",
    "!",
  ];
  const headers = fc.dictionary(fc.oneof(fc.constantFrom(...names), fc.string()), value);
  const text = fc.option(fc.string({ unit: "binary", maxLength: 400 }), { nil: undefined });
  const message = fc.record({
    ...{ headers, messageId: text, appId: text, type: text, replyTo: text, contentType: text },
    timestamp: fc.option(fc.double(), { nil: undefined }),
  });

  it("of anything that a client can publish, can be written, and is the same message when it comes back", () => {
    fc.assert(
      fc.property(message, fc.constantFrom("", "mento.data"), (properties, exchange) => {
        const first = receive(amqpMessage(body, properties, { exchange }));
        const copy = copyProperties(first, { "mento-attempts": 1 });
        const { headers: written = {}, ...others } = copy as { headers?: Record<string, unknown> };
        for (const one of Object.values(others)) {
          if (typeof one === "string") expect(Buffer.byteLength(one)).toBeLessThanOrEqual(255);
          else expect(Number.isSafeInteger(one)).toBe(true);
        }
        for (const [name, one] of Object.entries(written)) {
          expect(name).toMatch(/^(mento-[a-z-]+|traceparent|tracestate|cloudEvents:[a-z0-9]+)$/);
          expect(typeof one === "string" || Number.isFinite(one)).toBe(true);
        }
        expect(Buffer.byteLength(JSON.stringify(written))).toBeLessThan(48 * 1024);
        const back = receive(amqpMessage(body, { ...copy }));
        expect(originOf(back.body, back.properties)).toEqual(originOf(first.body, first.properties));
        expect(copyProperties(back, { "mento-attempts": 1 })).toEqual(copy);
      }),
      { numRuns: 500 },
    );
  });
});
