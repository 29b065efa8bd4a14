import { spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { arrayCommand, parseArrayAnswers } from "../../src/jobs/array.ts";
import { recoverCommand, submitCommand } from "../../src/jobs/directory.ts";
import { parseSubmitAnswer } from "../../src/jobs/submit-said.ts";
import type { SubmitRequest } from "../../src/jobs/directory.ts";
import { parseRecords, readRecordsCommand } from "../../src/jobs/records.ts";
import { retentionCommand } from "../../src/jobs/retention.ts";
import { runScript } from "../../src/jobs/run-script.ts";
import { framed, newMark, readFramed } from "../../src/shells/script.ts";

const top = mkdtempSync(join(tmpdir(), "mento-array 'script' "));
afterAll(() => rmSync(top, { recursive: true }));
let jobsDirectory: string;
let count = 0;

/** What Slurm's programs say; each call of `sbatch` is a line of `calls`. */
beforeEach(() => {
  const folder = join(top, String(++count));
  jobsDirectory = join(folder, "jobs");
  mkdirSync(join(folder, "bin"), { recursive: true });
  mkdirSync(jobsDirectory);
  answer("sbatch", "echo 4711");
  answer("squeue", "");
  answer("sacct", "");
});

const inBin = (name: string) => join(top, String(count), "bin", name);

function answer(program: string, script: string): void {
  writeFileSync(
    inBin(program),
    `#!/bin/sh\n[ ${program} != sbatch ] || echo "$*" >> "\${0%/*}/calls"\n${script}\n`,
  );
  chmodSync(inBin(program), 0o755);
}

const calls = () =>
  existsSync(inBin("calls")) ? readFileSync(inBin("calls"), "utf8").trimEnd().split("\n") : [];

function shell(script: string) {
  const env = { ...process.env, PATH: `${inBin("")}:${process.env["PATH"] ?? ""}` };
  const mark = newMark();
  const { stdout, stderr } = spawnSync("sh", ["-s"], { input: framed(script, mark), env });
  const [out = "", err = ""] = [stdout, stderr].map((one) => readFramed(one, mark).output.toString("utf8"));
  return { stdout: out, stderr: err };
}

function job(jobId: string, more: Partial<SubmitRequest> = {}): SubmitRequest {
  const directory = join(jobsDirectory, jobId);
  return {
    ...{ jobsDirectory, jobId, program: null, log: null, data: null, maxPending: null, permits: null },
    sbatchArguments: ["--alone"],
    script: runScript({
      ...{ jobId, directory, spool: join(jobsDirectory, ".spool"), workdir: null, stdin: null },
      argv: ["/bin/sh", "-c", `echo I am ${jobId}; [ ${jobId} != bad ] || exit 7`],
      ...{ env: {}, parameters: {}, resultsDirectory: null, resultGlobs: ["**"], copyBack: null },
      ...{ launch: "slurm", directives: [], request: { id: jobId } },
    }),
    ...more,
  };
}

function submit(jobs: SubmitRequest[], arrayId = "a1", maxPending: number | null = null) {
  const more = { sbatchArguments: ["--parsable"], directives: ["#SBATCH --mem=1G"], limit: 10 };
  const end = shell(arrayCommand({ arrayId, jobsDirectory, jobs, maxPending, ...more }, "bttest"));
  const answers = parseArrayAnswers(
    end.stdout,
    jobs.map(({ data }) => ({ paths: data?.paths ?? [] })),
  );
  return { ...end, answers: answers.map((one) => one.answer) };
}

const submitted = (jobId: string) => readFileSync(join(jobsDirectory, jobId, "submitted"), "utf8");

/** Runs a task as Slurm does: its own copy of the dispatch script, the log behind the link. */
function runTask(index: number) {
  const folder = join(jobsDirectory, ".arrays", "a1");
  const env = { ...process.env, SLURM_ARRAY_JOB_ID: "4711", SLURM_ARRAY_TASK_ID: String(index) };
  const command = `exec sh '${inBin("copy")}' >> "$1" 2>&1`;
  writeFileSync(inBin("copy"), readFileSync(join(folder, "run.sh")));
  const more = { env: { ...env, SLURM_JOB_ID: String(9000 + index) } };
  return spawnSync(
    "sh",
    ["-c", command.replace(/'(.*)'/, '"$0"'), inBin("copy"), join(folder, String(index), "job.log")],
    more,
  );
}

/** As if everything in it had been done so long ago. */
function age(jobId: string, seconds: number): void {
  const then = Date.now() / 1000 - seconds;
  const directory = join(jobsDirectory, jobId);
  for (const name of readdirSync(directory)) utimesSync(join(directory, name), then, then);
  utimesSync(directory, then, then);
}

const recover = (jobId: string) => parseSubmitAnswer(shell(recoverCommand(job(jobId), "bttest")).stdout, []);

describe("an array's one remote call, in a real shell", () => {
  it("makes each job's directory, calls sbatch once, and each job has its task's id", () => {
    const { answers } = submit([job("one"), job("two"), job("bad")]);
    expect(answers).toMatchObject(
      [0, 1, 2].map((index) => ({ kind: "submitted", runId: `4711_${index}`, host: null })),
    );
    expect(calls()).toEqual([expect.stringMatching(/^--parsable --array=0-2%10 .*\.arrays\/a1\/run\.sh$/)]);
    expect(["one", "two", "bad"].map(submitted)).toEqual(["4711_0\n", "4711_1\n", "4711_2\n"]);
    // Asked again, each is found.
    expect(submit([job("two")], "a2").answers).toMatchObject([{ runId: "4711_1", request: { id: "two" } }]);
    expect(calls()).toHaveLength(1);
  });

  it("each task runs its own job, with its own log, records and exit code", () => {
    submit([job("one"), job("bad")]);
    expect([0, 1].map((index) => runTask(index).status)).toEqual([0, 7]);
    const { stdout } = spawnSync("sh", ["-c", readRecordsCommand(jobsDirectory, ["one", "bad"])]);
    const read = parseRecords(stdout);
    expect(read.get("one")?.records).toMatchObject({
      submitted: { runId: "4711_0" },
      ended: { record: { code: 0 } },
    });
    expect(read.get("bad")?.records).toMatchObject({
      submitted: { runId: "4711_1" },
      ended: { record: { code: 7 } },
    });
    expect(readFileSync(join(jobsDirectory, "bad", "job.log"), "utf8")).toBe("I am bad\n");
    const dispatch = readFileSync(join(jobsDirectory, ".arrays", "a1", "run.sh"), "utf8");
    expect(dispatch.split("\n")[1]).toBe("#SBATCH --mem=1G");
  });

  it("one whose data is not there, or that cannot be made, does not keep the others", () => {
    const root = jobsDirectory;
    const data = {
      root,
      paths: [join(root, "none.h5")],
      bytes: undefined,
      companions: false,
      seenBefore: undefined,
    };
    writeFileSync(join(jobsDirectory, "file"), "12345");
    const { answers } = submit([
      job("one"),
      job("late", { data: { ...data, isSettled: false } }),
      job("sized", { data: { ...data, paths: [join(root, "file")], bytes: [5], isSettled: false } }),
      job("file"),
      job("two"),
    ]);
    const [one, late, sized, file, two] = answers;
    expect([one, sized, two]).toMatchObject([0, 1, 2].map((index) => ({ runId: `4711_${index}` })));
    expect(late).toMatchObject({ kind: "missing", found: null });
    expect(file).toBeUndefined();
    expect(existsSync(join(jobsDirectory, "late"))).toBe(false);
    expect(calls()[0]).toContain("--array=0-2%10");
  });

  it("leaves out what another call has begun, or has submitted", () => {
    shell(submitCommand(job("alone"), "bttest"));
    mkdirSync(join(jobsDirectory, "begun"));
    const { answers } = submit([job("alone"), job("begun"), job("new")]);
    expect(answers).toMatchObject([{ runId: "4711" }, { kind: "in-flight" }, { runId: "4711_0" }]);
    const before = calls().length;
    expect(submit([job("alone"), job("begun")], "a2").answers).toMatchObject([
      { runId: "4711" },
      { kind: "in-flight" },
    ]);
    expect(calls()).toHaveLength(before);
    expect(readdirSync(join(jobsDirectory, ".arrays"))).toEqual(["a1"]);
  });

  it("makes nothing while as many jobs wait as may", () => {
    answer("squeue", "echo mento:x; echo mento:array:y");
    expect(submit([job("one"), job("two")], "a1", 2).answers).toEqual([{ kind: "full" }, { kind: "full" }]);
    expect(existsSync(join(jobsDirectory, "one"))).toBe(false);
    expect(submit([job("one"), job("two")], "a2", 3).answers).toMatchObject([
      { runId: "4711_0" },
      { runId: "4711_1" },
    ]);
  });

  it("of an sbatch that failed though Slurm has the array, the tasks are found", () => {
    answer("sbatch", "exit 1");
    answer("squeue", "echo '12|mento:other'; echo '4712_[0-1%10]|mento:array:a1'");
    expect(submit([job("one"), job("two")]).answers).toMatchObject([
      { kind: "submitted", runId: "4712_0" },
      { kind: "submitted", runId: "4712_1" },
    ]);
    expect(submitted("two")).toBe("4712_1\n");
  });

  it("an sbatch that failed is said of each job, whose directory says so too", () => {
    answer("sbatch", "echo 'sbatch: error: no' >&2; exit 3");
    const { answers, stderr } = submit([job("one"), job("two")]);
    const failed = { kind: "failed", exitCode: 3 };
    expect(answers).toEqual([failed, failed]);
    expect(stderr).toBe("mento-sbatch\nsbatch: error: no\n");
    expect(existsSync(join(jobsDirectory, "two", ".failed"))).toBe(true);
  });
});

describe("an array whose submit was cut off", () => {
  const killed = "kill -KILL $(ps -o ppid= $PPID)";

  it("after sbatch: each job is found by the array's marker in squeue", () => {
    answer("sbatch", `echo 4711; ${killed}`);
    submit([job("one"), job("two")]);
    expect(recover("two")).toEqual({ kind: "in-flight" });
    age("two", 200);
    answer("squeue", "echo '4713|mento:x'; echo '4711_[0-1%10]|mento:array:a1'");
    // The answer that came before the kill is whole or not; here it did not come.
    rmSync(join(jobsDirectory, "two", "submitted"), { force: true });
    expect(recover("two")).toMatchObject({ kind: "submitted", runId: "4711_1" });
  });

  it("and after the jobs have gone from squeue: by their own records, and by accounting", () => {
    answer("sbatch", killed);
    submit([job("one"), job("two")]);
    for (const id of ["one", "two"]) age(id, 200);
    runTask(0);
    age("one", 200);
    expect(recover("one")).toMatchObject({ kind: "submitted", runId: "4711_0" });
    answer("sacct", "echo '4711_0|mento:array:a1|/x'; echo '4711_1|mento:array:a1|/x'");
    expect(recover("two")).toMatchObject({ kind: "submitted", runId: "4711_1" });
  });

  it("before sbatch: after two looks each is submitted by itself, and the array's task, should it come, does nothing", () => {
    answer("sbatch", killed);
    submit([job("one"), job("two")]);
    answer("sbatch", "echo 4720");
    age("two", 200);
    expect(recover("two")).toEqual({ kind: "in-flight" });
    utimesSync(join(jobsDirectory, "two", ".looked"), Date.now() / 1000 - 11, Date.now() / 1000 - 11);
    expect(recover("two")).toEqual(expect.objectContaining({ kind: "submitted", runId: "4720" }));
    expect(calls().at(-1)).toMatch(/^--alone/);
    expect(runTask(1).status).toBe(79);
    expect(readdirSync(join(jobsDirectory, "two")).filter((name) => name.startsWith("started"))).toEqual([]);
  });
});

describe("a job of an array that was submitted by itself meanwhile", () => {
  const TAKEN = 'rm -f "${0%/*}/../jobs/two/.array"; echo 4720 > "${0%/*}/../jobs/two/submitted"';

  it("keeps its own answer, though the array's call goes on", () => {
    answer("sbatch", `${TAKEN}; echo 4711`);
    expect(submit([job("one"), job("two")]).answers).toMatchObject([
      { kind: "submitted", runId: "4711_0" },
      { kind: "in-flight" },
    ]);
    expect(submitted("two")).toBe("4720\n");
    expect(runTask(1).status).toBe(79);
    expect(runTask(0).status).toBe(0);
  });

  it("is not said to have failed with the array", () => {
    answer("sbatch", `${TAKEN}; exit 1`);
    expect(submit([job("one"), job("two")]).answers).toMatchObject([
      { kind: "failed" },
      { kind: "in-flight" },
    ]);
    expect(existsSync(join(jobsDirectory, "two", ".failed"))).toBe(false);
  });

  it("is not taken for the array's task by its own recovery", () => {
    answer("sbatch", "kill -KILL $(ps -o ppid= $PPID)");
    submit([job("one"), job("two")]);
    age("two", 200);
    expect(recover("two")).toEqual({ kind: "in-flight" });
    utimesSync(join(jobsDirectory, "two", ".looked"), Date.now() / 1000 - 11, Date.now() / 1000 - 11);
    answer("sbatch", 'echo >> "${0%/*}/tried"; exit 1');
    answer("squeue", "[ ! -e \"${0%/*}/tried\" ] || echo '4711_[0-1%10]|mento:array:a1'");
    expect(recover("two")).toMatchObject({ kind: "failed" });
  });
});

it("an array that is not ready in time is not submitted, however late that shows", () => {
  answer("touch", `: > "\${0%/*}/touched"; PATH=\${PATH#*:}; exec touch "$@"`);
  answer(
    "date",
    `at=$(PATH=\${PATH#*:}; date +%s); [ ! -e "\${0%/*}/touched" ] || at=$((at + 61)); echo $at`,
  );
  submit([job("one"), job("two")]);
  expect(calls()).toEqual([]);
  expect(existsSync(join(jobsDirectory, "two", ".failed"))).toBe(true);
});

it("a task whose directory cannot be read for a moment runs all the same", () => {
  submit([job("one"), job("two")]);
  const file = join(jobsDirectory, "one", ".array");
  renameSync(file, `${file}.away`);
  spawn("sh", ["-c", 'sleep 0.5; mv "$1.away" "$1"', "sh", file]);
  expect(runTask(0).status).toBe(0);
  expect(readFileSync(join(jobsDirectory, "one", "job.log"), "utf8")).toContain("I am one\n");
});

it("directories of an array that Slurm still has are not removed, others are", () => {
  submit([job("one"), job("two")]);
  for (const id of ["one", "two", ".arrays/a1"]) {
    const then = Date.now() / 1000 - 3 * 24 * 3600;
    utimesSync(join(jobsDirectory, id), then, then);
  }
  answer("squeue", "echo mento:array:a1");
  expect(shell(retentionCommand(jobsDirectory, { account: "bttest" }, 1)).stdout).toBe("mento:0\n");
  expect(existsSync(join(jobsDirectory, ".arrays", "a1", "0", "run.sh"))).toBe(true);
  answer("squeue", "echo mento:array:b2");
  expect(shell(retentionCommand(jobsDirectory, { account: "bttest" }, 1)).stdout).toBe("mento:2\n");
  expect(readdirSync(join(jobsDirectory, ".arrays"))).toEqual([]);
});
