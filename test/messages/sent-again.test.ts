import type { MessageProperties } from "amqplib";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeMessage } from "../../src/messages/cloud-event.ts";
import { originOf } from "../../src/messages/origin.ts";
import { idOfNextRun, sentAgain } from "../../src/messages/sent-again.ts";

const json = (value: unknown) => Buffer.from(JSON.stringify(value));
const properties = (some: Partial<MessageProperties>) => some as MessageProperties;
const at = new Date("2026-11-22T12:00:00.123Z");

describe("a message that is sent again", () => {
  it("keeps its own properties and headers, and loses the broker's and ours", () => {
    const headers = { theirs: 1, "x-death": [], "mento-error-code": "not-json", "mento-first-seen": "x" };
    const before = properties({
      messageId: "m",
      appId: "/s",
      timestamp: 7,
      expiration: "5",
      userId: "u",
      headers,
    });
    const { body, properties: after } = sentAgain(Buffer.from("x"), before, { "mento-trigger": "t" });
    expect(body.toString()).toBe("x");
    expect(after).toEqual({
      ...{ messageId: "m", appId: "/s", timestamp: 7 },
      headers: { theirs: 1, "mento-trigger": "t" },
    });
  });

  it("is the same message, also if its id is the hash of its body", () => {
    const body = json({ path: "/x" });
    const { cause } = originOf(body, {});
    const again = sentAgain(body, properties({}), {});
    expect(originOf(again.body, again.properties).cause).toEqual(cause);
  });

  it("under a new id is another message, structured or bare", () => {
    const envelope = { specversion: "1.0", id: "a", source: "/s", type: "t", data: { path: "/x" } };
    const structured = sentAgain(json(envelope), properties({ messageId: "a" }), {}, "a/again-1");
    expect(JSON.parse(structured.body.toString())).toEqual({ ...envelope, id: "a/again-1" });
    expect(structured.properties.messageId).toBe("a/again-1");
    const bare = sentAgain(json({ path: "/x" }), properties({ messageId: "a" }), {}, "a/again-1");
    expect(bare.body).toEqual(json({ path: "/x" }));
    expect(bare.properties.messageId).toBe("a/again-1");
  });

  it("loses headers that fill up all room, not itself", () => {
    const headers = { theirs: "x".repeat(60_000) };
    expect(sentAgain(json({}), properties({ headers }), { "mento-trigger": "t" }).properties.headers).toEqual(
      {
        "mento-trigger": "t",
      },
    );
  });

  it("has the new id and all else unchanged, whatever it holds", () => {
    const data = fc.dictionary(fc.string(), fc.jsonValue());
    fc.assert(
      fc.property(data, fc.string({ minLength: 1 }), (value, id) => {
        const envelope = { specversion: "1.0", id: "old", source: "/s", type: "t", data: value };
        const before = decodeMessage(json(envelope), {});
        const { body, properties: after } = sentAgain(json(envelope), properties({}), {}, id);
        expect(decodeMessage(body, after)).toEqual({ ...before, id });
      }),
    );
  });

  it("is never harmed by a body that is anything", () => {
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        const { body } = sentAgain(Buffer.from(bytes), properties({ messageId: "m" }), {}, "n");
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
