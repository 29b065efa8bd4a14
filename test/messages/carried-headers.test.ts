import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { carriedHeaders } from "../../src/messages/carried-headers.ts";
import { attributesInHeaders } from "../../src/messages/header-attributes.ts";
import { amqpHeaders } from "../support/amqp-headers.ts";

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const event = { specversion: "1.0", id: "1", source: "/daq", type: "t" };
const withPrefix = (prefix: string, attributes: object) =>
  Object.fromEntries(Object.entries(attributes).map(([name, value]) => [prefix + name, value as unknown]));

describe("carriedHeaders", () => {
  it("keeps the trace context and nothing that means something to RabbitMQ or to Mento", () => {
    const hostile = { CC: ["q"], BCC: ["q"], "x-delivery-count": 9, "mento-trigger": "t", "!": "timestamp" };
    expect(carriedHeaders({ ...hostile, traceparent, tracestate: "a=1, b@c=2" })).toEqual({
      traceparent,
      tracestate: "a=1, b@c=2",
    });
  });

  it.each([
    traceparent.toUpperCase(),
    traceparent.replace(/^00/, "ff"),
    `${traceparent}-more`,
    "00-00000000000000000000000000000000-b7ad6b7169203331-01",
    "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
    { "!": "timestamp", value: 2 ** 64 },
    1e300,
    "",
  ])("leaves out a traceparent that is none: %j", (value) => {
    expect(carriedHeaders({ traceparent: value })).toEqual({});
  });

  it.each(["=1", "a", "a=1,a=2", "A=1", `a=${"1".repeat(600)}`, "a=1\nCC: x"])(
    "leaves out a tracestate that is none: %j",
    (tracestate) => {
      expect(carriedHeaders({ tracestate })).toEqual({});
    },
  );

  it.each(["cloudEvents:", "cloudEvents_", "ce-", "Ce-"])(
    "writes attributes that begin with %s in one form",
    (prefix) => {
      expect(carriedHeaders(withPrefix(prefix, event))).toEqual(withPrefix("cloudEvents:", event));
    },
  );

  it("writes AMQP's own types as text", () => {
    const headers = withPrefix("ce-", {
      ...event,
      id: Buffer.from("é"),
      source: 17,
      time: { "!": "timestamp", value: 1_700_000_000 },
      sampled: true,
      nothing: null,
    });
    expect(carriedHeaders(headers)).toEqual(
      withPrefix("cloudEvents:", {
        ...event,
        id: "é",
        source: "17",
        time: "2023-11-14T22:13:20.000Z",
        sampled: "true",
      }),
    );
  });

  it.each([
    ["not UTF-8", { id: Buffer.from([0xff]) }],
    ["not UTF-8 as amqplib gives it", { id: "a\ufffd" }],
    ["a number that has lost digits", { id: 2 ** 60 }],
    ["a table", { id: { a: 1 } }],
    ["too long", { subject: "x".repeat(2049) }],
    ["control characters", { subject: "a\u009bb" }],
    ["empty", { subject: "" }],
  ])("does not make an event of one whose attribute is %s", (_, attributes) => {
    expect(carriedHeaders(withPrefix("ce-", { ...event, ...attributes }))["cloudEvents:specversion"]).toMatch(
      /^none: its /,
    );
  });

  it("does not make an event of attributes under two prefixes, which of them counts nobody knows", () => {
    const carried = carriedHeaders({ ...withPrefix("ce-", event), "cloudEvents:id": "2" });
    expect(carried["cloudEvents:specversion"]).toMatch(/^none: its /);
    expect(carried).not.toHaveProperty("cloudEvents:id");
  });

  it("carries what any RabbitMQ takes, of whatever headers there are, and carries that on unchanged", () => {
    fc.assert(
      fc.property(amqpHeaders, (headers) => {
        const carried = carriedHeaders(headers);
        for (const [name, value] of Object.entries(carried)) {
          expect(name).toMatch(/^(traceparent|tracestate|cloudEvents:[a-z0-9]{1,40})$/);
          expect(Buffer.byteLength(value)).toBeLessThanOrEqual(2048);
          expect(value).not.toMatch(/[\p{Cc}\ufffd]/u);
        }
        expect(Buffer.byteLength(JSON.stringify(carried))).toBeLessThan(20 * 1024);
        expect(carriedHeaders(carried)).toEqual(carried);
      }),
    );
  });

  it("takes no more than 64 attributes, and none that could not be headers", () => {
    const many = Object.fromEntries(Array.from({ length: 65 }, (_, at) => [`ce-x${at}`, "1"]));
    expect(Object.keys(carriedHeaders({ ...withPrefix("ce-", event), ...many }))).toHaveLength(4);
    for (const headers of [null, undefined, 1, "x", [], [["CC", "q"]], Object.create({ CC: "q" })]) {
      expect(carriedHeaders(headers)).toEqual({});
    }
  });
});

it("a message that is no event is refused for the same reason however often it comes back", () => {
  const mixed = { ...withPrefix("cloudEvents_", event), "ce-subject": "x" };
  const reasonOf = (headers: object) => attributesInHeaders(headers)?.mistake;
  const once = carriedHeaders(mixed);
  expect(reasonOf(mixed)).toContain("mix the prefixes");
  expect(reasonOf(once)).toBe(reasonOf(mixed));
  expect(carriedHeaders(once)).toEqual(once);
});
