import { Deferred, MentoError, Unavailable } from "../errors.ts";
import { dataCheck } from "../jobs/data-check.ts";
import { directoryOf, functions, markerOf } from "../jobs/directory.ts";
import { parseSubmitAnswer } from "../jobs/submit-said.ts";
import { slurmSeconds } from "../jobs/slurm-time.ts";
import { quote } from "../shells/quote.ts";
import type { JobPlan } from "../triggers/plan.ts";
import type { RestJob } from "../slurm-rest/versions.ts";
import { jobScript } from "./job-script.ts";
import type { Method, Place, SubmitOptions } from "./method.ts";
import { whyRefused } from "./sbatch.ts";
import { conclude, dataOf, requestOf } from "./submit-answer.ts";

/**
 * Slurm's REST API alone, without a shell where the job runs: the job is looked up by its marker before it is submitted,
 * and if two calls did so at the same instant, of their two jobs in Slurm one runs the program (jobs/run-script.ts). The
 * job's folder is made by its script; it is read from here where the core file system can be.
 */
export const slurmRest: Method = {
  async submit(plan, place, options) {
    const { rest, slot, shell } = place;
    if (rest === null) throw new Error("the configuration has no slurmRest");
    if (slot instanceof MentoError) throw slot;
    if (slot === null) throw new Error("a job of Slurm needs a slot");
    const submitted = (slurmJobId: string) => ({
      ...{ slurmJobId, process: null, arrayId: null, slot, name: plan.trigger.name },
      submittedAt: options.now.toISOString(),
      directory: directoryOf(place.jobsDirectory, plan.jobId),
    });
    try {
      const end = await shell.run(lookHere(plan, place));
      const answer = parseSubmitAnswer(end.stdout.toString("utf8"), plan.paths);
      const refusal = () => Promise.resolve(new Error("nothing was submitted"));
      if (answer !== undefined && answer.kind !== "none" && answer.kind !== "in-flight") {
        return await conclude({ answer, end, plan, place, options, refusal });
      }
      const known = (await rest.list()).find(({ comment }) => comment === markerOf(plan.jobId));
      if (known !== undefined) return submitted(known.id);
      const outcome = await rest.submit(restJob(plan, place, options));
      if (outcome.kind === "submitted") return submitted(outcome.slurmJobId);
      const said = outcome.kind === "refused" ? outcome.error : outcome.why;
      if (outcome.kind === "refused") throw whyRefused(said, plan);
      throw notSure(said);
    } catch (error) {
      // Over this way, trouble says nothing of the session's nodes.
      throw error instanceof Unavailable ? notSure(error.message, error) : error;
    }
  },
};

/** A job that has written into its folder is known; data can be looked at, too, if the core file system is here. */
function lookHere(plan: JobPlan, place: Place): string {
  const data = dataOf(plan, place);
  const check =
    data === null
      ? ""
      : `if [ -r ${quote(data.root)} ] && [ -x ${quote(data.root)} ]; then
:
${dataCheck({ ...data, isSettled: true })}
fi`;
  return `${functions(place.jobsDirectory, plan.jobId)}
answered
${check}
say none`;
}

function restJob(plan: JobPlan, place: Place, { now }: SubmitOptions): RestJob {
  const { slot, slurm, corePath, jobsDirectory } = place;
  if (slot === null || slot instanceof MentoError) throw new Error("a job of Slurm needs a slot");
  const { partition, reservation, time } = slot;
  const { nodes, constraint, cpusPerTask, memory } = slurm;
  const seconds = slurmSeconds(time);
  return {
    script: jobScript(plan, jobsDirectory, { launch: "rest", request: { ...requestOf(plan, now), slot } }),
    name: plan.trigger.name,
    comment: markerOf(plan.jobId),
    directory: corePath ?? "/",
    // The folder is not there yet: the script goes on in its log.
    standardOutput: "/dev/null",
    environment: { PATH: "/usr/local/bin:/usr/bin:/bin", LANG: "C.UTF-8" },
    timeLimitMinutes: seconds === undefined ? null : Math.ceil(seconds / 60),
    memoryMb: memory === undefined ? null : megabytes(memory),
    ...{ partition, reservation, nodes, constraint, cpusPerTask },
  };
}

/** sbatch's `--mem`: megabytes, unless K, G or T follows. */
function megabytes(memory: string): number {
  const power = ["K", "M", "G", "T"].indexOf(memory.at(-1) ?? "");
  return Math.ceil(Number.parseInt(memory, 10) * 1024 ** (power < 0 ? 0 : power - 1));
}

function notSure(said: string, cause?: unknown): Deferred {
  return new Deferred({
    code: "slurm-unavailable",
    message: `Slurm's REST API did not take the job: ${said}`,
    hint: "Mento looks for the job, and tries again.",
    giveUpAfterSeconds: 24 * 3600,
    cause,
  });
}
