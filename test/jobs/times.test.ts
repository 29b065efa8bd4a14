import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { NO_RESULTS } from "../../src/tracking/results.ts";
import { arrayCommand, parseArrayAnswers } from "../../src/jobs/array.ts";
import { adoptCommand, submitCommand, type SubmitRequest } from "../../src/jobs/directory.ts";
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

beforeAll(() => {
  mkdirSync(bin);
  const programs = { sbatch: "echo 4711", squeue: "" };
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
  const request = { cause: `it's "100%s" \\ $at`, paths: [] };
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

function expectTimeOfFile(time: string | null | undefined, file: string): void {
  expect(time).toBe(new Date(Math.trunc(statSync(file).mtimeMs)).toISOString());
}

describe("a job is submitted when Slurm has it: when its answer was written down, by the file system's clock", () => {
  const timeIn = (answer: SubmitAnswer | undefined) => (answer?.kind === "submitted" ? answer.at : undefined);

  it("by sbatch, alone, and whoever asks again is told the same", () => {
    const one = job(newFolder(), "one", "slurm");
    const submit = () => parseSubmitAnswer(run(submitCommand(one, "bttest")), []);
    const first = timeIn(submit());
    expectTimeOfFile(first, join(one.jobsDirectory, "one", "submitted"));
    expect(timeIn(submit())).toBe(first);
  });

  it("in an array, all of whose jobs have one time", () => {
    const jobsDirectory = newFolder();
    const jobs = ["one", "two"].map((id) => job(jobsDirectory, id, "slurm"));
    const more = { sbatchArguments: [], directives: [], limit: null, maxPending: null };
    const said = run(arrayCommand({ arrayId: "a1", jobsDirectory, jobs, ...more }, "bttest"));
    const answers = parseArrayAnswers(said, [{ paths: [] }, { paths: [] }]);
    for (const [at, { answer }] of answers.entries()) {
      const time = timeIn(answer);
      const one = jobs[at] as SubmitRequest;
      expectTimeOfFile(time, join(jobsDirectory, one.jobId, "submitted"));
      expect(timeIn(parseSubmitAnswer(run(submitCommand(one, "bttest")), []))).toBe(time);
    }
  });

  it("as a process", () => {
    const one = job(newFolder(), "one", "process");
    const launch = () => parseSubmitAnswer(run(launchCommand({ ...one, host: "here" })), []);
    const first = timeIn(launch());
    expectTimeOfFile(first, join(one.jobsDirectory, "one", "submitted"));
    expect(timeIn(launch())).toBe(first);
  });

  it("and one that is found later began to be submitted when its script was written", () => {
    const one = job(newFolder(), "one", "slurm");
    const directory = join(one.jobsDirectory, "one");
    run(submitCommand(one, "bttest"));
    const written = new Date("2026-01-01T00:00:00Z");
    utimesSync(join(directory, "run.sh"), written, written);
    rmSync(join(directory, "submitted"));
    writeFileSync(join(bin, "squeue"), "#!/bin/sh\necho '4711|mento:one'\n");
    const answer = parseSubmitAnswer(run(adoptCommand(one, "bttest")), []);
    writeFileSync(join(bin, "squeue"), "#!/bin/sh\n");
    expect([answer?.kind, timeIn(answer)]).toEqual(["submitted", "2026-01-01T00:00:00.000Z"]);
  });

  it("and has ended when its record was written", () => {
    const one = job(newFolder(), "one", "slurm");
    const submit = () => parseSubmitAnswer(run(submitCommand(one, "bttest")), []);
    expect(submit()).toMatchObject({ endedAt: null });
    const record = join(one.jobsDirectory, "one", "ended.4711");
    writeFileSync(record, "");
    expect(submit()).toMatchObject({ endedAt: new Date(Math.trunc(statSync(record).mtimeMs)).toISOString() });
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
      expect(timeOf(submitted, now, { again: "4712" })).toBe(after(0));
    }
  });

  it("has no end before the start, though a worker whose clock is behind has seen it", () => {
    expect(end(after(-600)).times.ended).toBe(after(10));
  });
});
