import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, describe, expect, it } from "vitest";
import { endFromRecord } from "../../src/jobs/job.ts";
import { parseProcesses, processesCommand } from "../../src/jobs/process.ts";
import { LAUNCHED, UNPREPARED, type RunScript } from "../../src/jobs/run-script.ts";
import { asSlurmJob, JobsInShells } from "../support/jobs-in-shells.ts";

const jobs = new JobsInShells();
afterAll(() => jobs.remove());

/** A job of which this file finds no room, and what it has printed. */
function withoutRoomFor(file: string, more: Partial<RunScript> = {}, shell = "sh") {
  const job = jobs.make(["sh", "-c", "echo ran"], { parameters: { a: 1 }, stdin: "in", ...more });
  mkdirSync(job.resultsDirectory, { recursive: true });
  writeFileSync(join(job.resultsDirectory, "x"), "");
  symlinkSync("/dev/full", join(job.directory, file));
  const { status } = jobs.start(job, "", shell);
  const log = readFileSync(join(job.directory, "job.log"), "utf8");
  return { ...job, status, log, records: jobs.records(job.jobId) };
}

describe("a job that could not be prepared does not run its program", () => {
  it.each([
    ["parameters.json", "parameters"],
    ["stdin", "standard input"],
    [".started.4711", "start"],
    [".results-before.4711", "results folder"],
  ])("for there is no room for %s", (file, what) => {
    for (const shell of ["sh", "bash"]) {
      const { status, log, records } = withoutRoomFor(file, {}, shell);
      expect(status).toBe(UNPREPARED);
      expect(log).not.toMatch(/^ran$/m);
      expect(log).toMatch(new RegExp(`^mento: the program was not run, for .*${what}`, "m"));
      expect(records?.started).toBeUndefined();
      const { record, log: said } = records?.ended ?? {};
      expect(said).toContain(what);
      expect(record && endFromRecord(record)).toEqual({
        ...{ state: "failed", code: null, signal: null, reason: "not-prepared" },
      });
    }
  });

  it("or the folder for its results cannot be made", () => {
    const job = jobs.make(["true"], { resultsDirectory: "/proc/no/folder" });
    expect(jobs.start(job).status).toBe(UNPREPARED);
    expect(jobs.records(job.jobId)?.ended?.record.isUnprepared).toBe(true);
  });

  it("or that it begins cannot be written down: another submit might", () => {
    const job = jobs.make(["sh", "-c", "echo ran"]);
    symlinkSync("/no/such/folder/file", join(job.directory, ".begun.0"));
    expect(jobs.start(job).status).toBe(UNPREPARED);
    expect(readFileSync(join(job.directory, "job.log"), "utf8")).not.toMatch(/^ran$/m);
  });
});

it("a job that is ended while it is prepared was stopped, and not unprepared", async () => {
  const bin = join(jobs.top, "bin");
  mkdirSync(bin);
  const preparing = join(bin, "preparing");
  writeFileSync(join(bin, "find"), `#!/bin/sh\n: > '${preparing}'; exec sleep 20\n`, { mode: 0o755 });
  writeFileSync(join(bin, "sort"), "#!/bin/sh\ncat; exit 1\n", { mode: 0o755 });
  const job = jobs.make(["sh", "-c", "echo ran"]);
  const env = { ...asSlurmJob("4711"), PATH: `${bin}:${process.env["PATH"] ?? ""}` };
  const child = spawn("sh", [job.script], { stdio: "ignore", env, detached: true });
  while (!existsSync(preparing)) await sleep(20);
  process.kill(-(child.pid ?? 0), "SIGTERM");
  await new Promise((resolve) => child.on("exit", resolve));
  const { record } = jobs.records(job.jobId)?.ended ?? {};
  expect(record).toMatchObject({ code: 143, stoppedBy: "SIGTERM", isUnprepared: false });
  expect(record && endFromRecord(record)).toBeUndefined();
});

describe("a process", () => {
  const start = (job: { script: string }) =>
    spawn("sh", [job.script], { stdio: "ignore", env: { ...process.env, [LAUNCHED]: "here" } });
  const ended = (child: ReturnType<typeof start>) =>
    new Promise<number>((resolve) => child.on("exit", () => resolve(child.pid ?? 0)));

  it("that left neither start nor end was not prepared", async () => {
    const job = jobs.make(["true"], { launch: "process" });
    rmSync(join(job.directory, "submitted"));
    symlinkSync("/dev/full", join(job.directory, "parameters.json"));
    const pid = await ended(start(job));
    for (const record of ["started", "ended"])
      rmSync(join(job.directory, `${record}.${pid}`), { force: true });
    const asked = [{ pid, directory: job.directory }];
    const said = spawnSync("sh", ["-c", processesCommand(asked)]).stdout.toString();
    expect(parseProcesses(said, asked, "here").get(String(pid))?.exitCode).toBe(`${UNPREPARED}:0`);
  });

  it("waits until there is room for the record of its end", async () => {
    const program = 'cd "${MENTO_PARAMETERS%/*}" && ln -s /dev/full .ended.$PPID; exit 7';
    const job = jobs.make(["sh", "-c", program], { launch: "process" });
    rmSync(join(job.directory, "submitted"));
    const child = start(job);
    const full = join(job.directory, `.ended.${child.pid ?? 0}`);
    while (!existsSync(full)) await sleep(20);
    await sleep(300);
    rmSync(full, { force: true });
    const pid = await ended(child);
    expect(readFileSync(join(job.directory, `ended.${pid}`), "utf8")).toContain("code=7\0");
  });
});
