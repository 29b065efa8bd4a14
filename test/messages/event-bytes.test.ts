import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { cut, cutId } from "../../src/text/cut.ts";
import { eventBytes, LEAST_EVENT_BYTES } from "../../src/messages/event-bytes.ts";
import { JobEventData, MessageEventData } from "../../src/messages/job-event.ts";
import { jobEndedEvent } from "../triggers/job-ended.ts";

const ended = jobEndedEvent({ type: "job.completed" });
const read = (bytes: Buffer) =>
  JSON.parse(bytes.toString("utf8")) as { id: string; data: JobEventData & MessageEventData };
const result = { path: "/asap3/x/y.png", beamlinePath: null, bytes: 1, mediaType: "image/png" };

describe("eventBytes", () => {
  it("leaves an event that fits as it is", () => {
    expect(read(eventBytes(ended, 1e6))).toEqual(ended);
  });

  it("leaves out results first, and counts them", () => {
    const results = Array.from({ length: 50_000 }, () => result);
    const bytes = eventBytes({ ...ended, data: { ...ended.data, results } }, 1024 * 1024);
    const { data } = read(bytes);
    expect(bytes.byteLength).toBeGreaterThan(1e6);
    expect(bytes.byteLength).toBeLessThanOrEqual(1024 * 1024);
    expect(data.results.length + (data.resultsCut ?? 0)).toBe(50_000);
    expect({ ...data, results: [], resultsCut: undefined }).toEqual({ ...ended.data, resultsCut: undefined });
  });

  it("adds to results that were left out before", () => {
    const results = Array.from({ length: 500 }, () => result);
    const { data } = read(
      eventBytes({ ...ended, data: { ...ended.data, results, resultsCut: 7 } }, LEAST_EVENT_BYTES),
    );
    expect(data.results.length + (data.resultsCut ?? 0)).toBe(507);
  });

  it("leaves out parameters before paths, and says so", () => {
    const parameters = { x: "y".repeat(900_000) };
    const paths = Array.from({ length: 100 }, (_, at) => `/${at}/${"z".repeat(100)}`);
    const data = { ...ended.data, paths, message: { ...ended.data.message, parameters } };
    const cutData = read(eventBytes({ ...ended, data }, 100_000)).data;
    expect(cutData).toMatchObject({ parametersCut: true, paths, message: { parameters: {} } });
  });

  const long = fc.oneof(
    fc.string({ maxLength: 30 }),
    fc.nat(300).map((length) => "\u0001😀x".repeat(length)),
    fc.constant("\u0000".repeat(50)),
  );
  const list = <T>(of: fc.Arbitrary<T>) =>
    fc.tuple(of, fc.nat(100)).map(([one, length]) => Array(length).fill(one) as T[]);
  const jobData = fc
    .record({ long, paths: list(long), results: list(long), nodes: list(long), chain: fc.nat(60) })
    .map(({ long: text, paths, results, nodes, chain }): JobEventData => ({
      ...ended.data,
      job: { ...ended.data.job, id: text, trigger: text, name: text, directory: text },
      slurm: { jobId: text, reservation: text, partition: text, nodes },
      process: { host: text, pid: 1 },
      session: { beamline: text, id: text, corePath: text },
      cause: { source: text, id: text, type: text },
      chain: Array(chain).fill({ job: text, trigger: text }) as JobEventData["chain"],
      message: {
        detector: text,
        technique: text,
        scan: text,
        sample: text,
        parameters: { a: paths, b: text },
      },
      exit: { code: 1, signal: text, reason: "signal" },
      cancelledBy: { who: text, reason: text },
      error: { code: "signal", message: text, hint: text },
      results: results.map((path) => ({ ...result, path, mediaType: path })),
      paths,
    }));
  const messageData = fc
    .record({ long, paths: list(long), reasons: list(long) })
    .map(({ long: text, paths, reasons }): MessageEventData => ({
      group: text,
      correlationId: text,
      cause: { source: text, id: text, type: text },
      beamline: text,
      beamtimeId: text,
      reason: "no-trigger",
      error: { code: "not-json", message: text, hint: text },
      reasons: reasons.map((reason) => ({ trigger: text, reason })),
      paths,
    }));

  it("always fits, is the same event and still of its schema", () => {
    const limit = fc.integer({ min: LEAST_EVENT_BYTES, max: 64 * 1024 });
    fc.assert(
      fc.property(fc.oneof(jobData, messageData), limit, (data, most) => {
        const bytes = eventBytes({ ...ended, data }, most);
        expect(bytes.byteLength).toBeLessThanOrEqual(most);
        const event = read(bytes);
        expect(event.id).toBe(ended.id);
        expect(("job" in data ? JobEventData : MessageEventData).safeParse(event.data).error).toBeUndefined();
      }),
      { numRuns: 50 },
    );
  });
});

describe("cut", () => {
  it("is no longer than asked, says so, and splits no character", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: "grapheme", maxLength: 300 }),
        fc.integer({ min: 40, max: 200 }),
        (text, most) => {
          for (const short of [cut(text, most), cutId(text, most)]) {
            expect(short.length).toBeLessThanOrEqual(most);
            expect(short.isWellFormed()).toBe(true);
            if (text.length <= most) expect(short).toBe(text);
          }
          expect(cutId(`${text}1`, most)).not.toBe(cutId(`${text}2`, most));
        },
      ),
    );
    expect(cut("x".repeat(600), 500)).toMatch(/x… \(cut from 600 characters\)$/);
  });
});
