import { randomUUID } from "node:crypto";
import type { Allocation } from "../beamtime/reservation.ts";
import { MentoError } from "../errors.ts";
import {
  arrayCommand,
  arrayFolder,
  LONGEST_ARRAY_SECONDS,
  parseArrayAnswers,
  SBATCH_SAYS,
} from "../jobs/array.ts";
import { arrayCommentOf, type SubmitRequest } from "../jobs/directory.ts";
import type { SubmitAnswer } from "../jobs/submit-said.ts";
import { failureOf } from "../slurm/sbatch-refusals.ts";
import { carriedOver } from "./sbatch-script.ts";
import { quotedBytes } from "../shells/quote.ts";
import type { CommandEnd } from "../shells/shell.ts";
import type { JobPlan } from "../triggers/plan.ts";
import type { SubmitTarget, SubmitOptions, SubmittedJob } from "./method.ts";
import { sbatch, sbatchArguments, submitRequest, whyFailed, withdrawRefused } from "./sbatch.ts";
import { conclude, type Failed } from "./submit-answer.ts";

/**
 * The scripts of an array, in all and quoted: they are one command, and of those that are there already the requests are its answer,
 * which a shell takes up to 16 MiB.
 */
const MAX_SCRIPT_BYTES = 8 * 1024 * 1024;

/** One job of an array to be, and what its message says of the submit. */
export interface ArrayMember {
  plan: JobPlan;
  options: SubmitOptions;
}

/**
 * Submits jobs of one trigger as one Slurm job array, and answers for each as {@link sbatch} does: what keeps one from
 * being submitted does not keep the others. What an earlier call has begun is that job's own affair, and so is a job
 * that is alone. More than one call can have become several arrays.
 */
export async function submitArray(
  members: readonly ArrayMember[],
  target: SubmitTarget,
): Promise<PromiseSettledResult<SubmittedJob>[]> {
  const { allocation } = target;
  if (allocation === null || allocation instanceof MentoError) {
    return Promise.allSettled(members.map(({ plan, options }) => sbatch.submit(plan, target, options)));
  }
  const ends = [];
  for (const part of inParts(members, target, allocation)) {
    const rejected = (reason: unknown) => part.map(() => ({ status: "rejected", reason }) as const);
    ends.push(...(await submitPart(part, target, allocation).catch(rejected)));
  }
  return ends;
}

/** In their order, as many to a part as its scripts may have bytes. */
function inParts(
  members: readonly ArrayMember[],
  target: SubmitTarget,
  allocation: Allocation,
): ArrayMember[][] {
  const parts: ArrayMember[][] = [];
  let bytes = Infinity;
  for (const member of members) {
    const { received, dataCheck } = member.options;
    const { script } = submitRequest(member.plan, target, allocation, { received, dataCheck });
    const own = quotedBytes(script);
    bytes += own;
    if (bytes > MAX_SCRIPT_BYTES) {
      parts.push([]);
      bytes = own;
    }
    parts.at(-1)?.push(member);
  }
  return parts;
}

async function submitPart(
  members: readonly ArrayMember[],
  target: SubmitTarget,
  allocation: Allocation,
): Promise<PromiseSettledResult<SubmittedJob>[]> {
  const alone = ({ plan, options }: ArrayMember) => sbatch.submit(plan, target, options);
  const isOneJob = new Set(members.map(({ plan }) => plan.jobId)).size === 1;
  if (isOneJob) return Promise.allSettled(members.map(alone));
  const { end, answers } = await submitOnce(members, target, allocation);
  return Promise.allSettled(
    members.map((member) => {
      const { plan, options } = member;
      const answer = answers.get(plan.jobId);
      if (answer?.kind === "in-flight") return alone(member);
      const refusal = ({ code, stderr }: Failed) =>
        Promise.resolve(whyFailed(failureOf(code, stderr), code, plan, target));
      return conclude({ answer, end, plan, target, options, refusal });
    }),
  );
}

/** By the job's id. */
type Answers = Map<string, SubmitAnswer | undefined>;

/** A message that was published twice is one job. */
async function submitOnce(
  members: readonly ArrayMember[],
  target: SubmitTarget,
  allocation: Allocation,
): Promise<{ end: CommandEnd; answers: Answers }> {
  const { jobsDirectory, maxPending, shell, slurm, userScript } = target;
  const arrayId = randomUUID();
  const unique = [...new Map(members.map((member) => [member.plan.jobId, member])).values()];
  const jobs = unique.map(({ plan, options: { received, dataCheck } }): SubmitRequest =>
    submitRequest(plan, target, allocation, { received, dataCheck }, arrayId),
  );
  const trigger = unique[0]?.plan.trigger;
  const folder = arrayFolder(jobsDirectory, arrayId);
  const args = sbatchArguments({
    jobComment: arrayCommentOf(arrayId),
    directory: folder,
    // `%a` is the task's index, and what has this name a link to its job's directory.
    output: `${folder}/%a/job.log`,
    name: trigger?.name ?? "",
    priority: trigger?.priority ?? 0,
    ...{ slurm, allocation },
  });
  const command = arrayCommand(
    {
      ...{ arrayId, jobsDirectory, jobs, maxPending },
      limit: trigger?.array?.limit ?? null,
      directives: userScript === null ? [] : carriedOver(userScript, args).lines,
      sbatchArguments: args,
    },
    shell.account,
  );
  const call = await shell.run(command, { timeout: LONGEST_ARRAY_SECONDS * 1000 });
  const end = { ...call, stderr: call.stderr.split(`${SBATCH_SAYS}\n`).at(-1) ?? "" };
  const plans = unique.map(({ plan }) => plan);
  const said = parseArrayAnswers(end.stdout.toString("utf8"), plans);
  const answers: Answers = new Map();
  unique.forEach(({ plan }, at) => {
    const { answer, isNew } = said[at] ?? {};
    const isOurs = isNew === true && answer?.kind === "submitted";
    const request = { paths: plan.paths, allocation, array: arrayId };
    answers.set(plan.jobId, isOurs ? { ...answer, request } : answer);
  });
  const failed = plans.filter(({ jobId }) => answers.get(jobId)?.kind === "failed");
  const [answer] = failed.map(({ jobId }) => answers.get(jobId));
  if (answer?.kind === "failed") {
    await withdrawRefused(failureOf(answer.exitCode, end.stderr), failed, target, null);
  }
  return { end, answers };
}
