import { z } from "zod";
import { slurmSeconds } from "../jobs/slurm-time.ts";
import { JobMethod } from "../messages/job-event.ts";
import { INPUT_TYPES } from "../messages/trigger-input.ts";

/** One value or several of which one must fit. */
function oneOrMore<T extends z.ZodType>(value: T) {
  return z.union([value, z.array(value).min(1)]);
}

/** Slurm's forms of a duration: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS (sbatch(1), --time). */
const SlurmTime = z
  .string()
  .regex(/^(\d+-\d+(:\d+){0,2}|\d+(:\d+){0,2})$/, "must be a Slurm time such as 00:20:00, 45 or 1-12:00:00");

function atMost(one: string, other: string): boolean {
  return (slurmSeconds(one) ?? 0) <= (slurmSeconds(other) ?? Infinity);
}

/** Which messages start the trigger. Every field given must fit; a list fits if one of its values does. */
export const TriggerCondition = z.strictObject({
  type: oneOrMore(z.enum(INPUT_TYPES)).default("data.ready"),
  trigger: oneOrMore(z.string()).optional().describe("Of a job's event: the trigger that it ran for."),
  path: oneOrMore(z.string().min(1))
    .optional()
    .describe("Globs for the path as the message gives it; every path of the message must fit one."),
  detector: oneOrMore(z.string()).optional(),
  technique: oneOrMore(z.string()).optional(),
  scan: oneOrMore(z.union([z.string(), z.int()])).optional(),
  sample: oneOrMore(z.string()).optional(),
});
export type TriggerCondition = z.infer<typeof TriggerCondition>;

/** `50MB`, `2 GiB`, or a number of bytes. */
const ByteSize = z.union([
  z.int().positive(),
  z
    .string()
    .regex(/^\d+(\.\d+)?\s*([kMG]i?)?B?$/, "must be a size such as 50MB")
    .transform(bytesOf),
]);

function bytesOf(size: string): number {
  const [, number = "", prefix = "", binary] = /^([\d.]+)\s*([kMG]?)(i?)/.exec(size) ?? [];
  const power = ["", "k", "M", "G"].indexOf(prefix);
  return Math.floor(Number(number) * (binary === "i" ? 1024 : 1000) ** power);
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
      .union([z.enum(["wait", "fail"]), z.strictObject({ partition: z.string().min(1) })])
      .default("wait")
      .describe(
        "If no reservation fits: wait for one, reject the message, or run in a partition without one.",
      ),
    cpusPerTask: z.int().positive().optional(),
    memory: z
      .string()
      .regex(/^\d+[KMGT]?$/, "must be a size such as 4G")
      .optional()
      .describe("Memory per node."),
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

/** Methods whose jobs `sbatch` submits, and so arrays of them. */
const BY_SBATCH: readonly JobMethod[] = ["remote-sbatch-script", "local-sbatch-script"];

/** What is wrong with a trigger's array, if anything. */
export function arrayMistake({ array, method }: Trigger): string | undefined {
  if (array === undefined || BY_SBATCH.includes(method)) return undefined;
  return `${method} has no arrays; ${BY_SBATCH.join(" and ")} have`;
}

export const Trigger = z.strictObject({
  name: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, "must be 1 to 63 letters, digits, '.', '_' or '-'"),
  on: TriggerCondition.prefault({}),
  method: JobMethod.default("remote-sbatch-script"),
  run: z
    .array(z.string())
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
  slurm: TriggerSlurm.prefault({}),
  array: TriggerArray.optional().describe(
    "Messages that come shortly after each other become one Slurm job array.",
  ),
  results: z
    .array(z.string().min(1))
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
      maxFiles: z.int().positive().max(1000).default(100),
    })
    .optional()
    .describe("Copy the results to the beamline file system when the job has completed."),
  dataTimeout: z
    .int()
    .positive()
    .optional()
    .describe(
      "Seconds to wait for the data to be whole on the core file system; default 600, in commissioning runs 1800.",
    ),
  companions: z
    .boolean()
    .default(false)
    .describe("Wait also for the `*_data_*` files of an HDF5 `*_master.h5`."),
});
export type Trigger = z.infer<typeof Trigger>;
