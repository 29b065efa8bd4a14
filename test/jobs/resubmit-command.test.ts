import { mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { resubmitCommand } from "../../src/jobs/resubmit-command.ts";
import { parseSubmitAnswer } from "../../src/jobs/submit-said.ts";
import type { ExitReason } from "../../src/messages/job-event.ts";
import { FakePrograms } from "../support/fake-programs.ts";

let slurm: FakePrograms;
let directory: string;
const jobId = "k3f7";

beforeEach(() => {
  slurm = new FakePrograms();
  directory = join(slurm.jobsDirectory, jobId);
  mkdirSync(directory);
  writeFileSync(join(directory, "run.sh"), "#!/bin/sh\n# mento-request: {}\n");
  writeFileSync(join(directory, "submitted"), "4711\n");
});
afterEach(() => slurm.remove());

function command(why: ExitReason = "reservation-deleted", slurmJobId = "4711"): string {
  const more = { sbatchArguments: ["--parsable"], reservation: "r", partition: "p" };
  return resubmitCommand({ jobsDirectory: slurm.jobsDirectory, jobId, slurmJobId, why, ...more }, "bttest");
}

function resubmit(script = command()) {
  const end = slurm.run(script);
  return { ...end, answer: parseSubmitAnswer(end.stdout, []) };
}

/** So long ago anything in the directory was done. */
function age(seconds: number): void {
  const then = Date.now() / 1000 - seconds;
  for (const name of readdirSync(directory)) utimesSync(join(directory, name), then, then);
  utimesSync(directory, then, then);
}

const HELD = "echo '4711 PENDING mento:k3f7'";
/** Held until `scancel` was called. */
const heldUntilCancelled = () =>
  slurm.answer(
    "squeue",
    `if [ -e "\${0%/*}/scancel.calls" ]; then echo '4711 CANCELLED mento:k3f7'; else ${HELD}; fi`,
  );

describe("a held job is cancelled, and submitted again", () => {
  beforeEach(heldUntilCancelled);

  it("once, and its directory says so", () => {
    expect(resubmit().answer).toMatchObject({ kind: "submitted", runId: "4720" });
    expect(readFileSync(join(directory, "submitted"), "utf8")).toBe("4720\nr p reservation-deleted\n");
    expect(resubmit().answer).toMatchObject({ kind: "submitted", runId: "4720" });
    expect(slurm.calls("sbatch")).toHaveLength(1);
  });

  it.each(["squeue", "scancel"])("not while %s hangs, which it is not let do for long", (program) => {
    slurm.answer("squeue", HELD);
    slurm.answer(program, "exec sleep 60");
    const quick = command().replaceAll(/timeout -k 5 \d+ (?=squeue|scancel|scontrol)/g, "timeout -k 5 1 ");
    const began = Date.now();
    resubmit(quick);
    expect(Date.now() - began).toBeLessThan(10_000);
    expect(slurm.calls("sbatch")).toEqual([]);
  });

  it("not by whoever was held up for so long that another may be at it", () => {
    slurm.answer("scancel", `touch -d '3 minutes ago' "$jobs/${jobId}/.resubmit.4711"`);
    expect(resubmit().answer).toEqual({ kind: "in-flight" });
    expect(slurm.calls("sbatch")).toEqual([]);
  });

  it("not by whoever's lock was taken over", () => {
    slurm.answer("scancel", `mkdir "$jobs/${jobId}/.resubmit.4711.1799999999"`);
    expect(resubmit().answer).toEqual({ kind: "in-flight" });
    expect(slurm.calls("sbatch")).toEqual([]);
  });

  it("by another if the first has died, whatever the node's clock says", () => {
    mkdirSync(join(directory, ".resubmit.4711"));
    slurm.answer("date", "echo $(($(PATH=${PATH#*:}; date +%s) + 3600))");
    expect(resubmit().answer).toEqual({ kind: "in-flight" });
    slurm.answer("date", "echo $(($(PATH=${PATH#*:}; date +%s) - 3600))");
    age(200);
    expect(resubmit().answer).toMatchObject({ runId: "4720" });
    expect(readdirSync(directory).filter((name) => name.startsWith(".resubmit.4711."))).toHaveLength(1);
  });
});

describe("of a submit that was cut off the new job is found, though Slurm's ids began again", () => {
  beforeEach(() => {
    mkdirSync(join(directory, ".resubmit.4711"));
    age(200);
  });

  it("in squeue", () => {
    slurm.answer("squeue", "echo '4711 CANCELLED mento:k3f7'; echo '12 RUNNING mento:k3f7'");
    expect(resubmit().answer).toMatchObject({ runId: "12" });
    expect(slurm.calls("sbatch")).toEqual([]);
  });

  it("by its own record", () => {
    writeFileSync(join(directory, "started.12"), "");
    age(200);
    expect(resubmit().answer).toMatchObject({ runId: "12" });
    expect(slurm.calls("sbatch")).toEqual([]);
  });

  it("and one that was replaced before is not taken for it", () => {
    writeFileSync(join(directory, "submitted"), "12\n");
    mkdirSync(join(directory, ".resubmit.12"));
    mkdirSync(join(directory, ".resubmit.4711.1700000000"));
    writeFileSync(join(directory, "started.4711"), "");
    age(200);
    slurm.answer("squeue", "echo '4711 NODE_FAIL mento:k3f7'; echo '12 NODE_FAIL mento:k3f7'");
    expect(resubmit(command("node-failure", "12")).answer).toMatchObject({ runId: "4720" });
  });
});
