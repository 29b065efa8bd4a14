import { MentoError } from "../errors.ts";
import { quoteAll } from "../shells/quote.ts";
import type { JobPlan } from "../triggers/plan.ts";
import { jobScript } from "./job-script.ts";
import type { Place } from "./method.ts";
import { notesOf, submitRequest } from "./sbatch.ts";
import { requestOf } from "./submit-answer.ts";

/** For a person: where a job would be submitted, how, and the script that would run. */
export function showSubmit(plan: JobPlan, place: Place): string {
  const { slot, shell, jobsDirectory } = place;
  const now = new Date();
  const at = `# on ${shell.host}, as ${shell.account}`;
  if (slot instanceof MentoError) throw slot;
  if (slot === null) {
    return `${at}, outside Slurm\n${jobScript(plan, jobsDirectory, { launch: "process", request: requestOf(plan, now) })}`;
  }
  const { sbatchArguments, script } = submitRequest(plan, place, slot, { now });
  const notes = notesOf(plan, place).map((note) => `# ${note}\n`);
  return `${at}\n${notes.join("")}sbatch ${quoteAll(sbatchArguments)} <<'EOF'\n${script}EOF`;
}
