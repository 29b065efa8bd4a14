import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { withReadableHeaders } from "../../src/broker/readable-headers.ts";
import {
  double,
  field,
  longString,
  rawProperties,
  shortString,
  table,
  u16,
  u32,
  u64,
} from "../support/raw-amqp.ts";

function contentHeader(properties: Buffer): Buffer {
  const payload = Buffer.concat([u16(60), u16(0), u64(2n), properties]);
  return Buffer.concat([Buffer.from([2]), u16(1), u32(payload.length), payload, Buffer.from([0xce])]);
}

/** Says that headers were left out. */
const LEFT_OUT: [string, Buffer] = ["x-mento-left-out", field("t", Buffer.from([1]))];

const nested = (levels: number, tag: "F" | "A"): Buffer => {
  let inner = longString("");
  for (let level = 0; level < levels; level++) {
    inner = tag === "A" ? longString(field("A", inner)) : table([["a", field("F", inner)]]);
  }
  return field(tag, inner);
};

const READABLE: [string, Buffer][] = [
  ["boolean", field("t", Buffer.from([1]))],
  ["bytes", field("x", longString(Buffer.from([0xff])))],
  ["decimal", field("D", Buffer.from([2, 0, 0, 0, 1]))],
  ["double", field("d", double(-1e300))],
  ["nothing", field("V")],
  ["table", field("F", table([["!", field("S", longString("text"))]]))],
  ["array", field("A", longString(Buffer.concat([field("I", u32(1)), field("S", longString("b"))])))],
  ["time", field("T", u64(2n ** 64n - 1n))],
  ["little depth", nested(20, "F")],
  ["two tables with the same keys", field("A", longString(Buffer.concat([nested(1, "F"), nested(1, "F")])))],
];
const UNREADABLE: [string, Buffer][] = [
  ["a type that amqplib does not know", field("L", u64(1n))],
  ["that type in a table", field("F", table([["a", field("L", u64(1n))]]))],
  ["that type in an array", field("A", longString(field("L", u64(1n))))],
  ["a prototype in a table", field("F", table([["__proto__", field("x", longString("a"))]]))],
  [
    "a table with equal keys",
    field(
      "A",
      longString(
        field(
          "F",
          table([
            ["queue", field("S", longString("a"))],
            ["queue", field("S", longString("b"))],
          ]),
        ),
      ),
    ),
  ],
  ["deep tables", nested(3000, "F")],
  ["deep arrays", nested(3000, "A")],
];

describe("headers that amqplib cannot decode", () => {
  const others = {
    contentType: shortString("application/json"),
    timestamp: u64(5n),
    appId: shortString("me"),
  };
  const tail = Buffer.from("what follows");

  it.each(READABLE)("leaves %s as it is", (_, value) => {
    const bytes = Buffer.concat([
      contentHeader(rawProperties({ ...others, headers: table([["a", value]]) })),
      tail,
    ]);
    expect(withReadableHeaders(bytes)).toBe(bytes);
  });

  it.each(UNREADABLE)("takes out %s, and keeps the other headers and properties", (_, value) => {
    const before: [string, Buffer] = ["before", field("S", longString("1"))];
    const after: [string, Buffer] = ["after", field("I", u32(2))];
    const given = rawProperties({ ...others, headers: table([before, ["bad", value], after]) });
    const wanted = rawProperties({ ...others, headers: table([before, after, LEFT_OUT]) });
    const found = withReadableHeaders(Buffer.concat([contentHeader(given), tail]));
    expect(found).toEqual(Buffer.concat([contentHeader(wanted), tail]));
  });

  it("takes out a header that would be the prototype of all headers", () => {
    const entries: [string, Buffer][] = [
      ["__proto__", field("x", longString("a"))],
      ["a", field("t", Buffer.from([1]))],
    ];
    const found = withReadableHeaders(contentHeader(rawProperties({ headers: table(entries) })));
    expect(found).toEqual(contentHeader(rawProperties({ headers: table([...entries.slice(1), LEFT_OUT]) })));
  });

  it("leaves the first of equal headers alone, which is the one that RabbitMQ reads and writes", () => {
    const entries: [string, Buffer][] = [
      ["x-stream-offset", field("l", u64(1n))],
      ["x-stream-offset", field("l", u64(2n))],
      ["a", field("t", Buffer.from([1]))],
      ["x-stream-offset", field("l", u64(3n))],
    ];
    const found = withReadableHeaders(contentHeader(rawProperties({ headers: table(entries) })));
    const [first, , other] = entries;
    expect(found).toEqual(
      contentHeader(rawProperties({ headers: table([first, other].flatMap((one) => (one ? [one] : []))) })),
    );
  });

  it("gives up what stands behind a type of unknown size", () => {
    const entries: [string, Buffer][] = [
      ["a", field("t", Buffer.from([1]))],
      ["b", field("Z", u32(1))],
      ["c", field("t", Buffer.from([1]))],
    ];
    const found = withReadableHeaders(contentHeader(rawProperties({ headers: table(entries) })));
    expect(found).toEqual(
      contentHeader(rawProperties({ headers: table([...entries.slice(0, 1), LEFT_OUT]) })),
    );
  });

  it("waits for the whole frame, and leaves other frames alone", () => {
    const bytes = contentHeader(rawProperties({ headers: table([["bad", field("L", u64(1n))]]) }));
    for (let length = 0; length < bytes.length; length++) {
      const part = bytes.subarray(0, length);
      expect(withReadableHeaders(part)).toBe(part);
    }
    const body = Buffer.concat([Buffer.from([3]), bytes.subarray(1)]);
    expect(withReadableHeaders(body)).toBe(body);
  });

  it("never throws, whatever the table holds", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (content) => {
        const bytes = contentHeader(rawProperties({ headers: longString(Buffer.from(content)) }));
        expect(() => withReadableHeaders(bytes)).not.toThrow();
      }),
      { numRuns: 2000 },
    );
  });
});
