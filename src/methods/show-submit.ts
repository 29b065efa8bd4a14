import { MentoError } from "../errors.ts";
import { quoteAll } from "../shells/quote.ts";
import type { JobPlan } from "../triggers/plan.ts";
import { jobScript } from "./job-script.ts";
import type { Place } from "./method.ts";
import { submitRequest } from "./sbatch.ts";
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
  return `${at}\nsbatch ${quoteAll(sbatchArguments)} <<'EOF'\n${script}EOF`;
}
