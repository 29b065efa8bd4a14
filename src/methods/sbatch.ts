import { z } from "zod";
import { Deferred, Rejected, Unavailable } from "../errors.ts";
import {
  directoryOf,
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
import type { CommandEnd } from "../shells/shell.ts";
import type { JobPlan } from "../triggers/plan.ts";
import type { Method, Place, SubmittedJob } from "./method.ts";

/** `sbatch` on a host that has it; which host that is, the shell knows. */
export const sbatch: Method = {
  async submit(plan, place, now) {
    const { jobsDirectory, shell } = place;
    const directory = directoryOf(jobsDirectory, plan.jobId);
    const request: SubmitRequest = {
      jobsDirectory,
      jobId: plan.jobId,
      paths: plan.paths,
      bytes: plan.bytes,
      sbatchArguments: sbatchArguments(plan, place),
      script: runScript({
        jobId: plan.jobId,
        directory,
        spool: spoolOf(jobsDirectory),
        argv: plan.argv,
        resultsDirectory: plan.resultsDirectory,
        request: {
          submittedAt: now.toISOString(),
          trigger: plan.trigger.name,
          cause: plan.cause,
          paths: plan.paths,
          argv: plan.argv,
        },
      }),
    };
    const call = async (command: string) => {
      const end = await shell.run(command, { timeout: LONGEST_SUBMIT_SECONDS * 1000 });
      return { end, answer: parseSubmitAnswer(end.stdout.toString("utf8"), plan.paths) };
    };
    let { end, answer } = await call(submitCommand(request));
    if (answer?.kind === "in-flight") ({ end, answer } = await call(recoverCommand(request, shell.account)));
    return conclude(answer, end, plan, place, now);
  },
};

/** What the run script's second line says of the submit that made the job. */
const SubmittedRequest = z.looseObject({ submittedAt: z.iso.datetime() });

async function conclude(
  answer: SubmitAnswer | undefined,
  end: CommandEnd,
  plan: JobPlan,
  place: Place,
  now: Date,
): Promise<SubmittedJob> {
  const { jobsDirectory, shell } = place;
  switch (answer?.kind) {
    case "submitted":
      return {
        slurmJobId: answer.slurmJobId,
        submittedAt: SubmittedRequest.safeParse(answer.request).data?.submittedAt ?? now.toISOString(),
        name: plan.trigger.name,
        directory: directoryOf(jobsDirectory, plan.jobId),
      };
    case "missing":
      throw dataNotThere(answer.path, answer.found, plan);
    case "in-flight":
      throw new Deferred({
        code: "submit-in-flight",
        message: `Job ${plan.jobId} is being submitted by another call, or one was cut off.`,
        hint: "Mento looks again, and finds out which.",
        giveUpAfterSeconds: 24 * 3600,
      });
    case "failed":
      throw await refusal(end.stderr, plan, place);
    case undefined:
      throw new Deferred({
        code: "submit-not-now",
        message: `The job directory could not be made on ${shell.host}: ${lastLine(end.stderr) || `exit code ${end.code ?? "none"}`}.`,
        hint: `Can ${shell.account} write to ${jobsDirectory}, and is its login shell a POSIX shell?`,
        giveUpAfterSeconds: 3600,
      });
  }
}

/**
 * Why `sbatch` failed. What Slurm refuses for good is rejected; what may still have created the job keeps its
 * directory, so that the next try looks for it. Texts: slurm_errno.c, Slurm 22.05 to 25.05.
 */
const REFUSALS: { text: RegExp; meaning: "never" | "later" | "ambiguous" }[] = [
  { text: /Socket timed out|Zero Bytes were transmitted/i, meaning: "ambiguous" },
  { text: /Unable to contact slurm controller|Connection refused/i, meaning: "ambiguous" },
  { text: /not usable now|Rate limit exceeded|temporarily unable/i, meaning: "later" },
  { text: /Requested reservation is invalid|Access denied to requested reservation/i, meaning: "later" },
  {
    text: /Job violates accounting|QOSMaxSubmitJobPerUserLimit|AssocMaxSubmitJobLimit/i,
    meaning: "later",
  },
];

async function refusal(stderr: string, plan: JobPlan, place: Place): Promise<Error> {
  const said = lastLine(stderr);
  const meaning = REFUSALS.find(({ text }) => text.test(stderr))?.meaning ?? "never";
  if (meaning === "ambiguous") {
    return new Unavailable({
      code: "slurm-unavailable",
      message: `Slurm's controller did not answer sbatch on ${place.shell.host}: ${said}.`,
      hint: "Mento tries again, and looks first whether the job was created all the same.",
    });
  }
  await place.shell.run(withdrawCommand(place.jobsDirectory, plan.jobId));
  if (meaning === "later") {
    return new Deferred({
      code: "submit-not-now",
      message: `Slurm does not take the job at the moment: ${said}.`,
      hint: "Mento tries again; `scontrol show reservation` says how the reservation stands.",
      giveUpAfterSeconds: 3600,
    });
  }
  return new Rejected({
    code: "submit-refused",
    message: `Slurm refused the job of trigger ${plan.trigger.name}: ${said}.`,
    hint: "Correct the trigger's slurm section, then replay the message.",
  });
}

function sbatchArguments(plan: JobPlan, place: Place): string[] {
  const { slurm } = plan.trigger;
  const directory = directoryOf(place.jobsDirectory, plan.jobId);
  return [
    "--parsable",
    `--job-name=${plan.trigger.name}`,
    `--comment=${markerOf(plan.jobId)}`,
    `--chdir=${directory}`,
    `--output=${directory}/job.log`,
    "--open-mode=append",
    `--reservation=${place.reservation.name}`,
    `--partition=${place.reservation.partition}`,
    `--time=${slurm.time}`,
    ...(slurm.constraint === undefined ? [] : [`--constraint=${slurm.constraint}`]),
    ...(slurm.cpusPerTask === undefined ? [] : [`--cpus-per-task=${slurm.cpusPerTask}`]),
    ...(slurm.memory === undefined ? [] : [`--mem=${slurm.memory}`]),
  ];
}

function dataNotThere(path: string, found: number | null, plan: JobPlan): Deferred {
  const state = found === null ? "is not there" : `has ${found} bytes so far`;
  return new Deferred({
    code: "data-not-there",
    message: `The data is not on the core file system yet: ${path} ${state}.`,
    hint: "It is copied from the beamline with a delay; Mento looks again.",
    giveUpAfterSeconds: plan.trigger.dataTimeout,
  });
}

function lastLine(text: string): string {
  return text.trim().split("\n").at(-1) ?? "";
}
