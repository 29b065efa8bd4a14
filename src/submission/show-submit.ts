import { MentoError } from "../errors.ts";
import { quoteAll } from "../shells/quote.ts";
import type { JobPlan } from "../triggers/plan.ts";
import { jobScript } from "./job-script.ts";
import type { SubmitTarget } from "./method.ts";
import { notesOf, submitRequest } from "./sbatch.ts";
import { requestOf } from "./submit-answer.ts";

/** For a person: where a job would be submitted, how, and the script that would run. */
export function showSubmit(plan: JobPlan, target: SubmitTarget): string {
  const { allocation, shell, jobsDirectory } = target;
  const received = new Date();
  const at = `# on ${shell.host}, as ${shell.account}`;
  if (allocation instanceof MentoError) throw allocation;
  if (allocation === null) {
    return `${at}, outside Slurm\n${jobScript(plan, jobsDirectory, { launch: "process", request: requestOf(plan, received) })}`;
  }
  const { sbatchArguments, script } = submitRequest(plan, target, allocation, {
    received,
    dataCheck: undefined,
  });
  const notes = notesOf(plan, target).map((note) => `# ${note}\n`);
  return `${at}\n${notes.join("")}sbatch ${quoteAll(sbatchArguments)} <<'EOF'\n${script}EOF`;
}
