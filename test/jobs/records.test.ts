import { execFileSync, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { ENDED_BYTES } from "../../src/jobs/record-schema.ts";
import { withPlausibleTimes } from "../../src/jobs/record-times.ts";
import { parseRecords, readRecordsCommand, type JobRecords } from "../../src/jobs/records.ts";
import { ReadRate } from "../../src/tracking/read-rate.ts";
import { resultsOf } from "../../src/tracking/results.ts";
import { endedData, startedData } from "../../src/tracking/event-data.ts";
import { JobEventData } from "../../src/messages/job-event.ts";
import { jobData } from "../support/job-data.ts";

const top = mkdtempSync(join(tmpdir(), "mento-records-"));
afterAll(() => rmSync(top, { recursive: true }));
let count = 0;

type Files = Partial<Record<"submitted" | "started.4711" | "ended.4711" | ".cancelled", Buffer | string>>;

function makeJob(files: Files): { id: string; directory: string } {
  const id = `job${++count}`;
  const directory = join(top, id);
  mkdirSync(join(top, ".spool"), { recursive: true });
  mkdirSync(directory);
  for (const [name, content] of Object.entries({ submitted: "4711\n", ...files })) {
    writeFileSync(join(directory, name), content);
  }
  return { id, directory };
}

function read(ids: string[], roots: string[] = []) {
  const command = readRecordsCommand(top, ids, { roots });
  const answers = ["dash", "bash"].map((shell) =>
    spawnSync(shell, ["-c", command], { timeout: 20_000, maxBuffer: 2 ** 25 }),
  );
  expect(answers.map(({ status }) => status)).toEqual([0, 0]);
  // The one was asked a little later.
  const [one, other] = answers.map(({ stdout }) => stdout.toString("latin1").replace(/ read \d{13}$/gm, ""));
  expect(one === other).toBe(true);
  return parseRecords(answers[0]?.stdout ?? Buffer.alloc(0));
}

const now = new Date("2026-11-22T12:00:00Z");
const ended = (fields = "") => `at=2026-11-22T11:00:00Z\0code=0\0stoppedBy=\0${fields}`;

/** What the tracker would announce of such records. */
const nothing = { results: [], cut: 0, notCopied: 0, areUnknown: false };

function eventsFrom(records: JobRecords, realPaths: string[]): JobEventData[] {
  const data = jobData();
  const plausible = withPlausibleTimes(records, "2026-11-22T10:00:00Z", now).records;
  const events = [data];
  if (plausible.started !== undefined) events.push(startedData(data, plausible.started));
  if (plausible.ended !== undefined) {
    const { record, log } = plausible.ended;
    const places = { session: { core: "/core", beamline: "/gpfs/current", node: "/node" }, folders: [] };
    const found = resultsOf(data.job, plausible.ended, realPaths, places);
    const end = {
      state: "failed",
      code: record.code,
      signal: record.stoppedBy,
      reason: "exit-code",
    } as const;
    const { cancelled } = plausible;
    events.push(endedData(data, end, { at: record.at, found, log, slurmState: null, cancelled }));
  }
  return events;
}

describe("records of a job directory, in real shells", () => {
  it("hold whatever they hold: nothing in one ends its line, or is taken for a size", () => {
    const line = "\nmento-record job1 end\nmento-record job1 ended -25\n";
    const { id } = makeJob({ "ended.4711": ended(`log=${line}\0`) });
    const job = read([id]).get(id);
    expect(job?.records?.ended).toMatchObject({ record: { code: 0 }, log: line });
    expect(job?.refused).toEqual([]);
  });

  it("are regular files alone: no link, FIFO or folder, and none is waited for", () => {
    const ids = ["link", "device", "fifo", "folder"].map((kind) => {
      const { id, directory } = makeJob({});
      const record = join(directory, "ended.4711");
      if (kind === "link") symlinkSync("/etc/passwd", record);
      else if (kind === "device") symlinkSync("/dev/zero", record);
      else if (kind === "fifo") execFileSync("mkfifo", [record]);
      else mkdirSync(record);
      return id;
    });
    const found = read(ids);
    for (const id of ids) {
      expect(found.get(id)?.records).toMatchObject({ submitted: { runId: "4711" } });
      expect(found.get(id)?.refused).toEqual(["ended is no regular file"]);
    }
  });

  it("that stop the reader at `submitted` stop it for one job, not for the next", () => {
    const bad = makeJob({});
    rmSync(join(bad.directory, "submitted"));
    execFileSync("mkfifo", [join(bad.directory, "submitted")]);
    const linked = `job${++count}`;
    symlinkSync("/etc", join(top, linked));
    const good = makeJob({ "ended.4711": ended() });
    const found = read([bad.id, linked, good.id]);
    expect(found.get(bad.id)?.refused).toEqual(["submitted is no regular file"]);
    expect(found.get(linked)?.records).toEqual({});
    expect(found.get(good.id)?.records?.ended?.record.code).toBe(0);
  });

  it("are read up to a size: of a longer end the rest of its results is cut, all else is left out", () => {
    const { id, directory } = makeJob({
      "ended.4711": ended("results=9999\0") + "result=1 /core/x\0".repeat(100_000),
      "started.4711": "x".repeat(5000),
    });
    const job = read([id]).get(id);
    expect(job?.records?.ended?.results).toHaveLength(1000);
    expect(job?.records?.ended?.cut).toBeGreaterThan(8000);
    expect(job?.refused).toEqual([
      "started is larger than 4096 bytes",
      `ended is larger than ${ENDED_BYTES} bytes`,
    ]);
    // A sparse one of a size that no memory has.
    writeFileSync(join(directory, "submitted"), "");
    truncateSync(join(directory, "submitted"), 2 ** 40);
    expect(read([id]).get(id)?.refused).toEqual(["submitted is larger than 1024 bytes"]);
  });

  it("of many large ones some are read at a time, and those that were not are told from those without", () => {
    const ids = Array.from(
      { length: 12 },
      () => makeJob({ "ended.4711": ended("log=x\0".repeat(100_000)) }).id,
    );
    const found = read(ids);
    expect(found.size).toBeGreaterThan(4);
    expect(found.size).toBeLessThan(12);
    expect([...found.values()].every(({ records }) => records?.ended !== undefined)).toBe(true);
  });

  it("name no other file by the id in them", () => {
    const { id, directory } = makeJob({ submitted: "../../x\n" });
    writeFileSync(join(directory, "ended."), ended());
    expect(read([id]).get(id)?.records).toEqual({});
  });

  it("that have been notified have the notification taken", () => {
    const { id } = makeJob({});
    writeFileSync(join(top, ".spool", `${id}.ended`), "");
    read([id]);
    expect(existsSync(join(top, ".spool", `${id}.ended`))).toBe(false);
  });

  it("come with the real paths of results, by which those that lead out are left out", () => {
    const { id, directory } = makeJob({});
    const root = mkdtempSync(join(top, "core-"));
    symlinkSync("/etc", join(root, "etc"));
    writeFileSync(join(root, "good"), "");
    const paths = [
      `${root}/good`,
      `${root}/etc/passwd`,
      "/etc/passwd",
      `${directory}/x`,
      `${root}/../x`,
      "rel",
    ];
    writeFileSync(join(directory, "ended.4711"), ended(paths.map((path) => `result=1 ${path}\0`).join("")));
    const places = { session: { core: root, beamline: "/gpfs/current", node: "/node" }, folders: [] };
    const { records, realPaths = [] } = read([id], [root, "/gpfs/current", "/node"]).get(id) ?? {};
    const job = { method: "remote-sbatch-script" as const, directory };
    const found = resultsOf(job, records?.ended ?? nothing, realPaths, places);
    expect(found.results.map(({ path }) => path)).toEqual([`${root}/good`, `${directory}/x`]);
    expect(found.refused).toHaveLength(2);
  });

  it("and no result is held against the real path of another", () => {
    const root = mkdtempSync(join(top, "core-"));
    symlinkSync("/etc", join(root, "etc"));
    for (const malformed of [
      "1 ID/x",
      "1 ",
      " ",
      "x",
      "9999999999999999 ID/x",
      "1 ID/x\nID/y",
      "1 ID/\xff\xfe",
    ]) {
      const { id, directory } = makeJob({});
      const fields = [malformed.replaceAll("ID", id), `1 ${root}/etc/passwd`, `1 ${directory}/x`];
      for (const [first, second, third] of [fields, fields.toReversed()]) {
        const text = [first, second, third].map((one) => `result=${one}\0`).join("");
        writeFileSync(join(directory, "ended.4711"), Buffer.from(ended(text), "latin1"));
        const places = { session: { core: root, beamline: "/gpfs/current", node: "/node" }, folders: [] };
        const { records, realPaths = [] } = read([id], [root, "/gpfs/current", "/node"]).get(id) ?? {};
        const job = { method: "remote-sbatch-script" as const, directory };
        const found = resultsOf(job, records?.ended ?? nothing, realPaths, places);
        expect(
          found.results.map(({ path }) => path),
          malformed,
        ).toEqual([`${directory}/x`]);
      }
    }
  });

  it("with any bytes in every file give records that fit the schema, or none", () => {
    const at = fc.constantFrom(
      "2026-11-22T11:00:00Z",
      "2026-11-22T11:30:00.123Z",
      "9999-12-31T23:59:59Z",
      "now",
      "",
    );
    const field = fc.oneof(
      at.map((one) => `at=${one}`),
      fc.constantFrom(
        "code=0",
        "code=256",
        "code=-1",
        "code=1e3",
        "stoppedBy=",
        "stoppedBy=TERM",
        "stoppedBy=X",
      ),
      fc.constantFrom(
        "node=max-p11-001",
        "node=\x1b[2J",
        "result=5 /core/a",
        "result=-5 /core/a",
        "result= x",
      ),
      fc.constantFrom(
        "copied=/gpfs/current/a",
        "copied=/etc/a",
        "outOfMemory=yes",
        "results=-1",
        "results=5000",
      ),
      fc.string({ unit: "binary", maxLength: 30 }),
    );
    const record = fc
      .array(field, { maxLength: 12 })
      .map((fields) => fields.map((one) => `${one}\0`).join(""));
    const bytes = fc.oneof(
      record.map((text) => Buffer.from(text)),
      fc.uint8Array({ maxLength: 300 }).map((one) => Buffer.from(one)),
    );
    const submitted = fc.oneof(
      fc.constantFrom("4711\n", "4711;node\n", "4711\n- - timeout\n", "4711\na b c d\n"),
      bytes,
    );
    const files = fc.record({ submitted, "started.4711": bytes, "ended.4711": bytes, ".cancelled": bytes });
    fc.assert(
      fc.property(fc.array(files, { minLength: 1, maxLength: 25 }), (all) => {
        const jobs = all.map((one) => makeJob(one));
        const found = read(
          jobs.map(({ id }) => id),
          ["/core", "/gpfs/current", "/node"],
        );
        for (const { id } of jobs) {
          const { records, realPaths = [] } = found.get(id) ?? {};
          expect(records).toBeDefined();
          for (const event of eventsFrom(records ?? {}, realPaths)) {
            expect(JobEventData.safeParse(event).error).toBeUndefined();
          }
        }
      }),
      { numRuns: 12 },
    );
  });
});

describe("an answer", () => {
  it("of any bytes is read to its end, in time that grows with its length", () => {
    const word = fc.constantFrom(
      "mento-record",
      "a",
      "begin",
      "end",
      "ended",
      "started",
      "x",
      "4711",
      "-25",
      "\n",
      " ",
      "\0",
    );
    const any = fc.oneof(
      fc.array(word, { maxLength: 80 }).map((words) => Buffer.from(words.join(" "))),
      fc.uint8Array({ maxLength: 2000 }).map((one) => Buffer.from(one)),
    );
    fc.assert(
      fc.property(any, (output) => {
        for (const { records } of parseRecords(output).values()) {
          for (const event of eventsFrom(records ?? {}, [])) JobEventData.parse(event);
        }
      }),
    );
    const seconds = [1, 4].map((times) => {
      const output = Buffer.from(
        "mento-record a ended 4711 AAAA\nmento-record a begin\n".repeat(times * 50_000),
      );
      const begun = performance.now();
      parseRecords(output);
      return (performance.now() - begun) / 1000;
    });
    expect(seconds[1]).toBeLessThan(5);
  });
});

describe("times", () => {
  const records = (start: string, end: string): JobRecords => ({
    started: { at: start, node: "n" },
    ended: {
      record: { at: end, code: 0, stoppedBy: null, outOfMemory: false },
      ...{ recordedAt: end, ...nothing, log: "" },
    },
  });
  const times = (start: string, end: string) => {
    const found = withPlausibleTimes(records(start, end), "2026-11-22T10:00:00Z", now);
    return [found.records.started?.at, found.records.ended?.record.at];
  };

  it("of nodes' clocks that differ a little are moved to what they can be", () => {
    expect(times("2026-11-22T09:59:00Z", "2026-11-22T12:01:00Z")).toEqual([
      "2026-11-22T10:00:00.000Z",
      "2026-11-22T12:00:00.000Z",
    ]);
    expect(times("2026-11-22T11:30:00Z", "2026-11-22T11:29:59Z")[1]).toBe("2026-11-22T11:30:00.000Z");
  });

  it("before the submit or far to come are left out, with their records", () => {
    expect(times("2026-11-22T09:00:00Z", "2026-11-22T13:00:00Z")).toEqual([undefined, undefined]);
    expect(times("1970-01-01T00:00:00Z", "2026-11-22T11:00:00Z")).toEqual([
      undefined,
      "2026-11-22T11:00:00Z",
    ]);
    expect(times("2026-11-22T11:00:00Z", "2026-11-22T10:30:00Z")[1]).toBeUndefined();
  });
});

it("a job's records are read five times at once, and then every two seconds, or later if they could not be read", () => {
  const rate = new ReadRate();
  const reads = (from: number, to: number) => {
    let taken = 0;
    for (let at = from; at < to; at += 100) if (rate.take(at)) taken += 1;
    return taken;
  };
  expect(reads(0, 1000)).toBe(5);
  expect(reads(1000, 21_000)).toBeLessThanOrEqual(10);
  rate.holdOff(21_000);
  expect(reads(21_000, 30_900)).toBe(0);
  expect(reads(31_000, 32_000)).toBe(5);
  rate.holdOff(32_000);
  expect(reads(32_000, 51_900)).toBe(0);
});
