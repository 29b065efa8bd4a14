import type { Allocation } from "../beamtime/reservation.ts";
import { Deferred, MentoError, Rejected, Unavailable } from "../errors.ts";
import {
  adoptCommand,
  directoryOf,
  findCommand,
  jobCommentOf,
  recoverCommand,
  submitCommand,
  withdrawCommand,
  LONGEST_SUBMIT_SECONDS,
  type SubmitRequest,
} from "../jobs/directory.ts";
import { failureOf, meaningOfText, type Refusal, type SbatchFailure } from "../slurm/sbatch-refusals.ts";
import { carriedOver } from "./sbatch-script.ts";
import type { Permits } from "../jobs/permits.ts";
import { parseSubmitAnswer } from "../jobs/submit-said.ts";
import { cut } from "../text/cut.ts";
import type { JobPlan } from "../triggers/plan.ts";
import type { TriggerSlurm } from "../triggers/trigger-config.ts";
import { jobScript } from "./job-script.ts";
import { find } from "./find.ts";
import type { Method, SubmitTarget, SubmitOptions, SubmittedJob } from "./method.ts";
import { conclude, dataOf, LONGEST_NOTE, requestOf, type Failed } from "./submit-answer.ts";
import { dataHere } from "./data-here.ts";

/** `sbatch` on a host that has it; which host that is, the shell knows. */
export const sbatch: Method = {
  async submit(plan, target, options) {
    const { jobsDirectory, shell, allocation } = target;
    const call = async (command: string) => {
      const end = await shell.run(command, { timeout: LONGEST_SUBMIT_SECONDS * 1000 });
      return { end, answer: parseSubmitAnswer(end.stdout.toString("utf8"), plan.paths) };
    };
    if (allocation === null) throw new Error("a job of Slurm needs a slot");
    if (allocation instanceof MentoError) {
      const job = { jobsDirectory, jobId: plan.jobId };
      let { end, answer } = await call(findCommand(job));
      if (answer?.kind === "in-flight") ({ end, answer } = await call(adoptCommand(job, shell.account)));
      if (answer?.kind === "none") throw allocation;
      return conclude({ answer, end, plan, target, options, refusal });
    }
    const request = submitRequest(plan, target, allocation, options);
    let { end, answer } = await call(submitCommand(request, shell.account));
    if (answer?.kind === "in-flight") ({ end, answer } = await call(recoverCommand(request, shell.account)));
    return conclude({ answer, end, plan, target, options, refusal });
  },
  find,
};

/** With `arrayId`: for the job as a task of that array. */
export function submitRequest(
  plan: JobPlan,
  target: SubmitTarget,
  allocation: Allocation,
  { permits = null, received, dataCheck }: Pick<SubmitOptions, "permits" | "received" | "dataCheck">,
  arrayId?: string,
): SubmitRequest {
  const { jobsDirectory, maxPending, userScript, slurm } = target;
  const { trigger, jobId } = plan;
  const directory = directoryOf(jobsDirectory, jobId);
  const common = { jobComment: jobCommentOf(jobId), directory, output: `${directory}/job.log` };
  const args = sbatchArguments({ ...common, ...trigger, slurm, allocation });
  return {
    jobsDirectory,
    jobId,
    maxPending,
    permits,
    program: userScript?.path ?? null,
    log: plan.logFile,
    data: dataOf(plan, target, dataCheck, permits !== null),
    sbatchArguments: args,
    script: jobScript(plan, jobsDirectory, {
      launch: "slurm",
      request: { ...requestOf(plan, received), allocation, ...(arrayId !== undefined && { array: arrayId }) },
      dataHere: dataHere(plan, target),
      ...(userScript !== null && {
        argv: [`${directory}/program`, ...plan.argv.slice(1)],
        directives: carriedOver(userScript, args).lines,
      }),
    }),
  };
}

const MOST_NOTES = 10;

/**
 * For a person: which directives of the user's own script are left out, and which reservations were not taken, and why.
 *
 * @param job if it was submitted: of one that an earlier call has submitted the notes are the same again
 */
export function notesOf(plan: JobPlan, target: SubmitTarget, job?: SubmittedJob): string[] {
  const { allocation } = target;
  const taken = job === undefined && !(allocation instanceof MentoError) ? allocation : job?.allocation;
  const passedOver = (taken?.passedOver ?? []).map((reason) => `reservation passed over: ${reason}`);
  return [...directivesLeftOut(plan, target), ...passedOver].map((note) => cut(note, LONGEST_NOTE));
}

function directivesLeftOut({ trigger }: JobPlan, { userScript, slurm, allocation }: SubmitTarget): string[] {
  if (userScript === null || allocation === null || allocation instanceof MentoError) return [];
  const nowhere = { jobComment: "", directory: "", output: "" };
  const { notes } = carriedOver(userScript, sbatchArguments({ ...nowhere, ...trigger, slurm, allocation }));
  const more = notes.length > MOST_NOTES ? [`and ${notes.length - MOST_NOTES} more`] : [];
  return [...notes.slice(0, MOST_NOTES), ...more];
}

async function refusal(
  { code, stderr }: Failed,
  plan: JobPlan,
  target: SubmitTarget,
  { permits = null }: SubmitOptions,
): Promise<Error> {
  const failure = failureOf(code, stderr);
  await withdrawRefused(failure, [plan], target, permits);
  return whyFailed(failure, code, plan, target);
}

/** Removes the directories of jobs that Slurm has refused; of no others. */
export async function withdrawRefused(
  { meaning }: SbatchFailure,
  plans: readonly JobPlan[],
  { shell, jobsDirectory }: SubmitTarget,
  permits: Permits | null,
): Promise<void> {
  if (meaning === undefined || meaning === "nobody") return;
  await shell.run(plans.map(({ jobId }) => withdrawCommand(jobsDirectory, jobId, permits)).join("\n"));
}

/** What follows from what `sbatch` has said. */
export function whyFailed(
  { meaning, said }: SbatchFailure,
  code: number,
  plan: JobPlan,
  target: SubmitTarget,
): Error {
  const { host } = target.shell;
  const words = said || "it said nothing";
  if (meaning === "nobody") {
    return new Unavailable({
      code: "slurm-unavailable",
      message: `Slurm's controller did not answer sbatch on ${host}: ${words}.`,
      hint: "Mento tries again, and looks first whether the job was created all the same.",
    });
  }
  if (meaning !== undefined) return refused(meaning, words, plan, target.userScript?.path);
  const how =
    code === 0 ? "ended well, but printed no job id, or more than one" : `ended with exit code ${code}`;
  return new Deferred({
    code: "submit-not-now",
    message: `Whether Slurm has the job of trigger ${plan.trigger.name} is not known: sbatch on ${host} ${how} (${words}).`,
    hint: "Mento looks for the job, and submits it again only if Slurm does not have it.",
    giveUpAfterSeconds: UNCLEAR_AT_MOST_SECONDS,
  });
}

const UNCLEAR_AT_MOST_SECONDS = 24 * 3600;

/** Slurm's words, of what is known to be a refusal, in words for the person who reads them. */
export function whyRefused(said: string, plan: JobPlan): Error {
  return refused(meaningOfText(said) ?? "later", said, plan);
}

function refused(meaning: Refusal, said: string, plan: JobPlan, script?: string): Error {
  if (meaning === "never") {
    return new Rejected({
      code: "submit-refused",
      message: `Slurm refused the job of trigger ${plan.trigger.name}: ${said}.`,
      hint: `Correct the trigger's slurm section${script === undefined ? "" : `, or the #SBATCH lines of ${script}`}, then replay the message.`,
    });
  }
  return new Deferred({
    code: "submit-not-now",
    message: `Slurm does not take the job of trigger ${plan.trigger.name} at the moment: ${said}.`,
    hint: "Mento tries again; `scontrol show reservation` says how the reservation stands.",
    giveUpAfterSeconds: 3600,
  });
}

/** Without its multifactor plugin Slurm's priorities differ by 1 from job to job: a step is more than a flood of jobs. */
const NICE_PER_STEP = 1000;

/** How far others pass a job: what Slurm is told of its trigger's priority. */
export function niceOf(priority: number): number | null {
  return priority < 0 ? -priority * NICE_PER_STEP : null;
}

/** What `sbatch` is told of a job. */
export function sbatchArguments(job: {
  jobComment: string;
  directory: string;
  output: string;
  name: string;
  slurm: TriggerSlurm;
  priority: number;
  allocation: Allocation;
}): string[] {
  const { slurm, allocation, directory, jobComment, output, priority } = job;
  const { reservation, partition, time } = allocation;
  const optional = (flag: string, value: string | number | null | undefined) =>
    value == null ? [] : [`${flag}=${value}`];
  return [
    "--parsable",
    `--job-name=${job.name}`,
    `--comment=${jobComment}`,
    `--chdir=${directory}`,
    `--output=${output}`,
    "--open-mode=append",
    // A trigger runs once for a message: Slurm does not start it again by itself.
    "--no-requeue",
    ...optional("--reservation", reservation),
    ...optional("--partition", partition),
    `--time=${time}`,
    ...optional("--nodes", slurm.nodes),
    ...optional("--constraint", slurm.constraint),
    ...optional("--cpus-per-task", slurm.cpusPerTask),
    ...optional("--mem", slurm.memory),
    ...optional("--ntasks", slurm.tasks),
    ...optional("--gres", slurm.gres),
    ...optional("--account", slurm.account),
    ...optional("--qos", slurm.qos),
    ...optional("--dependency", slurm.dependency),
    ...(slurm.exclusive === true ? ["--exclusive"] : []),
    // A plain account can only let others pass.
    ...optional("--nice", niceOf(priority)),
    ...(slurm.extra ?? []),
  ];
}
