import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { recoverCommand, submitCommand, type SubmitRequest } from "../../src/jobs/directory.ts";
import { runScript } from "../../src/jobs/run-script.ts";
import { parseSubmitAnswer } from "../../src/jobs/submit-said.ts";
import { FakePrograms } from "../support/fake-programs.ts";

let slurm: FakePrograms;
let directory: string;
let job: SubmitRequest;
const jobId = "k3f7";

beforeEach(() => {
  slurm = new FakePrograms();
  directory = join(slurm.jobsDirectory, jobId);
  const { jobsDirectory } = slurm;
  const script = runScript({
    ...{ jobId, directory, spool: join(jobsDirectory, ".spool"), workdir: null, stdin: null },
    ...{ argv: ["/bin/sh", "-c", "echo ran >> runs"], env: {}, parameters: {}, resultsDirectory: null },
    ...{ resultGlobs: ["**"], copyBack: null, launch: "slurm", directives: [], request: {} },
  });
  job = {
    ...{ jobsDirectory, jobId, data: null, program: null, log: null, maxPending: null, permits: null },
    ...{ sbatchArguments: [], script },
  };
});
afterEach(() => slurm.remove());

const ask = (script: string) => parseSubmitAnswer(slurm.run(script).stdout, []);
const submit = () => ask(submitCommand(job, "bttest"));
const recover = () => ask(recoverCommand(job, "bttest"));

/** As if everything in the directory had been done so long before. */
function age(seconds: number): void {
  const before = (path: string) => {
    const then = Date.now() / 1000 - seconds;
    utimesSync(path, then, then);
  };
  for (const name of readdirSync(directory)) before(join(directory, name));
  before(directory);
}

/** The two looks, ten seconds apart. */
function recoverTwice(between = 11) {
  recover();
  age(between);
  return recover();
}

/** As Slurm would on a node, with the script that the n-th `sbatch` was given. */
function runOnNode(slurmJobId: string, submitted: number): number | null {
  const env = { ...process.env, SLURM_JOB_ID: slurmJobId };
  const input = readFileSync(join(slurm.top, `script.${submitted}`));
  return spawnSync("sh", ["-s"], { env, input }).status;
}

/** An `sbatch` that keeps the script, as Slurm does. */
function sbatchDoes(script: string): void {
  const keep = `for last in "$@"; do :; done; n=0; while [ -e "$jobs/../script.$n" ]; do n=$((n + 1)); done; cp "$last" "$jobs/../script.$n"`;
  slurm.answer("sbatch", `${keep}\n${script}`);
}

const runs = () => {
  const file = join(directory, "runs");
  return existsSync(file) ? readFileSync(file, "utf8").trim().split("\n").length : 0;
};

describe("sbatch said itself that it has failed: the job is submitted again after two looks", () => {
  beforeEach(() => {
    const away = "Batch job submission failed: Unable to contact slurm controller (connect failure)";
    sbatchDoes(`echo 'sbatch: error: ${away}' >&2; exit 1`);
    expect(submit()).toEqual({ kind: "failed", exitCode: 1 });
    sbatchDoes("echo 4720");
  });

  it("and what the first one submitted all the same, long after, runs nothing", () => {
    expect(recoverTwice()).toMatchObject({ kind: "submitted", runId: "4720" });
    expect(runOnNode("4719", 0)).toBe(121);
    expect(runOnNode("4720", 1)).toBe(0);
    expect(runs()).toBe(1);
  });

  it("also of one that died without a word", () => {
    rmSync(directory, { recursive: true });
    sbatchDoes("exit 1");
    submit();
    sbatchDoes("echo 4720");
    expect(recoverTwice()).toMatchObject({ kind: "submitted", runId: "4720" });
  });

  it("but not if its script has begun meanwhile", () => {
    recover();
    age(11);
    runOnNode("4719", 0);
    expect(recover()).toMatchObject({ kind: "submitted", runId: "4719" });
    expect(slurm.calls("sbatch")).toHaveLength(1);
    expect(runs()).toBe(1);
  });

  it("and again, if the second fails too", () => {
    sbatchDoes("echo 'sbatch: fatal: nobody is there' >&2; exit 1");
    expect(recoverTwice()).toEqual({ kind: "failed", exitCode: 1 });
    age(20);
    sbatchDoes("echo 4730");
    expect(recoverTwice(15)).toMatchObject({ kind: "submitted", runId: "4730" });
    expect([runOnNode("4719", 0), runOnNode("4720", 1), runOnNode("4730", 2)]).toEqual([121, 121, 0]);
    expect(runs()).toBe(1);
  });

  it("and a person who submits the script by hand has it run", () => {
    recoverTwice();
    runOnNode("4720", 1);
    const env = { ...process.env, SLURM_JOB_ID: "5000" };
    expect(spawnSync("sh", [join(directory, "run.sh")], { env }).status).toBe(0);
    expect(runs()).toBe(2);
  });
});

it.each([
  ["a timeout", "exit 124"],
  ["a signal", "kill -9 $$"],
  ["words of nobody's", "echo 'sbatch: error: the site is closed' >&2; exit 1"],
  ["words after a refusal", "echo 'sbatch: fatal: no\nsbatch: will try later' >&2; exit 1"],
  ["an id", "echo 4719; echo 'sbatch: fatal: no' >&2; exit 1"],
  ["a wrapper's words", "echo 'we will see to it'; exit 1"],
  ["several ids", "echo 1; echo 2"],
])("sbatch ended with %s: what it left behind may submit yet, and is waited for", (_, script) => {
  sbatchDoes(script);
  expect(submit()).toMatchObject({ kind: "failed" });
  sbatchDoes("echo 4720");
  expect(recoverTwice()).toEqual({ kind: "in-flight" });
  expect(slurm.calls("sbatch")).toHaveLength(1);
  age(160);
  expect(recoverTwice()).toMatchObject({ kind: "submitted", runId: "4720" });
});

it.each(["Welcome; 17 users", "17\nSubmitted batch job 18", "17\nsee you"])(
  "of an sbatch that prints %j the job is found by its marker, at once",
  (printed) => {
    sbatchDoes(`echo '${printed}'`);
    slurm.answer("squeue", `echo '17|mento:other'; echo '18|mento:${jobId}'`);
    expect(submit()).toMatchObject({ kind: "submitted", runId: "18" });
  },
);
