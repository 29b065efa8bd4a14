import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeMessage } from "../../src/messages/cloud-event.ts";
import { originOf } from "../../src/messages/origin.ts";
import { receive } from "../../src/messages/received.ts";
import { idOfNextRun, sentAgain } from "../../src/messages/sent-again.ts";
import { amqpMessage } from "../support/amqp-message.ts";

const json = (value: unknown) => Buffer.from(JSON.stringify(value));
const from = (body: Buffer, properties: Record<string, unknown> = {}) =>
  receive(amqpMessage(body, properties, { exchange: "mento.data" }));
const at = new Date("2026-11-22T12:00:00.123Z");

describe("a message that is sent again", () => {
  it("keeps its properties and what is carried on of its headers, and none of anybody else's", () => {
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const headers = {
      ...{ CC: ["mento.default.jobs"], theirs: 1, traceparent, "x-death": [] },
      ...{ "mento-error-code": "not-json", "mento-first-seen": "x" },
    };
    const known = { messageId: "m", appId: "/s", timestamp: 7 };
    const before = from(Buffer.from("x"), { ...known, expiration: "5", userId: "u", headers });
    const { body, properties: after } = sentAgain(before, { "mento-trigger": "t" });
    expect(body.toString()).toBe("x");
    expect(after).toEqual({
      ...known,
      headers: {
        ...{ traceparent, "mento-trigger": "t" },
        "mento-other-headers": expect.stringContaining('"CC":["mento.default.jobs"]') as string,
      },
    });
  });

  it("is the same message, also if its id is the hash of its body", () => {
    const body = json({ path: "/x" });
    const { cause } = originOf(body, {});
    const again = sentAgain(from(body), {});
    expect(originOf(again.body, again.properties).cause).toEqual(cause);
  });

  it("under a new id is another message, structured or bare", () => {
    const envelope = { specversion: "1.0", id: "a", source: "/s", type: "t", data: { path: "/x" } };
    const structured = sentAgain(from(json(envelope), { messageId: "a" }), {}, "a/again-1");
    expect(JSON.parse(structured.body.toString())).toEqual({ ...envelope, id: "a/again-1" });
    expect(structured.properties.messageId).toBe("a/again-1");
    const bare = sentAgain(from(json({ path: "/x" }), { messageId: "a" }), {}, "a/again-1");
    expect(bare.body).toEqual(json({ path: "/x" }));
    expect(bare.properties.messageId).toBe("a/again-1");
  });

  it("in binary mode has the new id where its id was", () => {
    const headers = { "cloudEvents:specversion": "1.0", "cloudEvents:id": "a", "cloudEvents:source": "/s" };
    const before = from(json({ path: "/x" }), { headers });
    expect(sentAgain(before, {}, "a/again-1").properties.headers).toMatchObject({
      "cloudEvents:id": "a/again-1",
    });
    expect(sentAgain(before, {}).properties.headers).toMatchObject({ "cloudEvents:id": "a" });
  });

  it("has the new id and all else unchanged, whatever it holds", () => {
    const data = fc
      .dictionary(fc.string(), fc.jsonValue())
      .filter((value) => !JSON.stringify(value).includes("__proto__"));
    fc.assert(
      fc.property(data, fc.string({ minLength: 1 }), (value, id) => {
        const envelope = { specversion: "1.0", id: "old", source: "/s", type: "t", data: value };
        const before = decodeMessage(json(envelope), {});
        const { body, properties: after } = sentAgain(from(json(envelope)), {}, id);
        expect(decodeMessage(body, after)).toEqual({ ...before, id });
      }),
    );
  });

  it("is never harmed by a body that is anything", () => {
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        const { body } = sentAgain(from(Buffer.from(bytes), { messageId: "m" }), {}, "n");
        expect(body.equals(Buffer.from(bytes))).toBe(true);
      }),
    );
  });
});

describe("the id of the next run", () => {
  it("is the old one and the time", () => {
    expect(idOfNextRun("b1f3-1", at)).toBe("b1f3-1/again-2026-11-22T12:00:00.123Z");
  });

  it("does not grow with each run", () => {
    const later = new Date("2026-11-23T12:00:00Z");
    expect(idOfNextRun(idOfNextRun("a/b", at), later)).toBe("a/b/again-2026-11-23T12:00:00.000Z");
    expect(idOfNextRun("a/again-2", later)).toBe("a/again-2/again-2026-11-23T12:00:00.000Z");
  });
});
