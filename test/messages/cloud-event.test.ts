import { posix } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { brotliCompressSync, deflateSync, gzipSync } from "node:zlib";
import { Rejected } from "../../src/errors.ts";
import { decodeMessage, MAX_MESSAGE_BYTES } from "../../src/messages/cloud-event.ts";
import { validateDataReady } from "../../src/messages/data-ready.ts";
import { writeJson } from "../../src/messages/json.ts";
import { normalPath } from "../../src/messages/path-text.ts";
import { readTriggerInput } from "../../src/messages/trigger-input.ts";
import { carriedHeaders } from "../../src/messages/carried-headers.ts";
import { amqpHeaders } from "../support/amqp-headers.ts";
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

  it("rejects more values than a worker can hold of hundreds of messages, before it reads them; an event fits", () => {
    const dataOf = (values: number, one: string) =>
      Buffer.from(`{"path":"/a","parameters":{"a":[${Array(values).fill(one).join()}]}}`);
    for (const one of ["{}", "1", '"a,b{"']) {
      const code = (values: number) => codeOf(() => decodeMessage(dataOf(values, one), {}));
      expect([9_900 / (one === "{}" ? 2 : 1), 30_000].map(code)).toEqual(["none", "wrong-schema"]);
    }
    const event = jobEndedEvent({ type: "job.completed" });
    const result = { path: "/asap3/x", beamlinePath: null, bytes: 1, mediaType: "text/plain" };
    const message = { ...event.data.message, parameters: { a: Array(9_900).fill(1) } };
    const ended = { ...event, data: { ...event.data, message, results: Array(1000).fill(result) } };
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

const headersOf = (prefix: string, attributes: object) =>
  Object.fromEntries(Object.entries(attributes).map(([name, value]) => [prefix + name, value as unknown]));
const attributes = { specversion: "1.0", id: "1", source: "/s", type: "some.type" };
const messageOf = (run: () => unknown) => {
  try {
    run();
  } catch (error) {
    if (error instanceof Rejected) return error.message;
    throw error;
  }
  return "";
};

describe("an event in binary mode", () => {
  it.each(["cloudEvents:", "cloudEvents_", "ce-"])(
    "has its attributes in headers that begin with %s",
    (prefix) => {
      const more = { time: { "!": "timestamp", value: 1_700_000_000 }, sampled: true, number: 5 };
      const headers = headersOf(prefix, { ...attributes, ...more });
      const properties = { contentType: "application/json; charset=utf-8", messageId: "not it", headers };
      expect(decodeMessage(bytes({ path: "/a" }), properties)).toEqual({
        ...{ ...attributes, time: "2023-11-14T22:13:20.000Z", sampled: "true", number: "5" },
        datacontenttype: "application/json; charset=utf-8",
        data: { path: "/a" },
      });
    },
  );

  it("is another event than one with the same body and another id", () => {
    const id = (one: string) =>
      decodeMessage(bytes({}), { headers: headersOf("ce-", { ...attributes, id: one }) }).id;
    expect([id("1"), id("2")]).toEqual(["1", "2"]);
  });

  it.each<[string, object, string]>([
    ["under two prefixes", { ...headersOf("cloudEvents_", attributes), "ce-id": "1" }, "twice"],
    [
      "with prefixes mixed",
      { ...headersOf("cloudEvents_", attributes), "ce-subject": "x" },
      "mix the prefixes",
    ],
    ["whose id is not UTF-8", headersOf("ce-", { ...attributes, id: Buffer.from([0xff]) }), "UTF-8"],
    ["without a source", headersOf("ce-", { ...attributes, source: null }), "source"],
    ["of another version", headersOf("ce-", { ...attributes, specversion: "0.3" }), "specversion"],
    ["with an attribute named data", headersOf("ce-", { ...attributes, data: "{}" }), "data is the body"],
  ])("is refused in words: %s", (_, headers, words) => {
    const refused = () => decodeMessage(bytes({ path: "/a" }), { headers: { ...headers } });
    expect([codeOf(refused), messageOf(refused)]).toEqual(["wrong-schema", expect.stringContaining(words)]);
  });

  it("is refused if its body is an event of its own; a whole event may repeat its attributes in headers", () => {
    const headers = headersOf("cloudEvents:", attributes);
    const event = { ...attributes, data: {} };
    expect(messageOf(() => decodeMessage(bytes(event), { headers }))).toContain("an event of its own");
    const contentType = "application/cloudevents+json";
    expect(decodeMessage(bytes(event), { headers, contentType })).toEqual(event);
    const other = () => decodeMessage(bytes({ ...event, id: "2" }), { headers, contentType });
    expect(messageOf(other)).toContain('says id is "1"');
  });

  it("stays the same event, or none, with the headers that are carried on", () => {
    fc.assert(
      fc.property(amqpHeaders, (headers) => {
        const read = (one: Record<string, unknown>) => {
          try {
            return decodeMessage(bytes({ path: "/a" }), { headers: one });
          } catch (error) {
            if (!(error instanceof Rejected)) throw error;
            return "none";
          }
        };
        const event = read(headers);
        expect(read(carriedHeaders(headers))).toEqual(event);
        const { cause } = originOf(bytes({ path: "/a" }), { headers });
        if (event !== "none") expect(cause).toEqual({ source: event.source, id: event.id, type: event.type });
      }),
    );
  });
});

describe("what CloudEvents' JSON format allows", () => {
  const read = (event: object) => decodeMessage(bytes({ ...attributes, ...event }), {});

  it("attributes that are null are absent", () => {
    expect(read({ subject: null, time: null, data: { a: null } })).toEqual({
      ...attributes,
      data: { a: null },
    });
  });

  it("data_base64 that holds JSON is data; together with data it is an error", () => {
    const encoded = Buffer.from('{"path":"/a"}').toString("base64");
    expect(read({ data_base64: encoded })).toEqual({ ...attributes, data: { path: "/a" } });
    expect(messageOf(() => read({ data_base64: encoded, data: {} }))).toContain("both data and data_base64");
    for (const wrong of ["%%%", "/w==", "e28=", 5]) {
      expect(codeOf(() => read({ data_base64: wrong }))).not.toBe("none");
    }
  });

  it.each([
    ["2026-01-01t10:00:00.5z", "2026-01-01T10:00:00.5Z"],
    ["2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000Z"],
    ["2016-12-31T18:59:60.3-05:00", "2017-01-01T00:00:00.000Z"],
    ["2026-01-01T10:00:00.123456789+01:00", "2026-01-01T10:00:00.123456789+01:00"],
  ])("the time %s is one", (time, read_) => {
    expect(read({ time }).time).toBe(read_);
  });

  it("a time with a long fraction is one up to 35 characters, and else an error that says so", () => {
    const fraction = (digits: number, zone = "Z") => `2026-01-01T10:00:00.${"9".repeat(digits)}${zone}`;
    for (const time of [fraction(14), fraction(9, "+01:00"), fraction(3)])
      expect(read({ time }).time).toBe(time);
    for (const time of [fraction(15), fraction(1000, "+01:00"), fraction(2000, "")]) {
      expect(codeOf(() => read({ time }))).toBe("wrong-schema");
      expect(messageOf(() => read({ time })).length).toBeLessThan(300);
    }
    expect(messageOf(() => read({ time: fraction(15) }))).toContain("36 characters");
  });

  it("numbers that JavaScript cannot hold end no reading: in an attribute, in data, in an event of a job", () => {
    const numbers = "1e400,-1e400,9007199254740993,1e-400,0.1000000000000000055511151231257827";
    const text = `{"specversion":"1.0","id":"a","source":"/a","type":"x","big":9007199254740993,"huge":1e400,"data":{"parameters":{"x":[${numbers}]},"y":[${numbers}]}}`;
    const event = decodeMessage(Buffer.from(text), {});
    expect([event["big"], event["huge"]]).toEqual([9007199254740992, "1e400"]);
    const { parameters, y } = event.data as { parameters: unknown; y: unknown };
    expect(writeJson(parameters)).toBe(`{"x":[${numbers}]}`);
    expect(y).toEqual(["1e400", "-1e400", 9007199254740992, 0, 0.1]);
    for (const bytes_ of ["1e400", "-1e400", "9007199254740993", "0.5", "-1"]) {
      const data = `{"path":"/a","bytes":${bytes_}}`;
      expect(codeOf(() => validateDataReady(decodeMessage(Buffer.from(data), {})))).toBe("wrong-schema");
    }
  });

  it("a time without a zone is an error that says so", () => {
    for (const time of ["2026-01-01T10:00:00", "2026-01-01 10:00:00.5"]) {
      expect(messageOf(() => read({ time }))).toContain("no time zone");
    }
    expect(codeOf(() => read({ time: "2026-02-30T10:00:00Z" }))).toBe("wrong-schema");
  });

  it("a trace context is the event's, else the AMQP header's; what is malformed is none", () => {
    const [one, other] = ["1", "2"].map((digit) => `00-${digit.repeat(32)}-${digit.repeat(16)}-01`);
    const traced = (event: object, headers: Record<string, unknown>) =>
      decodeMessage(bytes({ ...attributes, ...event }), { headers }).traceparent;
    expect(traced({ traceparent: one }, { traceparent: other })).toBe(one);
    expect(traced({ traceparent: "no" }, { traceparent: other })).toBe(other);
    expect(traced({}, { traceparent: "no" })).toBeUndefined();
    expect(decodeMessage(bytes({}), { headers: { traceparent: one, tracestate: "a=1" } })).toMatchObject({
      traceparent: one,
      tracestate: "a=1",
    });
  });

  it("attributes are single values, few and short; ids at most 1024 characters", () => {
    const many = Object.fromEntries(Array.from({ length: 65 }, (_, at) => [`x${at}`, at]));
    const wrong = [{ x: {} }, { x: [1] }, { x: "y".repeat(2049) }, { ["x".repeat(41)]: 1 }, many];
    for (const event of wrong) expect(codeOf(() => read(event))).toBe("wrong-schema");
    expect(codeOf(() => read({ id: "x".repeat(1025) }))).toBe("wrong-schema");
    expect(codeOf(() => read({ source: "x".repeat(1024) }))).toBe("none");
  });
});

describe("a message that is not one JSON object in UTF-8 is told what it is", () => {
  const utf16 = (text: string) => Buffer.from(text, "utf16le");
  const utf32 = (text: string) =>
    Buffer.concat(Array.from(text).map((one) => Buffer.from([one.charCodeAt(0), 0, 0, 0])));
  it.each<[string, Buffer, object?]>([
    ["UTF-16", utf16('{"path":"/a"}')],
    ["UTF-16", utf16('\ufeff{"path":"/a"}')],
    ["UTF-16", utf16('{"path":"/a"}').swap16()],
    ["UTF-32", utf32('{"path":"/a"}')],
    ["UTF-32", utf32("\ufeff{}")],
    ["gzip", gzipSync("{}")],
    ["deflate", deflateSync('{"path":"/a"}')],
    ["deflate", Buffer.from("{}"), { contentEncoding: "deflate" }],
    ["br", brotliCompressSync("{}"), { contentEncoding: "br" }],
    ["zstd", Buffer.from("28b52ffd240001000099e9d851", "hex")],
    ["XML", Buffer.from(" <event/>")],
    ["XML", Buffer.from("{}"), { contentType: "text/xml" }],
    ["format xml", Buffer.from("<event/>"), { contentType: "application/cloudevents+xml" }],
    ["format protobuf", Buffer.from([8, 1]), { contentType: "application/cloudevents+protobuf" }],
    ["format avro", Buffer.from("{}"), { contentType: "application/cloudevents+avro; v=1" }],
    ["MessagePack", Buffer.from([0x81, 0xa4, 0x70, 0x61, 0x74, 0x68, 0xa2, 0x2f, 0x61])],
    ["HDF5", Buffer.from("894844460d0a1a0a", "hex")],
    ["pickle", Buffer.from("80049508", "hex")],
    ["application/x-protobuf", Buffer.from([0x0a, 0xff, 0xfe]), { contentType: "application/x-protobuf" }],
    ["batch", bytes([attributes])],
    ["batch", bytes([]), { contentType: "application/cloudevents-batch+json" }],
  ])("%s", (what, body, properties = {}) => {
    const refused = () => decodeMessage(body, properties);
    expect(messageOf(refused)).toContain(what);
    expect(originOf(body, properties).cause.source).toBe("unknown");
  });

  it("a byte order mark before UTF-8 is none of these, and a content encoding that only names the text", () => {
    const body = Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), bytes({ path: "/a" })]);
    expect(decodeMessage(body, { contentEncoding: "utf-8" }).data).toEqual({ path: "/a" });
    expect(originOf(body, {}).paths).toEqual(["/a"]);
  });

  it("empty AMQP properties are absent; those that were not UTF-8 are refused", () => {
    const empty = { messageId: "", appId: "", type: "", contentType: "", contentEncoding: "" };
    expect(decodeMessage(bytes({}), empty)).toEqual(decodeMessage(bytes({}), {}));
    expect(originOf(bytes({}), empty)).toEqual(originOf(bytes({}), {}));
    expect(codeOf(() => decodeMessage(bytes({}), { messageId: "a\ufffd" }))).toBe("wrong-schema");
  });
});

describe("sizes", () => {
  const ofJob = (data: object) => bytes({ ...attributes, type: "mento.job.completed.v1", data });
  it.each([
    ["results of numbers", `"results":[1${",1".repeat(49_000)}]`],
    ["results of objects", `"results":[{}${",{}".repeat(24_000)}]`],
    ["unknown keys", Array.from({ length: 49_000 }, (_, at) => `"key-${at}":1`).join(",")],
    ["a long key", `"${"k".repeat(1_000_000)}":1`],
    ["a long text for a number", `"exit":{"code":"${"k".repeat(1_000_000)}"}`],
  ])("a job's event with %s is rejected in few words, soon", (_, member) => {
    const head = JSON.stringify({ ...attributes, type: "mento.job.completed.v1" }).slice(0, -1);
    const body = Buffer.from(`${head},"data":{${member}}}`);
    const start = performance.now();
    const message = messageOf(() => readTriggerInput(decodeMessage(body, {})));
    expect(message).not.toBe("");
    expect(message.length).toBeLessThan(4100);
    expect(performance.now() - start).toBeLessThan(10_000);
  });

  it("a path has at most 4,096 characters, as Linux's have", () => {
    const code = (path: string) => codeOf(() => readTriggerInput(decodeMessage(bytes({ path }), {})));
    expect(["/".padEnd(4096, "a"), "/".padEnd(4097, "a"), "/a/..".repeat(100_000)].map(code)).toEqual([
      "none",
      "wrong-schema",
      "wrong-schema",
    ]);
  });

  it("a path that goes up often, or a list of them, takes no time to be found outside", () => {
    const up = (times: number) => `/a${"/b".repeat(times)}${"/..".repeat(times)}/c`;
    expect([32, 33, 800].map((times) => normalPath(up(times)))).toEqual(["/a/c", "", ""]);
    expect(["/a/./b", "//a", "/a//b/", "a/../b", "/.a/b"].map(normalPath)).toEqual(
      ["/a/./b", "//a", "/a//b/", "a/../b", "/.a/b"].map((path) => posix.normalize(path)),
    );
  });

  it("a message has at most 1,000 paths", () => {
    const paths = (length: number) => Array.from({ length }, (_, at) => `/${at}`);
    const code = (path: unknown) => codeOf(() => readTriggerInput(decodeMessage(bytes({ path }), {})));
    expect([paths(1000), paths(1001)].map(code)).toEqual(["none", "wrong-schema"]);
    const numbers = Array(9_000).fill(1);
    expect(messageOf(() => readTriggerInput(decodeMessage(bytes({ path: numbers }), {})))).toContain(
      "9000 items",
    );
  });

  it("what an event says of any message's origin is bounded, and tells two messages apart", () => {
    const long = "x".repeat(300_000);
    const of = (id: string) =>
      originOf(bytes({ ...attributes, id, source: long, type: long, data: { beamline: long } }), {});
    expect(JSON.stringify(of(long)).length).toBeLessThan(5000);
    expect(of(`${long}1`).cause.id).not.toBe(of(`${long}2`).cause.id);
    expect(
      originOf(ofJob({ paths: Array(3000).fill("/a"), cause: { source: long } }), {}).paths,
    ).toHaveLength(1000);
  });
});

describe("keys", () => {
  it.each(['{"__proto__":1}', '{"parameters":{"a":[{"__proto__":{}}]}}', '{"\\u005f_proto__":null}'])(
    "__proto__ is refused wherever it stands, not dropped: %s",
    (text) => {
      expect(messageOf(() => decodeMessage(Buffer.from(text), {}))).toContain("__proto__");
    },
  );

  it("a key that stands twice is refused, unless it says the same", () => {
    const code = (text: string) => codeOf(() => decodeMessage(Buffer.from(text), {}));
    expect([code('{"a":1,"a":2}'), code('{"b":{"a":1,"a":1.0}}'), code('{"a":1,"a":1}')]).toEqual([
      "wrong-schema",
      "wrong-schema",
      "none",
    ]);
  });

  it("constructor and prototype are keys like others", () => {
    const parameters = { constructor: 1, prototype: { toString: "x" } };
    expect(decodeMessage(bytes({ parameters }), {}).data).toEqual({ parameters });
  });
});
