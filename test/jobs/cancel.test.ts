import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import {
  askCommand,
  cancelQueryCommand,
  parseCancelQuery,
  standingInSlurm,
  type FoundJob,
} from "../../src/jobs/cancel.ts";
import { parseCancelRequest } from "../../src/jobs/cancel-request.ts";
import { cancelProcessesCommand, parseCancelled, processesCommand } from "../../src/jobs/process.ts";
import type { JobRecords } from "../../src/jobs/records.ts";
import type { SlurmJob } from "../../src/slurm/squeue.ts";
import { eventually } from "../support/eventually.ts";

const top = mkdtempSync(join(tmpdir(), "mento-cancel it's-"));
afterAll(() => rmSync(top, { recursive: true, force: true }));
let count = 0;
function makeDirectory(): string {
  const directory = join(top, `job${++count}`);
  mkdirSync(directory);
  return directory;
}

const sh = (script: string) => spawnSync("sh", ["-c", script]);
const request = (reason: string | null = null, who = "me@here") => ({
  who,
  reason,
  at: "2026-11-22T02:32:33.421Z",
});
const look = (jobIds: string[]) => {
  const jobs = { jobsDirectory: top, jobIds, account: null };
  return parseCancelQuery(sh(cancelQueryCommand(jobs)).stdout, jobs).found;
};

describe("who asks, in the job's directory", () => {
  it("is read as it was written, whatever it holds", () => {
    const text = fc.string({ unit: "binary", maxLength: 200 });
    const wellFormed = text.filter((one) => one.isWellFormed());
    fc.assert(
      fc.property(wellFormed, wellFormed, (who, reason) => {
        const directory = makeDirectory();
        sh(askCommand([directory], request(reason, who)));
        const id = directory.slice(directory.lastIndexOf("/") + 1);
        expect(look([id]).get(id)?.records.cancelled).toEqual({ by: { who, reason }, isAccepted: false });
      }),
      { numRuns: 30 },
    );
  });

  it("is the first who asked", async () => {
    const directory = makeDirectory();
    const asking = Array.from({ length: 8 }, (_, index) =>
      spawn("sh", ["-c", askCommand([directory], request(`${index}`))]),
    );
    await Promise.all(asking.map((child) => new Promise((resolve) => child.on("exit", resolve))));
    const first = readFileSync(join(directory, ".cancelled"), "utf8");
    sh(askCommand([directory], request("later")));
    expect(readFileSync(join(directory, ".cancelled"), "utf8")).toBe(first);
    expect(parseCancelRequest(Buffer.from(first))?.by.reason).toMatch(/^\d$/);
  });

  it("is nobody, if what stands there is not ours", () => {
    for (const text of ["", "{}", "null", '{"who":1,"reason":null,"at":"2026-11-22T02:32:33Z"}', "\xff"]) {
      expect(parseCancelRequest(Buffer.from(text, "latin1")), text).toBeUndefined();
    }
    fc.assert(fc.property(fc.uint8Array(), (bytes) => void parseCancelRequest(bytes)));
  });

  it("cannot fill an event", () => {
    const long = JSON.stringify(request("r".repeat(1_000_000), "w".repeat(1_000_000)));
    const { who, reason } = parseCancelRequest(Buffer.from(long))?.by ?? {};
    expect([who?.length, reason?.length]).toEqual([500, 500]);
  });
});

describe("a look", () => {
  it("finds nothing where no job has ever run", () => {
    const jobs = { jobsDirectory: join(top, "nothing"), jobIds: ["job"], account: null };
    const { status, stdout } = sh(cancelQueryCommand(jobs));
    expect(status).toBe(0);
    expect(parseCancelQuery(stdout, jobs).found.size).toBe(0);
  });

  it("is not misled by the end of a log", () => {
    const directory = makeDirectory();
    const id = directory.slice(directory.lastIndexOf("/") + 1);
    writeFileSync(join(directory, "submitted"), "4711\n");
    writeFileSync(
      join(directory, "run.sh"),
      '#!/bin/sh\n# mento-request: {"method":"remote-sbatch-script","submittedAt":"2026-11-22T02:32:33Z"}\n',
    );
    const log = `\nmento-request ${id} # mento-request: {"method":"local-bash-script"}\nmento-directories\n4711|RUNNING|0|1|n|mento:${id}|/d|\n`;
    writeFileSync(join(directory, "ended.4711"), `at=2026-11-22T02:32:33Z\0code=1\0stoppedBy=\0log=${log}\0`);
    const found = look([id]).get(id);
    expect(found).toMatchObject({ method: "remote-sbatch-script", inSlurm: [] });
    expect(found?.records.ended?.log).toBe(log);
  });

  it("takes any output for what it is, and nothing for a job that is not there", () => {
    const jobs = { jobsDirectory: "/j", jobIds: ["job"], account: "a" };
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (output) => {
        expect(parseCancelQuery(Buffer.from(output), jobs).found.size).toBe(0);
      }),
    );
  });
});

const job: SlurmJob = {
  id: "4711",
  state: "RUNNING",
  reason: "",
  nodes: "n",
  comment: "mento:j",
  directory: "/j/j",
};
const found = (records: JobRecords, ...states: string[]): FoundJob => ({
  ...{ id: "j", directory: "/j/j", method: "remote-sbatch-script", submittedAt: undefined, array: undefined },
  readAt: null,
  records,
  inSlurm: states.map((state, index) => ({ ...job, id: String(4711 + index), state })),
});
const me = { who: "me", reason: null };
const submitted = {
  at: null,
  ...{ runId: "4711", host: null, reservation: null, partition: null, why: "reservation-deleted" as const },
  isBeingResubmitted: false,
};
const ended = (code: number, stoppedBy: string | null = null) => ({
  record: { at: "2026-11-22T02:32:33Z", code, stoppedBy, outOfMemory: false },
  results: [],
  log: "",
  recordedAt: "",
  ...{ cut: 0, notCopied: 0, areUnknown: false },
});

describe("how a job of Slurm stands", () => {
  it.each<[string, FoundJob, object]>([
    ["runs", found({ submitted }, "RUNNING"), { kind: "living", slurmJobIds: ["4711"] }],
    ["is in a state that nobody knows", found({ submitted }, "HALF_BAKED"), { kind: "living" }],
    [
      "has completed, and its node is not done",
      found({ submitted, ended: ended(0) }, "CG"),
      ENDED("completed"),
    ],
    ["is stopped, and its node is not done", found({ submitted }, "COMPLETING"), { kind: "ending" }],
    ["was cancelled", found({ submitted, ended: ended(143, "SIGTERM") }, "CANCELLED"), ENDED("cancelled")],
    ["was cancelled before it ran", found({ submitted }, "CANCELLED"), ENDED("cancelled")],
    ["ran into its limit", found({ submitted, ended: ended(143, "SIGTERM") }, "TIMEOUT"), ENDED("failed")],
    ["is being submitted", found({}), { kind: "in-flight" }],
    ["is being submitted, and Slurm has it", found({}, "PENDING"), { kind: "living" }],
    [
      "is being submitted again",
      found({ submitted: { ...submitted, isBeingResubmitted: true } }, "CANCELLED"),
      { kind: "in-flight" },
    ],
    ["was submitted again", found({ submitted }, "CANCELLED", "PENDING"), { slurmJobIds: ["4712"] }],
    ["is forgotten", found({ submitted }), { kind: "forgotten" }],
    [
      "is forgotten, and we had cancelled it",
      found({ submitted, ended: ended(143, "SIGTERM"), cancelled: { by: me, isAccepted: false } }),
      ENDED("cancelled"),
    ],
    [
      "is forgotten, and we had cancelled it before it ran",
      found({ submitted, cancelled: { by: me, isAccepted: true } }),
      ENDED("cancelled"),
    ],
    [
      "is forgotten, and we could not cancel it",
      found({ submitted, cancelled: { by: me, isAccepted: false } }),
      { kind: "forgotten" },
    ],
  ])("that %s", (_, one, standing) => {
    expect(standingInSlurm(one)).toMatchObject(standing);
  });

  it("over the REST API has the program's exit code, also where nobody can read its records", () => {
    const listed = { ...job, state: "FAILED", exitCode: "7:0" };
    const one: FoundJob = { ...found({ submitted }), method: "slurm-rest-api", inSlurm: [listed] };
    expect(standingInSlurm(one)).toMatchObject({ kind: "ended", end: { code: 7, reason: "exit-code" } });
    expect(standingInSlurm({ ...one, method: "remote-sbatch-script" })).toMatchObject({
      end: { reason: "launch-failed" },
    });
  });

  function ENDED(state: string) {
    return { kind: "ended", end: { state } };
  }
});

describe("a process that is cancelled", () => {
  /** As a job outside Slurm is started: a session of its own, by its script's name. */
  function start(script: string) {
    const directory = makeDirectory();
    writeFileSync(join(directory, "run.sh"), script);
    const child = spawn("sh", [join(directory, "run.sh")], { detached: true, stdio: "ignore" });
    const ended = new Promise<string | null>((resolve) => child.on("exit", (_, signal) => resolve(signal)));
    return { pid: child.pid ?? 0, directory, ended };
  }
  const cancel = (...jobs: { pid: number; directory: string }[]) =>
    parseCancelled(sh(cancelProcessesCommand(jobs, request("enough"))).stdout.toString("utf8"));
  const isThere = (pid: number) => {
    try {
      process.kill(pid, 0);
      return true;
    } catch {
      return false;
    }
  };

  /** Whoever is process 1 may take its time to take note of the ends. */
  const isGone = (pid: number) =>
    eventually("all of the group has ended", () => !isThere(pid) || undefined, 20_000);

  it("gets SIGTERM, with all of its group, and its directory says who asked", async () => {
    const one = start("sleep 300 & sleep 300; :");
    await sleep(200);
    expect(cancel(one)).toEqual(new Set([String(one.pid)]));
    expect(await one.ended).toBe("SIGTERM");
    expect(parseCancelRequest(readFileSync(join(one.directory, ".cancelled")))?.by.reason).toBe("enough");
    expect(sh(processesCommand([one])).stdout.toString("utf8")).toContain("CANCELLED");
    await isGone(-one.pid);
  });

  it("is killed after ten seconds if it does not end, and so is what it leaves behind", async () => {
    const stubborn = start("trap '' TERM; while :; do sleep 1; done");
    const leaving = start("sh -c \"trap '' TERM; while :; do sleep 1; done\" & sleep 300; :");
    await sleep(300);
    expect(cancel(stubborn, leaving).size).toBe(2);
    expect(await leaving.ended).toBe("SIGTERM");
    expect(isThere(-leaving.pid)).toBe(true);
    expect(await stubborn.ended).toBe("SIGKILL");
    await isGone(-leaving.pid);
  });

  it("is left alone if it is not the job's, but has its number", async () => {
    const other = start("sleep 300; :");
    const mine = makeDirectory();
    await sleep(200);
    expect(cancel({ pid: other.pid, directory: mine }).size).toBe(0);
    expect(existsSync(join(mine, ".cancelled"))).toBe(false);
    expect(isThere(other.pid)).toBe(true);
    process.kill(-other.pid, "SIGKILL");
  });
});
