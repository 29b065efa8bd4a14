import { z } from "zod";
import { JobEventData } from "../messages/job-event.ts";
import { TriggerSlurm } from "../triggers/trigger-config.ts";

/**
 * What the queue of jobs holds for each job that has not ended: all that any worker of the group needs to watch it.
 */
export const TrackingRecord = z.strictObject({
  version: z.literal(1),
  /** The last announced event's data: the job's, and how it runs. */
  data: JobEventData,
  /** For the job's events. */
  traceparent: z.string().optional(),
  /** The folder of the session's job directories. */
  jobsDirectory: z.string(),
  /** Of a job that was submitted as a task of an array: what the array's marker and folder are named after. */
  arrayId: z.string().optional(),
  /** What the trigger asked of Slurm, if the job must be submitted again. */
  slurm: TriggerSlurm.optional(),
  /** How often the job may be submitted again after its node failed or another job took it, and was so far. */
  retries: z.int().nonnegative().optional(),
  retried: z.int().nonnegative().optional(),
  priority: z.int().optional(),
  /** The rows in which it has a seat; see jobs/seats.ts. */
  rows: z.array(z.string()).optional(),
  /** When Slurm last knew it; default: when it was submitted. */
  seenAt: z.iso.datetime().optional(),
  /** Since when Slurm holds it because its reservation was deleted. */
  heldSince: z.iso.datetime().optional(),
});
export type TrackingRecord = z.infer<typeof TrackingRecord>;
