import { z } from "zod";
import type { Slot } from "../beamtime/reservation.ts";
import { Deferred, MentoError, Rejected, Unavailable } from "../errors.ts";
import { lookId } from "../jobs/data-check.ts";
import {
  adoptCommand,
  directoryOf,
  findCommand,
  markerOf,
  parseSubmitAnswer,
  recoverCommand,
  spoolOf,
  submitCommand,
  withdrawCommand,
  LONGEST_SUBMIT_SECONDS,
  type SubmitAnswer,
  type SubmitRequest,
} from "../jobs/directory.ts";
import { runScript } from "../jobs/run-script.ts";
import { tooManyPending } from "../jobs/slurm-now.ts";
import type { CommandEnd } from "../shells/shell.ts";
import type { JobPlan } from "../triggers/plan.ts";
import type { TriggerSlurm } from "../triggers/trigger-config.ts";
import type { Method, Place, SubmitOptions, SubmittedJob } from "./method.ts";

/** `sbatch` on a host that has it; which host that is, the shell knows. */
export const sbatch: Method = {
  async submit(plan, place, options) {
    const { jobsDirectory, shell, slot } = place;
    const call = async (command: string) => {
      const end = await shell.run(command, { timeout: LONGEST_SUBMIT_SECONDS * 1000 });
      return { end, answer: parseSubmitAnswer(end.stdout.toString("utf8"), plan.paths) };
    };
    if (slot instanceof MentoError) {
      const job = { jobsDirectory, jobId: plan.jobId };
      let { end, answer } = await call(findCommand(job));
      if (answer?.kind === "in-flight") ({ end, answer } = await call(adoptCommand(job, shell.account)));
      if (answer?.kind === "none") throw slot;
      return conclude(answer, end, plan, place, options);
    }
    const request = submitRequest(plan, place, slot, options.now);
    let { end, answer } = await call(submitCommand(request, shell.account));
    if (answer?.kind === "changing" && lookId(answer.look) === options.dataLook) {
      const settled = { ...request, data: { ...request.data, isSettled: true } };
      ({ end, answer } = await call(submitCommand(settled, shell.account)));
    }
    if (answer?.kind === "in-flight") ({ end, answer } = await call(recoverCommand(request, shell.account)));
    return conclude(answer, end, plan, place, options);
  },
};

function submitRequest(plan: JobPlan, place: Place, slot: Slot, now: Date): SubmitRequest {
  const { jobsDirectory, corePath, maxPending } = place;
  const { trigger, jobId, paths, bytes } = plan;
  const directory = directoryOf(jobsDirectory, jobId);
  return {
    jobsDirectory,
    jobId,
    maxPending,
    data: { root: corePath, paths, bytes, companions: trigger.companions, isSettled: false },
    sbatchArguments: sbatchArguments({ jobId, directory, name: trigger.name, slurm: trigger.slurm, slot }),
    script: runScript({
      jobId,
      directory,
      spool: spoolOf(jobsDirectory),
      argv: plan.argv,
      resultsDirectory: plan.resultsDirectory,
      request: {
        submittedAt: now.toISOString(),
        trigger: trigger.name,
        cause: plan.cause,
        paths,
        argv: plan.argv,
        slot,
      },
    }),
  };
}

/** What the run script's second line says of the submit that made the job. */
const SubmittedRequest = z.looseObject({
  submittedAt: z.iso.datetime(),
  paths: z.array(z.string()),
  slot: z
    .object({ reservation: z.string().nullable(), partition: z.string().nullable(), time: z.string() })
    .optional(),
});

async function conclude(
  answer: SubmitAnswer | undefined,
  end: CommandEnd,
  plan: JobPlan,
  place: Place,
  { dataTimeout, dataLook, now }: SubmitOptions,
): Promise<SubmittedJob> {
  const { jobsDirectory, shell, slot } = place;
  switch (answer?.kind) {
    case "submitted": {
      const earlier = SubmittedRequest.safeParse(answer.request).data;
      if (earlier !== undefined && !sameList(earlier.paths, plan.paths)) throw idReused(plan, earlier.paths);
      return {
        slurmJobId: answer.slurmJobId,
        submittedAt: earlier?.submittedAt ?? now.toISOString(),
        name: plan.trigger.name,
        directory: directoryOf(jobsDirectory, plan.jobId),
        slot: answer.movedTo ?? earlier?.slot ?? (slot instanceof MentoError ? null : slot),
      };
    }
    case "missing":
      throw dataNotThere(answer.path, answer.found, plan, dataTimeout);
    case "changing":
      throw dataChanging(plan, lookId(answer.look), dataTimeout, dataLook === undefined);
    case "outside":
      throw new Rejected({
        code: "path-outside-beamtime",
        message: `${answer.path} leads out of the beamtime, by a symbolic link to ${answer.real}.`,
        hint: "Send the path of data inside the beamtime.",
      });
    case "full":
      throw tooManyPending(shell.account, place.maxPending ?? 0);
    case "in-flight":
      throw new Deferred({
        code: "submit-in-flight",
        message: `Job ${plan.jobId} is being submitted by another call, or one was cut off.`,
        hint: "Mento looks again, and finds out which.",
        giveUpAfterSeconds: 24 * 3600,
      });
    case "failed":
      throw await refusal(end.stderr, plan, place);
    default:
      throw new Deferred({
        code: "submit-not-now",
        message: `The submit on ${shell.host} gave no answer: ${lastLine(end.stderr) || `exit code ${end.code ?? "none"}`}.`,
        hint: `Can ${shell.account} write to ${jobsDirectory}, and is sbatch in its PATH?`,
        giveUpAfterSeconds: 3600,
      });
  }
}

/**
 * Why `sbatch` failed, by Slurm's texts (slurm_errno.c and sbatch's own, Slurm 22.05 to 25.05).
 *
 * - never: it will refuse the same job again; only then the directory goes, so that a replay can try anew
 * - later: it refuses the job at the moment
 * - nobody: the controller does not answer; the job may have been created all the same
 *
 * Anything else is unknown: the directory stays, and the next try looks for the job first.
 */
const REFUSALS: { text: RegExp; meaning: "never" | "later" | "nobody" }[] = [
  { text: /Socket timed out|Zero Bytes were transmitted|Message (receive|send) failure/i, meaning: "nobody" },
  { text: /Unable to contact slurm controller|Connection refused|in standby mode/i, meaning: "nobody" },
  { text: /not usable now|not available now|Rate limit exceeded|temporarily unable/i, meaning: "later" },
  { text: /Requested reservation is invalid|Access denied to requested reservation/i, meaning: "later" },
  { text: /violates accounting|MaxSubmitJob|Invalid account|Invalid user id/i, meaning: "later" },
  { text: /Invalid (feature|partition|generic resource|qos|constraint|time|--)/i, meaning: "never" },
  { text: /invalid (time|memory|number|argument|option)|unrecognized option|--help/i, meaning: "never" },
  { text: /node configuration is not available|(can not|cannot) be satisfied/i, meaning: "never" },
  { text: /Requested time limit is invalid|Node count specification invalid/i, meaning: "never" },
];

async function refusal(stderr: string, plan: JobPlan, place: Place): Promise<Error> {
  const said = lastLine(stderr) || "it said nothing";
  const meaning = REFUSALS.find(({ text }) => text.test(stderr))?.meaning;
  if (meaning === "nobody") {
    return new Unavailable({
      code: "slurm-unavailable",
      message: `Slurm's controller did not answer sbatch on ${place.shell.host}: ${said}.`,
      hint: "Mento tries again, and looks first whether the job was created all the same.",
    });
  }
  if (meaning !== undefined) await place.shell.run(withdrawCommand(place.jobsDirectory, plan.jobId));
  if (meaning === "never") {
    return new Rejected({
      code: "submit-refused",
      message: `Slurm refused the job of trigger ${plan.trigger.name}: ${said}.`,
      hint: "Correct the trigger's slurm section, then replay the message.",
    });
  }
  return new Deferred({
    code: "submit-not-now",
    message: `Slurm does not take the job of trigger ${plan.trigger.name} at the moment: ${said}.`,
    hint: "Mento tries again; `scontrol show reservation` says how the reservation stands.",
    giveUpAfterSeconds: 3600,
  });
}

/** What `sbatch` is told of a job. */
export function sbatchArguments(job: {
  jobId: string;
  directory: string;
  name: string;
  slurm: TriggerSlurm;
  slot: Slot;
}): string[] {
  const { slurm, slot, directory } = job;
  const { reservation, partition, time } = slot;
  const optional = (flag: string, value: string | number | null | undefined) =>
    value == null ? [] : [`${flag}=${value}`];
  return [
    "--parsable",
    `--job-name=${job.name}`,
    `--comment=${markerOf(job.jobId)}`,
    `--chdir=${directory}`,
    `--output=${directory}/job.log`,
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
  ];
}

function dataNotThere(path: string, found: number | null, plan: JobPlan, giveUpAfterSeconds: number) {
  const wanted = plan.bytes?.[plan.paths.indexOf(path)];
  const state = found === null ? "is not there" : `has ${found} of ${wanted ?? "?"} bytes so far`;
  return new Deferred({
    code: "data-not-there",
    message: `The data is not on the core file system yet: ${path} ${state}.`,
    hint: "It is copied from the beamline with a delay; Mento looks again.",
    giveUpAfterSeconds,
  });
}

/** One look at fresh data says nothing yet: only a second that differs is worth an event. */
function dataChanging(plan: JobPlan, look: string, giveUpAfterSeconds: number, isFirstLook: boolean) {
  return new Deferred({
    code: "data-changing",
    message: `The data on the core file system is still being written: ${plan.paths.join(", ")}.`,
    hint: "Mento looks until it stays the same; a message with `bytes` says when it is whole.",
    giveUpAfterSeconds,
    dataLook: look,
    isSilent: isFirstLook,
  });
}

function lastLine(text: string): string {
  return text.trim().split("\n").at(-1) ?? "";
}

function sameList(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((value, index) => value === other[index]);
}

function idReused(plan: JobPlan, paths: readonly string[]): Rejected {
  const { id, source } = plan.cause;
  return new Rejected({
    code: "id-reused",
    message: `The message's id ${id} from ${source} was used before, for ${paths[0] ?? "other data"}.`,
    hint: "Give each message an id of its own, and each producer its own source (AMQP's app_id).",
  });
}
