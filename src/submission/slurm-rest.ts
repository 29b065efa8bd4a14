import type { Allocation } from "../beamtime/reservation.ts";
import { Deferred, MentoError, Unavailable } from "../errors.ts";
import { dataCheck } from "../jobs/data-check.ts";
import { directoryOf, functions, jobCommentOf } from "../jobs/directory.ts";
import { runnerOf } from "../jobs/not-run.ts";
import { parseSubmitAnswer } from "../jobs/submit-said.ts";
import { countPending, tooManyPending } from "../slurm/slurm-now.ts";
import { slurmSeconds } from "../slurm/slurm-time.ts";
import { quote } from "../shells/quote.ts";
import type { JobPlan } from "../triggers/plan.ts";
import type { SlurmRest } from "../slurm/rest/slurm-rest.ts";
import type { RestJob } from "../slurm/rest/versions.ts";
import { jobScript } from "./job-script.ts";
import type { Method, SubmitTarget, SubmitOptions, SubmittedJob } from "./method.ts";
import { niceOf, whyRefused } from "./sbatch.ts";
import { conclude, dataOf, requestOf } from "./submit-answer.ts";

/**
 * Slurm's REST API alone, without a shell where the job runs: the job is looked up by its comment before it is submitted,
 * and if two calls did so at the same instant, of their two jobs in Slurm one runs the program (jobs/run-script.ts). The
 * job's folder is made by its script; it is read from here where the core file system can be.
 */
export const slurmRest: Method = {
  async submit(plan, target, options) {
    const { rest, allocation, shell, maxPending } = target;
    if (rest === null) throw new Error("the configuration has no slurmRest");
    if (allocation === null) throw new Error("a job of Slurm needs a slot");
    const submittedAt = new Date().toISOString();
    const submitted = (slurmJobId: string, at: SubmittedJob["allocation"]) => ({
      ...{ slurmJobId, process: null, arrayId: null, allocation: at, name: plan.trigger.name },
      ...{ submittedAt, receivedAt: options.received.toISOString(), endedAt: null },
      directory: directoryOf(target.jobsDirectory, plan.jobId),
    });
    try {
      const end = await shell.run(searchHere(plan, target));
      const answer = parseSubmitAnswer(end.stdout.toString("utf8"), plan.paths);
      const refusal = () => Promise.resolve(new Error("nothing was submitted"));
      if (answer !== undefined && answer.kind !== "none" && answer.kind !== "in-flight") {
        return await conclude({ answer, end, plan, target, options, refusal });
      }
      const { jobs, isWhole } = await rest.list();
      const known = runnerOf(plan.jobId, jobs);
      if (known !== undefined) {
        const { id, reservation, partition } = known;
        await keepCancelled(id, plan, target, rest);
        return submitted(id, { reservation: reservation || null, partition: partition || null });
      }
      if (!isWhole) throw notSure("it lists a job that cannot be read, which may be this one.");
      if (allocation instanceof MentoError) throw allocation;
      if (maxPending !== null && countPending(jobs) >= maxPending) {
        throw tooManyPending(await rest.account(), maxPending);
      }
      const outcome = await rest.submit(restJob(plan, target, allocation, options, submittedAt));
      if (outcome.kind === "submitted") {
        await keepCancelled(outcome.slurmJobId, plan, target, rest);
        return submitted(outcome.slurmJobId, allocation);
      }
      const said = outcome.kind === "refused" ? outcome.error : outcome.why;
      if (outcome.kind === "refused") throw whyRefused(said, plan);
      throw notSure(said);
    } catch (error) {
      throw error instanceof Unavailable ? overRest(error) : error;
    }
  },
};

/** Trouble of this one way says nothing of the session's nodes: its other messages pass. */
export function overRest(failure: Unavailable): Deferred {
  const { code, message, hint } = failure;
  const wait = code === "too-many-pending" ? FULL : { giveUpAfterSeconds: UNSURE_AT_MOST_SECONDS };
  return new Deferred({ code, message, hint, ...wait, cause: failure });
}

/** Slurm works, and each job that starts makes room. */
const FULL = { giveUpAfterSeconds: Infinity, waitAtMostSeconds: 5 };
const UNSURE_AT_MOST_SECONDS = 24 * 3600;

/** A job that has written into its folder is known; data can be looked at, too, if the core file system is here. */
function searchHere(plan: JobPlan, target: SubmitTarget): string {
  const data = target.allocation instanceof MentoError ? null : dataOf(plan, target, undefined);
  const check =
    data === null
      ? ""
      : `if [ -r ${quote(data.root)} ] && [ -x ${quote(data.root)} ]; then
:
${dataCheck({ ...data, isSettled: true })}
fi`;
  return `${functions(target.jobsDirectory, plan.jobId)}
answered
${check}
say none`;
}

/** A job that was to be cancelled before Slurm had it, or when it had another of the same comment. */
async function keepCancelled(
  slurmJobId: string,
  { jobId }: JobPlan,
  { shell, jobsDirectory, cancelRequests = jobsDirectory }: SubmitTarget,
  rest: SlurmRest,
): Promise<void> {
  const end = await shell.run(
    `[ ! -f ${quote(directoryOf(cancelRequests, jobId))}/.cancelled ] || echo cancelled`,
  );
  if (end.stdout.toString("utf8").trim() === "cancelled") await rest.cancel(slurmJobId);
}

function restJob(
  plan: JobPlan,
  target: SubmitTarget,
  allocation: Allocation,
  { received }: SubmitOptions,
  submittedAt: string,
): RestJob {
  const { slurm, corePath, jobsDirectory } = target;
  const { partition, reservation, time } = allocation;
  const { nodes, constraint, cpusPerTask, memory, tasks, gres, account, qos, dependency } = slurm;
  const seconds = slurmSeconds(time);
  return {
    script: jobScript(plan, jobsDirectory, {
      launch: "rest",
      request: { ...requestOf(plan, received), submittedAt, allocation },
    }),
    name: plan.trigger.name,
    comment: jobCommentOf(plan.jobId),
    directory: corePath ?? "/",
    // The folder is not there yet: the script goes on in its log.
    standardOutput: "/dev/null",
    environment: { PATH: "/usr/local/bin:/usr/bin:/bin", LANG: "C.UTF-8" },
    timeLimitMinutes: seconds === undefined ? null : Math.ceil(seconds / 60),
    memoryMb: memory === undefined ? null : megabytes(memory),
    ...{ partition, reservation, nodes, constraint, cpusPerTask, tasks, gres, account, qos, dependency },
    exclusive: slurm.exclusive,
    nice: niceOf(plan.trigger.priority),
  };
}

/** sbatch's `--mem`: megabytes, unless K, G or T follows. */
function megabytes(memory: string): number {
  const power = ["K", "M", "G", "T"].indexOf(memory.at(-1) ?? "");
  return Math.ceil(Number.parseInt(memory, 10) * 1024 ** (power < 0 ? 0 : power - 1));
}

function notSure(said: string): Deferred {
  return new Deferred({
    code: "slurm-unavailable",
    message: `Slurm's REST API did not take the job: ${said}`,
    hint: "Mento looks for the job, and tries again.",
    giveUpAfterSeconds: UNSURE_AT_MOST_SECONDS,
  });
}
