import { findCommand } from "../jobs/directory.ts";
import { parseSubmitAnswer } from "../jobs/submit-said.ts";
import type { JobPlan } from "../triggers/plan.ts";
import type { SubmitTarget, SubmitOptions, SubmittedJob } from "./method.ts";
import { conclude, dataOf } from "./submit-answer.ts";

/** Looks into the job directory, and at the data; see {@link Method.find}. A job being submitted counts as none. */
export async function find(
  plan: JobPlan,
  target: SubmitTarget,
  options: SubmitOptions,
): Promise<SubmittedJob | null> {
  const data = dataOf(plan, target, options.dataCheck);
  // Whether there is a job already is seen again when it is submitted.
  if (data === null) return null;
  const { jobsDirectory, shell } = target;
  const end = await shell.run(findCommand({ jobsDirectory, jobId: plan.jobId }, data));
  const answer = parseSubmitAnswer(end.stdout.toString("utf8"), plan.paths);
  if (answer?.kind === "none" || answer?.kind === "in-flight") return null;
  const refusal = () => Promise.resolve(new Error("nothing was submitted"));
  return conclude({ answer, end, plan, target, options, refusal });
}
