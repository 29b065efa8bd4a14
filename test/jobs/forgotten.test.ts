import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { resubmitCommand, type ResubmitRequest } from "../../src/jobs/resubmit-command.ts";
import { forgottenCommand } from "../../src/jobs/forgotten.ts";
import { runScript } from "../../src/jobs/run-script.ts";
import { parseSubmitAnswer } from "../../src/jobs/submit-said.ts";
import { framed, newMark } from "../../src/shells/script.ts";
import { FakePrograms } from "../support/fake-programs.ts";

let slurm: FakePrograms;
let directory: string;
const jobId = "k3f7";

beforeEach(() => {
  slurm = new FakePrograms();
  directory = join(slurm.jobsDirectory, jobId);
  mkdirSync(directory);
  const script = runScript({
    ...{ jobId, directory, spool: join(slurm.jobsDirectory, ".spool"), launch: "slurm" },
    ...{ argv: ["/bin/sh", "-c", 'echo run >> "$0"', join(directory, "runs")], env: {}, workdir: null },
    ...{ stdin: null, parameters: {}, resultsDirectory: null, resultGlobs: [], copyBack: null },
    ...{ directives: [], request: {} },
  });
  writeFileSync(join(directory, "run.sh"), script);
  writeFileSync(join(directory, "submitted"), "4711\n");
  age(60);
  slurmSays({});
});
afterEach(() => slurm.remove());

/** As Slurm 22.05 and 24.11 print it with SLURM_TIME_FORMAT=%s; the controller's clock is `ahead` of ours. */
function slurmSays({ bootedAgo = 10, keeps = 300, ahead = 0 }): void {
  slurm.answer(
    "scontrol",
    `[ "$SLURM_TIME_FORMAT $*" = "%s show config" ] || exit 0
now=$(($(PATH=\${PATH#*:}; date +%s) + ${ahead}))
cat <<END
Configuration data as of $now
AccountingStorageBackupHost = (null)
BOOT_TIME               = $((now - ${bootedAgo}))
MinJobAge               = ${keeps} sec

Slurmctld(primary) at c1 is UP
END`,
  );
}

const request = (more: Partial<ResubmitRequest> = {}): ResubmitRequest => ({
  ...{ jobsDirectory: slurm.jobsDirectory, jobId, slurmJobId: "4711", why: "slurm-forgot" },
  ...{ sbatchArguments: ["--parsable"], reservation: "r", partition: "p" },
  ...more,
});

function lookFor(script = forgottenCommand(request(), "bttest")) {
  const { stdout } = slurm.run(script);
  return parseSubmitAnswer(stdout, []);
}

/** So long ago this, or all in the directory, was made. */
function age(seconds: number, name?: string): void {
  const then = Date.now() / 1000 - seconds;
  const names = name === undefined ? readdirSync(directory) : [name];
  for (const one of names) utimesSync(join(directory, one), then, then);
}

/** As Slurm would on a node. */
async function runOnNode(slurmJobId: string, args: string[] = []): Promise<number | null> {
  const env = { ...process.env, SLURM_JOB_ID: slurmJobId };
  const node = spawn("sh", [join(directory, "run.sh"), ...args], { env, stdio: "ignore" });
  return new Promise((resolve) => node.on("exit", resolve));
}

const runs = () => {
  const file = join(directory, "runs");
  return existsSync(file) ? readFileSync(file, "utf8").trim().split("\n").length : 0;
};

describe("a job that Slurm's controller has forgotten since it was killed", () => {
  it("is submitted again, once, and its directory says so", async () => {
    expect(lookFor()).toMatchObject({ kind: "submitted", runId: "4720" });
    expect(lookFor()).toMatchObject({ kind: "submitted", runId: "4720" });
    expect(slurm.calls("sbatch")).toEqual([`--parsable ${directory}/run.sh  1`]);
    expect(readFileSync(join(directory, "submitted"), "utf8")).toBe("4720\nr p slurm-forgot\n");
    expect(await runOnNode("4720", ["", "1"])).toBe(0);
    expect(runs()).toBe(1);
  });

  it("does nothing should its first script begin after all", async () => {
    lookFor();
    expect(await runOnNode("4711")).toBe(121);
    expect(runs()).toBe(0);
    expect(existsSync(join(directory, "started.4711"))).toBe(false);
  });

  it("is told, though the new one has got its id, which is free again", async () => {
    slurm.answer("sbatch", "echo 4711");
    expect(lookFor()).toMatchObject({ kind: "submitted", runId: "4711" });
    slurm.answer("squeue", `echo '4711|PENDING|mento:${jobId}|/tmp'`);
    expect(lookFor()).toEqual({ kind: "running", slurmState: "KNOWN" });
    expect(await runOnNode("4711", ["", "1"])).toBe(0);
    expect(slurm.calls("sbatch")).toHaveLength(1);
  });

  it("is told, though its id is another job's, and the controller's clock another", () => {
    slurm.answer("squeue", "echo '4711|RUNNING|mento:other|/tmp'");
    slurmSays({ ahead: 7200 });
    expect(lookFor()).toMatchObject({ kind: "submitted", runId: "4720" });
  });

  it("is not told where something takes the format of times away: a year is not a time", () => {
    slurm.answer(
      "scontrol",
      "printf '%s\\n' 'Configuration data as of 2024-01-01T00:00:00' 'BOOT_TIME = 2024-01-01T00:00:00' 'MinJobAge = 300 sec'",
    );
    lookFor();
    expect(slurm.calls("sbatch")).toEqual([]);
  });

  it("is submitted again a second time, when Slurm forgets it again", async () => {
    lookFor();
    age(30);
    slurm.answer("sbatch", "echo 4730");
    expect(lookFor(forgottenCommand(request({ slurmJobId: "4720" }), "bttest"))).toMatchObject({
      runId: "4730",
    });
    expect(await runOnNode("4720", ["", "1"])).toBe(121);
    expect(await runOnNode("4730", ["", "2"])).toBe(0);
    expect(runs()).toBe(1);
  });

  it("and that had been retried, is told from its first run, and from a job that it has started itself", async () => {
    await runOnNode("4711");
    slurm.answer("sbatch", "echo 4719");
    const retry = resubmitCommand(request({ why: "node-failure" }), "bttest");
    expect(lookFor(retry)).toMatchObject({ runId: "4719" });
    age(60, "submitted");
    age(61, ".begun.0");
    const others = `4711|NODE_FAIL|mento:${jobId}|${directory}\\n4712|COMPLETED||${directory}`;
    slurm.answer("squeue", `printf '${others}\\n'`);
    slurm.answer("sbatch", "echo 4720");
    const again = forgottenCommand(request({ slurmJobId: "4719" }), "bttest");
    expect(lookFor(again)).toMatchObject({ runId: "4720" });
    expect(slurm.calls("sbatch").at(-1)).toBe(`--parsable ${directory}/run.sh  2`);
  });

  it("as a task of an array is not taken for another task of it", () => {
    writeFileSync(join(directory, ".array"), "abc 3\n");
    writeFileSync(join(directory, "submitted"), "4711_3\n");
    age(60, "submitted");
    slurm.answer("squeue", `echo '4711_9|RUNNING|mento:array:abc|/tmp'`);
    const task = forgottenCommand(request({ slurmJobId: "4711_3" }), "bttest");
    expect(lookFor(task)).toMatchObject({ runId: "4720" });
  });

  it("runs again for another reason too: its node failed, or its reservation was deleted", async () => {
    lookFor();
    slurm.answer("sbatch", "echo 4740");
    const again = resubmitCommand(request({ slurmJobId: "4720", why: "node-failure" }), "bttest");
    expect(lookFor(again)).toMatchObject({ runId: "4740" });
    const args = (slurm.calls("sbatch").at(-1) ?? "").split("run.sh ")[1]?.split(" ");
    expect(await runOnNode("4740", args)).toBe(0);
  });

  it("runs once, whoever of its script and ten callers comes first", async () => {
    for (let round = 0; round < 15; round++) {
      for (const name of readdirSync(directory)) {
        if (name !== "run.sh") rmSync(join(directory, name), { recursive: true });
      }
      writeFileSync(join(directory, "submitted"), "4711\n");
      age(60, "submitted");
      const submits = slurm.calls("sbatch").length;
      const script = forgottenCommand(request(), "bttest");
      const env = { ...process.env, PATH: `${join(slurm.top, "bin")}:${process.env["PATH"] ?? ""}` };
      const callers = Array.from({ length: 10 }, () => {
        const caller = spawn("sh", ["-c", framed(script, newMark())], { env, stdio: "ignore" });
        return new Promise((resolve) => caller.on("exit", resolve));
      });
      await new Promise((resolve) => setTimeout(resolve, round * 4));
      await Promise.all([runOnNode("4711"), ...callers]);
      expect(runs() + slurm.calls("sbatch").length - submits).toBe(1);
    }
  });
});

describe("a job that Slurm does not list is left alone", () => {
  afterEach(() => expect(slurm.calls("sbatch")).toEqual([]));

  it("if its script has begun", async () => {
    await runOnNode("4711");
    expect(lookFor()).toEqual({ kind: "running", slurmState: "BEGUN" });
  });

  it("if the controller has not been started since", () => {
    slurmSays({ bootedAgo: 90 });
    expect(lookFor()).toEqual({ kind: "running", slurmState: "BOOT" });
  });

  it("if the controller would have dropped it by now, had it ended", () => {
    slurmSays({ keeps: 60 });
    expect(lookFor()).toEqual({ kind: "running", slurmState: "AGE" });
  });

  it("if somebody has asked for it to be cancelled, and cannot begin then", async () => {
    writeFileSync(join(directory, ".cancelled"), "{}");
    expect(lookFor()).toEqual({ kind: "running", slurmState: "CANCELLED" });
    expect(readFileSync(join(directory, ".cancelled"), "utf8")).toContain("accepted");
    expect(await runOnNode("4711")).toBe(121);
  });

  it("if the controller does not say when it was started", () => {
    slurm.answer("scontrol", "echo 'BOOT_TIME = 2026-11-22T15:00:00'");
    expect(lookFor()).toBeUndefined();
  });

  it("while another submits it again for another reason", () => {
    mkdirSync(join(directory, ".resubmit.4711"));
    expect(lookFor()).toEqual({ kind: "in-flight" });
  });

  it.each(["squeue", "scontrol"])("if %s gives no answer", (program) => {
    slurm.answer(program, "exit 1");
    expect(lookFor()).toBeUndefined();
  });
});

describe("of a caller that has died between its claim and Slurm's answer", () => {
  beforeEach(() => writeFileSync(join(directory, ".begun.0"), "4711\n"));

  it("the job is waited for, then found by its marker", () => {
    expect(lookFor()).toEqual({ kind: "in-flight" });
    age(200, "submitted");
    age(160, ".begun.0");
    expect(slurm.calls("sbatch")).toEqual([]);
    slurm.answer("squeue", `echo '4720|PENDING|mento:${jobId}|/tmp'`);
    expect(lookFor()).toMatchObject({ runId: "4720" });
    expect(slurm.calls("sbatch")).toEqual([]);
  });

  it("the job is found by its record, if it has begun", async () => {
    age(200, "submitted");
    age(160, ".begun.0");
    await runOnNode("4719", ["", "1"]);
    expect(lookFor()).toMatchObject({ runId: "4719" });
    expect(slurm.calls("sbatch")).toEqual([]);
  });

  it("the submit is replaced in its turn, if Slurm has none, however late", async () => {
    age(1000, "submitted");
    age(900, ".begun.0");
    expect(lookFor()).toMatchObject({ runId: "4720" });
    expect(await runOnNode("4719", ["", "1"])).toBe(121);
    expect(await runOnNode("4720", ["", "2"])).toBe(0);
  });
});
