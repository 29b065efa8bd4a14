import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { NO_RESULTS } from "../../src/tracking/results.ts";
import { arrayCommand, parseArrayAnswers } from "../../src/jobs/array.ts";
import { submitCommand, type SubmitRequest } from "../../src/jobs/directory.ts";
import { endedData, startedData } from "../../src/tracking/event-data.ts";
import { launchCommand } from "../../src/jobs/process.ts";
import { timeThere, withPlausibleTimes } from "../../src/jobs/record-times.ts";
import type { JobRecords } from "../../src/jobs/records.ts";
import { runScript } from "../../src/jobs/run-script.ts";
import { parseSubmitAnswer, type SubmitAnswer } from "../../src/jobs/submit-said.ts";
import { jobEvent } from "../../src/messages/job-event.ts";
import { framed, newMark, readFramed } from "../../src/shells/script.ts";
import { jobData } from "../support/job-data.ts";

const top = mkdtempSync(join(tmpdir(), "mento-times-"));
const bin = join(top, "bin");
afterAll(() => {
  rmSync(top, { recursive: true });
});

/** A host whose clock is ten minutes behind this one's. */
const BEHIND_MS = 600_000;
beforeAll(() => {
  mkdirSync(bin);
  const programs = { sbatch: "echo 4711", squeue: "", date: 'exec /bin/date -d "10 minutes ago" "$@"' };
  for (const [name, script] of Object.entries(programs)) {
    writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`);
    chmodSync(join(bin, name), 0o755);
  }
});

function run(command: string): string {
  const env = { ...process.env, PATH: `${bin}:${process.env["PATH"] ?? ""}` };
  const mark = newMark();
  return readFramed(
    spawnSync("sh", ["-s"], { input: framed(command, mark), env }).stdout,
    mark,
  ).output.toString();
}

const newFolder = () => mkdtempSync(join(top, "jobs-"));

function job(jobsDirectory: string, jobId: string, launch: "slurm" | "process"): SubmitRequest {
  const directory = join(jobsDirectory, jobId);
  const request = { submittedAt: "2099-01-01T00:00:00.000Z", cause: `it's "100%s" \\ $at`, paths: [] };
  return {
    ...{ jobsDirectory, jobId, program: null, log: null, data: null, maxPending: null, permits: null },
    sbatchArguments: [],
    script: runScript({
      ...{ jobId, directory, spool: join(jobsDirectory, ".spool"), workdir: null, stdin: null },
      ...{ argv: ["true"], env: {}, parameters: {}, resultsDirectory: null, resultGlobs: ["**"] },
      ...{ copyBack: null, launch, directives: [], request },
    }),
  };
}

/** What the script in the directory says, which is all that was asked but the time. */
function writtenTime({ jobsDirectory, jobId, script }: SubmitRequest): string {
  const written = readFileSync(join(jobsDirectory, jobId, "run.sh"), "utf8");
  const time = /"submittedAt":"([^"]*)"/.exec(written)?.[1] ?? "";
  expect(written.replace(time, "2099-01-01T00:00:00.000Z")).toBe(script);
  return time;
}

function expectTimeThere(time: string | null | undefined, from: number): void {
  const there = Date.parse(time ?? "") + BEHIND_MS;
  expect(there).toBeGreaterThanOrEqual(from - 1);
  expect(there).toBeLessThanOrEqual(Date.now() + 1);
}

describe("a job is submitted at the time of the host that submits it", () => {
  const timeIn = (answer: SubmitAnswer | undefined) => {
    if (answer?.kind !== "submitted") return undefined;
    return answer.at ?? (answer.request as { submittedAt: string }).submittedAt;
  };

  it("by sbatch, alone, and whoever asks again is told the same", () => {
    const from = Date.now();
    const one = job(newFolder(), "one", "slurm");
    const submit = () => parseSubmitAnswer(run(submitCommand(one, "bttest")), []);
    const first = timeIn(submit());
    expectTimeThere(first, from);
    expect([writtenTime(one), timeIn(submit())]).toEqual([first, first]);
  });

  it("in an array", () => {
    const from = Date.now();
    const jobsDirectory = newFolder();
    const jobs = ["one", "two"].map((id) => job(jobsDirectory, id, "slurm"));
    const more = { sbatchArguments: [], directives: [], limit: null, maxPending: null };
    const said = run(arrayCommand({ arrayId: "a1", jobsDirectory, jobs, ...more }, "bttest"));
    const answers = parseArrayAnswers(said, [{ paths: [] }, { paths: [] }]);
    for (const [at, { answer }] of answers.entries()) {
      const time = timeIn(answer);
      expectTimeThere(time, from);
      expect(writtenTime(jobs[at] as SubmitRequest)).toBe(time);
    }
  });

  it("as a process", () => {
    const from = Date.now();
    const one = job(newFolder(), "one", "process");
    const launch = () => parseSubmitAnswer(run(launchCommand({ ...one, host: "here" })), []);
    const first = timeIn(launch());
    expectTimeThere(first, from);
    expect([writtenTime(one), timeIn(launch())]).toEqual([first, first]);
  });
});

describe("times of a node whose clock differs from that of the submit", () => {
  const at = (time: string) => `2026-11-22T${time}.000Z`;
  const records = (start: string, end: string): JobRecords => ({
    started: { at: at(start), node: "n" },
    ended: {
      record: { at: at(end), code: 0, stoppedBy: null, outOfMemory: false },
      ...{ recordedAt: at(end), ...NO_RESULTS, log: "" },
    },
  });

  it.each([
    ["ahead", "10:10:01", "10:14:01", "10:00:01", "10:04:01"],
    ["behind", "09:50:01", "09:54:01", "10:00:00", "10:04:00"],
    ["ahead, more than there was time for", "10:05:00", "10:14:01", "10:00:00", "10:04:01"],
    ["the same", "10:00:01", "10:03:59", "10:00:01", "10:03:59"],
    ["set back meanwhile", "10:02:00", "10:01:00", "10:02:00", "10:02:00"],
  ])("are moved together: %s", (_, start, end, started, ended) => {
    const found = withPlausibleTimes(records(start, end), at("10:00:00"), new Date(at("10:04:01")));
    const { started: one, ended: other } = found.records;
    expect([one?.at, other?.record.at, found.refused]).toEqual([at(started), at(ended), []]);
  });

  it("are compared with what the host says that they are read on, if that is a clock", () => {
    const now = new Date(at("10:00:00"));
    for (const [said, taken] of [
      ["09:50:00", "09:50:00"],
      ["10:10:00", "10:10:00"],
      ["08:00:00", "10:00:00"],
    ] as const) {
      expect(timeThere(Date.parse(at(said)), now).toISOString()).toBe(at(taken));
    }
    expect(timeThere(null, now)).toBe(now);
  });
});

describe("a job's event", () => {
  const after = (seconds: number) => new Date(Date.UTC(2026, 10, 22) + seconds * 1000).toISOString();
  const times = { ready: null, received: null, submitted: after(0), started: null, ended: null };
  const submitted = jobData("submitted", { times });
  const started = startedData(submitted, { at: after(10), node: "n" });
  const done = { state: "completed", code: 0, signal: null, reason: null } as const;
  const end = (at: string) => endedData(started, done, { at, found: NO_RESULTS, log: "", slurmState: null });
  const timeOf = (...args: Parameters<typeof jobEvent>) => jobEvent(...args).time;

  it("has the time of what it tells, however late and often it is announced", () => {
    for (const now of [new Date(0), new Date()]) {
      expect(timeOf(submitted, now)).toBe(after(0));
      expect(timeOf(started, now)).toBe(after(10));
      expect(timeOf(end(after(20)), now)).toBe(after(20));
      expect(timeOf(submitted, now, { again: "4712" })).toBe(now.toISOString());
    }
  });

  it("has no end before the start, though a worker whose clock is behind has seen it", () => {
    expect(end(after(-600)).times.ended).toBe(after(10));
  });
});
