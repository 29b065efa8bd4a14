import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parseRemoved, retentionCommand } from "../../src/jobs/retention.ts";
import { FakePrograms } from "../support/fake-programs.ts";

let programs: FakePrograms;
let jobs: string;
beforeEach(() => {
  programs = new FakePrograms();
  jobs = programs.jobsDirectory;
});
afterEach(() => programs.remove());

/** A job's directory that was last written to twenty days ago. */
function old(id: string, files: Record<string, string> = {}): void {
  mkdirSync(join(jobs, id));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(jobs, id, name), text);
  const then = Date.now() / 1000 - 20 * 24 * 3600;
  utimesSync(join(jobs, id), then, then);
}

function clean(where: Parameters<typeof retentionCommand>[1]): string[] {
  const end = programs.run(retentionCommand(jobs, where, 14));
  expect(parseRemoved(end.stdout)).toBeDefined();
  return readdirSync(jobs)
    .filter((name) => !name.startsWith("."))
    .sort();
}

describe("directories of jobs that ended long ago are removed", () => {
  it("but not of a process that runs for weeks, on whatever node", () => {
    old("runs", { submitted: "12;max-p11-001\n", "ended.by-hand": "" });
    old("ended", { submitted: "12;max-p11-001\n", "ended.12": "" });
    old("slurm", { submitted: "4711\n" });
    expect(clean({ account: "bttest" })).toEqual(["runs"]);
  });

  it("also of jobs on this host, without a word to Slurm, and of processes that were killed", () => {
    old("killed", { submitted: "999999999;here\n" });
    old("elsewhere", { submitted: "999999999;there\n" });
    const process = spawn("sh", ["-c", "sleep 20; :", join(jobs, "runs", "run.sh")], { stdio: "ignore" });
    old("runs", { submitted: `${process.pid ?? 0};here\n` });
    const left = clean({ host: "here" });
    process.kill();
    expect(left).toEqual(["elsewhere", "runs"]);
    expect(programs.calls("squeue")).toEqual([]);
  });
});

it("more than the arguments of one command are removed", () => {
  // This leaves 256 kB for arguments; more than 2 MB of names would take this test minutes.
  for (let at = 0; at < 1500; at++) mkdirSync(join(jobs, `.removed.${"n".repeat(200)}${at}`));
  old("slurm", { submitted: "4711\n" });
  const end = programs.run(`ulimit -S -s 1024\n${retentionCommand(jobs, { account: "bttest" }, 14)}`);
  expect(parseRemoved(end.stdout)).toBe(1);
  expect(readdirSync(jobs).filter((name) => name.includes("removed"))).toEqual([]);
});

it("what could not be removed is no success", () => {
  old("slurm", { submitted: "4711\n" });
  writeFileSync(join(jobs, ".removed.slurm"), "");
  const end = programs.run(retentionCommand(jobs, { account: "bttest" }, 14));
  expect(parseRemoved(end.stdout)).toBeUndefined();
  expect(end.stderr).toContain(".removed.slurm");
});

it("nothing is removed while Slurm does not answer", () => {
  old("slurm", { submitted: "4711\n" });
  programs.answer("squeue", "exit 1");
  const end = programs.run(retentionCommand(jobs, { account: "bttest" }, 14));
  expect(parseRemoved(end.stdout)).toBeUndefined();
  expect(existsSync(join(jobs, "slurm"))).toBe(true);
});
