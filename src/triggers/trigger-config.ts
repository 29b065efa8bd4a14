import * as z from "zod";
import { slurmSeconds } from "../slurm/slurm-time.ts";
import { JobMethod } from "../messages/job-event.ts";
import { ByteSize } from "./byte-size.ts";
import { Exclusion, TriggerCondition } from "./condition.ts";
import { globMistake } from "./glob-mistake.ts";
import { listInsteadOf } from "./program-mistakes.ts";
import {
  dependencyMistake,
  extraFlagMistake,
  memoryMistake,
  slurmTimeMistake,
} from "../slurm/slurm-flags.ts";

/** A text that is right unless this says why not. */
function checked(mistakeOf: (text: string) => string | undefined) {
  return z.string().superRefine((text, context) => {
    const message = mistakeOf(text);
    if (message !== undefined) context.addIssue({ code: "custom", message });
  });
}

/** Slurm's forms of a duration: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS (sbatch(1), --time). */
const SlurmTime = z
  .string()
  .regex(/^(\d+-\d+(:\d+){0,2}|\d+(:\d+){0,2})$/, {
    error: ({ input }) => slurmTimeMistake(String(input)),
  })
  .refine((time) => slurmSeconds(time) !== 0, "must be more than 0, which sbatch takes for no limit at all");

function atMost(one: string, other: string): boolean {
  return (slurmSeconds(one) ?? 0) <= (slurmSeconds(other) ?? Infinity);
}

const slurmTime = z.union([SlurmTime, z.int().positive().transform(String)]);

export const TriggerSlurm = z
  .strictObject({
    time: slurmTime.optional().describe("The job's time limit; a number is minutes. Default: an hour."),
    timeMin: slurmTime
      .optional()
      .describe("If the reservation ends before `time` has passed: the least limit that will do instead."),
    nodes: z.int().positive().optional().describe("How many nodes the job gets; default 1."),
    constraint: z.string().min(1).optional().describe("Features that its nodes must have, as sbatch's."),
    partition: z.string().min(1).optional().describe("Only reservations in this partition."),
    reservation: z
      .union([z.string().min(1), z.int().nonnegative()])
      .optional()
      .describe("Only this reservation: its name, or its number; 1 is `<session id>_1`."),
    fallback: z
      .union([
        z.enum(["wait", "fail"], "must be wait, fail, or { partition: NAME }"),
        z.strictObject({ partition: z.string().min(1).describe("Where it runs without a reservation.") }),
      ])
      .default("wait")
      .describe(
        "If no reservation fits: wait for one, reject the message, or run in a partition without one.",
      ),
    cpusPerTask: z.int().positive().optional().describe("CPUs for each task; default 1."),
    memory: z
      .string()
      .regex(/^\d+[KMGT]?$/, { error: ({ input }) => memoryMistake(String(input)) })
      .optional()
      .describe("Memory per node, such as 4G."),
    tasks: z.int().positive().optional().describe("How many tasks the job is for; default 1."),
    gres: z
      .string()
      .regex(/^[A-Za-z][^\s,]*(,[A-Za-z][^\s,]*)*$/, "must be resources such as gpu:1 or gpu:a100:2,nvme")
      .optional()
      .describe("Generic resources per node, such as gpu:1."),
    account: z.string().min(1).optional().describe("The account that Slurm charges."),
    qos: z.string().min(1).optional().describe("The quality of service."),
    exclusive: z.boolean().optional().describe("true: nobody else's jobs on its nodes."),
    dependency: checked(dependencyMistake)
      .optional()
      .describe("As sbatch's; `singleton`: one job of the trigger at a time."),
    extra: z
      .array(checked(extraFlagMistake))
      .optional()
      .describe("More flags of sbatch, each `--name` or `--name=value`; not those that Mento sets itself."),
  })
  .refine(({ time = "01:00:00", timeMin }) => timeMin === undefined || atMost(timeMin, time), {
    path: ["timeMin"],
    message: "must not be longer than time",
  });
export type TriggerSlurm = z.infer<typeof TriggerSlurm>;

export const TriggerArray = z.strictObject({
  // Slurm's MaxArraySize is 1001 by default: an index is at most 1000.
  size: z.int().min(2).max(1000).default(200).describe("So many jobs become one array at most."),
  window: z
    .number()
    .positive()
    .max(300)
    .default(2)
    .describe("Seconds that a message waits for others, from the first one on."),
  limit: z.int().positive().optional().describe("So many jobs of an array run at once at most."),
});

const limit = z.int().min(1).max(1000);

export const Concurrency = z
  .strictObject({
    perTrigger: limit
      .optional()
      .describe("So many of the trigger's jobs that have not ended, in one session and of one `key`."),
    perSession: limit
      .optional()
      .describe("So many jobs in one session, counted over all triggers that say perSession."),
  })
  .refine(
    (limits) => Object.values(limits).some((one) => one !== undefined),
    "needs perTrigger or perSession",
  );
export type Concurrency = z.infer<typeof Concurrency>;

const trigger = z.strictObject({
  name: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, "must be 1 to 63 letters, digits, '.', '_' or '-'")
    .describe("Part of its jobs' ids: a renamed trigger is another trigger."),
  on: TriggerCondition.prefault({}).describe("Which messages start it; all fields given must fit."),
  unless: Exclusion.optional().describe("Which of these do not; all fields given must fit."),
  method: JobMethod.default("remote-sbatch-script").describe("How the job is run."),
  run: z
    .array(z.string(), { error: ({ input }) => listInsteadOf(input) })
    .min(1)
    .describe("The program and its arguments, each on its own; {{ name }} is filled in. Never a shell line."),
  env: z
    .record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, "must be a variable's name"), z.string())
    .default({})
    .describe("Environment variables of the program; {{ name }} is filled in."),
  workdir: z.string().min(1).optional().describe("Where the program starts; default: the job directory."),
  stdin: z.string().optional().describe("What the program reads from its standard input; default: nothing."),
  destination: z
    .string()
    .min(1)
    .optional()
    .describe("The reserved node that the job is submitted from, or that a remote-command runs on."),
  slurm: TriggerSlurm.prefault({}).describe("What Slurm is told."),
  array: TriggerArray.optional().describe(
    "Messages that come shortly after each other become one Slurm job array.",
  ),
  retries: z
    .int()
    .min(0)
    .max(20)
    .default(0)
    .describe("How often the job is submitted again when its node has failed, or Slurm has preempted it."),
  results: z
    .array(checked(globMistake).min(1).regex(/^[^/]/, "must be relative to the job's results folder"))
    .default(["**"])
    .describe("Globs below the job's results folder: what to announce as results."),
  copyBack: z
    .strictObject({
      to: z
        .string()
        .regex(
          /^(?!.*(^|\/)\.\.?(\/|$))[^/].*$/,
          "must be a folder relative to the beamtime's, such as processed/onlineanalysis",
        )
        .describe("The folder on the beamline file system, below the beamtime's."),
      maxBytes: ByteSize.default(50_000_000).describe("All files of a job together."),
      maxFiles: z.int().positive().max(1000).default(100).describe("So many files of a job at most."),
    })
    .optional()
    .describe("Copy the results to the beamline file system when the job has completed."),
  dataTimeout: z
    .int("must be a whole number of seconds")
    .positive()
    .optional()
    .describe(
      "Seconds to wait for the data to be whole on the core file system; default 600, in commissioning runs 1800.",
    ),
  companions: z
    .boolean()
    .default(false)
    .describe("Wait also for the `*_data_*` files of an HDF5 `*_master.h5`."),
  concurrency: z
    .union([limit.transform((perTrigger) => ({ perTrigger })), Concurrency])
    .optional()
    .describe("How many of the trigger's jobs may be unfinished at a time; further messages wait."),
  latest: z
    .boolean()
    .default(false)
    .describe(
      "Of the messages that wait only the newest runs; one at a time, if `concurrency` does not say.",
    ),
  key: z
    .string()
    .min(1)
    .optional()
    .describe("`concurrency` and `latest` hold for each value of this template apart, within a session."),
  priority: z
    .int()
    .min(-100)
    .max(100)
    .default(0)
    .describe("Of what waits for the session's turns, the higher goes first; below 0 Slurm is told too."),
});

export const Trigger = trigger
  .refine(({ key, concurrency, latest }) => key === undefined || latest || concurrency !== undefined, {
    path: ["key"],
    message: "says nothing without concurrency or latest",
  })
  .refine(
    ({ method, concurrency, latest }) =>
      method !== "slurm-rest-api" || !(latest || concurrency !== undefined),
    { path: ["method"], message: "counts no jobs: concurrency and latest need another method" },
  );
export type Trigger = z.infer<typeof Trigger>;
