import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Rejected } from "../../src/errors.ts";
import { decodeMessage, MAX_MESSAGE_BYTES } from "../../src/messages/cloud-event.ts";
import { readTriggerInput } from "../../src/messages/trigger-input.ts";
import { jobEndedEvent } from "../triggers/job-ended.ts";
import { originOf } from "../../src/messages/origin.ts";

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof Rejected) return error.code;
    throw error;
  }
  return "none";
}

const bytes = (value: unknown) => Buffer.from(JSON.stringify(value));

describe("decodeMessage", () => {
  it("takes the structured form, with extension attributes unchanged", () => {
    const event = { specversion: "1.0", id: "1", source: "/s", type: "t", partitionkey: "x", data: { a: 1 } };
    expect(
      decodeMessage(bytes(event), { contentType: "application/cloudevents+json; charset=utf-8" }),
    ).toEqual(event);
  });

  it("makes an envelope from the AMQP properties for a bare data object", () => {
    const properties = {
      messageId: "m1",
      appId: "/daq",
      type: "mento.data.ready.v1",
      timestamp: 1_700_000_000,
    };
    expect(decodeMessage(bytes({ path: "/a" }), properties)).toMatchObject({
      id: "m1",
      source: "/daq",
      type: "mento.data.ready.v1",
      time: "2023-11-14T22:13:20.000Z",
      data: { path: "/a" },
    });
  });

  it("takes an AMQP timestamp in seconds or in milliseconds, and leaves out what is neither", () => {
    const timeOf = (timestamp: number) => decodeMessage(bytes({}), { timestamp }).time;
    expect(timeOf(1_700_000_000)).toBe("2023-11-14T22:13:20.000Z");
    expect(timeOf(1_700_000_000_000)).toBe("2023-11-14T22:13:20.000Z");
    expect(timeOf(1_700_000_000_000_000)).toBeUndefined();
  });

  it("gives a bare message without an id the hash of its body: the same body is the same message", () => {
    const one = decodeMessage(bytes({ path: "/a" }), {});
    expect(decodeMessage(bytes({ path: "/a" }), {}).id).toBe(one.id);
    expect(decodeMessage(bytes({ path: "/b" }), {}).id).not.toBe(one.id);
  });

  it("keeps that id when the message comes back from a wait queue with it as message_id", () => {
    const body = bytes({ path: "/a" });
    const { id } = originOf(body, {}).cause;
    expect(decodeMessage(body, { messageId: id }).id).toBe(decodeMessage(body, {}).id);
  });

  it("rejects what is not JSON, not UTF-8, too large, or not a CloudEvent, each with its own code", () => {
    expect(codeOf(() => decodeMessage(Buffer.from("{oops"), {}))).toBe("not-json");
    expect(codeOf(() => decodeMessage(Buffer.from([0x7b, 0xff, 0xfe]), {}))).toBe("not-utf8");
    expect(codeOf(() => decodeMessage(Buffer.alloc(MAX_MESSAGE_BYTES + 1, 0x20), {}))).toBe(
      "message-too-large",
    );
    expect(codeOf(() => decodeMessage(bytes({ specversion: "1.0", id: "" }), {}))).toBe("wrong-schema");
  });

  it("rejects parameters that are nested too deep to be checked; what is taken can start a chain", () => {
    const nested = (levels: number) => `${"[".repeat(levels)}${"]".repeat(levels)}`;
    const dataOf = (levels: number) => `{"path":"/a","parameters":{"a":${nested(levels)}}}`;
    const code = (levels: number) => codeOf(() => decodeMessage(Buffer.from(dataOf(levels)), {}));
    expect([98, 99, 100_000].map(code)).toEqual(["none", "wrong-schema", "wrong-schema"]);
    const { data } = decodeMessage(Buffer.from(dataOf(98)), {});
    const { parameters } = data as { parameters: object };
    const event = jobEndedEvent({ type: "job.completed" });
    const ended = { ...event, data: { ...event.data, message: { ...event.data.message, parameters } } };
    expect(codeOf(() => readTriggerInput(decodeMessage(bytes(ended), {})))).toBe("none");
  });

  it("either decodes or rejects any bytes, and always knows an origin", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array(),
          fc.json().map((text) => Buffer.from(text)),
        ),
        (body) => {
          const code = codeOf(() => decodeMessage(body, {}));
          expect(["none", "not-json", "not-utf8", "wrong-schema"]).toContain(code);
          expect(originOf(body, {}).cause.id).not.toBe("");
        },
      ),
    );
  });
});
