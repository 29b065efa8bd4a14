import { afterAll, beforeAll, expect, it } from "vitest";
import { cancelInSlurmCommand, cancelQueryCommand } from "../../src/jobs/cancel.ts";
import { adoptCommand, submitCommand } from "../../src/jobs/directory.ts";
import { SLURM_NOW_COMMAND } from "../../src/slurm/slurm-now.ts";
import { cancelHeldCommand, exitCommand, squeueCommand } from "../../src/slurm/squeue.ts";
import { quote } from "../../src/shells/quote.ts";
import { FakePrograms } from "../support/fake-programs.ts";

const programs = new FakePrograms();
const { jobsDirectory } = programs;
const noted = `${jobsDirectory}/asked`;
const job = { jobsDirectory, jobId: "k3f7" };
const jobs = { jobsDirectory, jobIds: ["k3f7"], account: "bttest" };

beforeAll(() => {
  // What `timeout` would end, it marks.
  programs.answer(
    "timeout",
    `while case $1 in -*) shift ;; [0-9]*) ;; *) false ;; esac; do shift; done; IS_LIMITED=yes exec "$@"`,
  );
  for (const program of ["squeue", "scontrol", "sinfo", "sacct", "scancel", "sbatch"]) {
    programs.answer(program, `echo "${program} \${IS_LIMITED-without}" >> "$jobs/asked"; exit 0`);
  }
});
afterAll(() => programs.remove());

const submit = submitCommand(
  {
    ...{ ...job, data: null, program: null, log: null, maxPending: 5, permits: null },
    ...{ sbatchArguments: [], script: "#!/bin/sh\n" },
  },
  "bttest",
);

it.each([
  ["how reservations and nodes stand", SLURM_NOW_COMMAND, ["squeue", "scontrol", "scontrol", "sinfo"]],
  ["how jobs stand", squeueCommand("bttest"), ["squeue"]],
  ["how a job has ended", exitCommand("1", "/none"), ["scontrol"]],
  ["to take a job, which it may have or not", submit, ["squeue", "sbatch", "squeue"]],
  ["for a job whose submit was cut off", adoptCommand(job, "bttest"), ["squeue", "sacct"]],
  ["to cancel a held job", cancelHeldCommand("1_2", "mento:k3f7"), ["scontrol", "scancel", "squeue"]],
  ["how jobs that are to be cancelled stand", cancelQueryCommand(jobs), ["squeue"]],
  [
    "to cancel tasks of an array",
    cancelInSlurmCommand(jobs, new Map([["k3f7", ["1_2"]]]), { who: "a", reason: null, at: "" }),
    ["scontrol", "scancel", "squeue"],
  ],
])("Slurm is asked %s within a limit of time", (_, script, asked) => {
  const { stdout } = programs.run(`: > ${quote(noted)}\n(\n${script}\n)\ncat ${quote(noted)}`);
  const limited = stdout.split("\n").filter((line) => / (yes|without)$/.test(line));
  expect(limited).toEqual(asked.map((program) => `${program} yes`));
});
