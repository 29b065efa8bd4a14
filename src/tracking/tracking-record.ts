import { posix } from "node:path";
import * as z from "zod";
import { Rejected } from "../errors.ts";
import { describeIssues } from "../messages/check-form.ts";
import { BeamtimeId } from "../messages/data-ready.ts";
import { JobEventData, type MessageFacts } from "../messages/job-event.ts";
import { recordBytes } from "../messages/event-bytes.ts";
import { parseJson, writeJson } from "../messages/json.ts";
import { TriggerSlurm } from "../triggers/trigger-config.ts";
import { FolderName } from "../jobs/record-schema.ts";
import { normalPath } from "../messages/path-text.ts";

/** Of a job's data, what becomes part of a command, a path or the choice of a host. */
const JobFolders = z.looseObject({
  job: z.looseObject({
    id: z.string().regex(/^[a-z2-7]{26}$/, "must be a job's id"),
    directory: z
      .string()
      .refine((path) => path.startsWith("/") && path === normalPath(path), "must be an absolute path"),
  }),
  slurm: z.looseObject({
    jobId: z
      .string()
      .regex(/^[1-9][0-9]{0,9}(_[0-9]{1,9})?$/, "must be a job's number")
      .nullable(),
  }),
  // Of a process on a host that is none of its session's the host is not known.
  process: z.looseObject({ host: z.union([z.literal(""), FolderName]), pid: z.int().min(2) }).nullable(),
  session: z.looseObject({ id: BeamtimeId.nullable() }),
});

/** Of a user's own script: sbatch knows more forms than a trigger may have. */
const ScriptTime = z.string().regex(/^[\w:-]{1,30}$/);

const WrittenRecord = z.strictObject({
  version: z.literal(1),
  /** The last announced event's data: the job's, and how it runs. */
  data: JobEventData.refine(({ job }) => posix.basename(job.directory) === job.id, {
    path: ["job", "directory"],
    message: "must be the job's own",
  }).pipe(JobEventData.and(JobFolders)),
  /** For the job's events. */
  traceparent: z.string().max(512).optional(),
  /** Of a job that was submitted as a task of an array: what the array's job comment and folder are named after. */
  arrayId: FolderName.optional(),
  /** What the trigger, or its script, asked of Slurm, if the job must be submitted again. */
  slurm: TriggerSlurm.safeExtend({ time: ScriptTime.optional(), timeMin: ScriptTime.optional() }).optional(),
  /** How often the job may be submitted again after its node failed or another job took it, and was so far. */
  retries: z.int().nonnegative().optional(),
  retried: z.int().nonnegative().optional(),
  /** How often its directory has said that it was submitted again. */
  moved: z.int().nonnegative().optional(),
  priority: z.int().optional(),
  /** The semaphores of which it has a permit; see jobs/permits.ts. */
  semaphores: z.array(FolderName).max(10).optional(),
  /** When Slurm last knew it; default: when it was submitted. */
  seenAt: z.iso.datetime().optional(),
  /** Since when Slurm holds it because its reservation was deleted. */
  heldSince: z.iso.datetime().optional(),
});

/**
 * What the queue of jobs holds for each job that has not ended: all that any worker of the group needs to watch it.
 */
export interface TrackingRecord extends Omit<z.infer<typeof WrittenRecord>, "data"> {
  data: JobEventData;
  /** The folder of the session's job directories: the one that the job's own lies in. */
  jobsDirectory: string;
}

/** @param most what the broker takes; beyond it, parameters and paths of the message are left out */
export function writeTrackingRecord(record: TrackingRecord, most = Infinity): Buffer {
  const written = { ...record, jobsDirectory: undefined };
  return recordBytes(written, most);
}

/**
 * Whether the job's folder is the one that the configuration has for it is looked at when the job is: `requireOwnFolder`.
 *
 * @throws Rejected `record-unfit`
 */
export function readTrackingRecord(content: Buffer): TrackingRecord {
  const written = tryJson(content);
  const parsed = WrittenRecord.safeParse(written);
  if (!parsed.success) throw unfit(describeIssues(parsed.error, written));
  const { data } = parsed.data;
  return {
    ...parsed.data,
    data: { ...data, message: withParametersAsText(data.message) },
    jobsDirectory: posix.dirname(data.job.directory),
  };
}

/** As objects they would have many times the bytes of their text, for as long as the job is watched. */
function withParametersAsText(message: MessageFacts): MessageFacts {
  const text = Buffer.from(writeJson(message.parameters));
  return {
    ...message,
    get parameters() {
      return parseJson(text.toString()) as MessageFacts["parameters"];
    },
  };
}

/** @throws Rejected `record-unfit` if the record names another folder, or data elsewhere */
export function requireOwnFolder(
  { data, jobsDirectory }: TrackingRecord,
  own: { jobsDirectory: string; corePath: string | null },
): void {
  if (jobsDirectory !== own.jobsDirectory) {
    throw unfit(
      `its job's directory is ${data.job.directory}, and that of its session's jobs is ${own.jobsDirectory}`,
    );
  }
  if (data.session.corePath !== own.corePath) {
    throw unfit(
      `it has the core path ${data.session.corePath ?? "-"}, and its session ${own.corePath ?? "-"}`,
    );
  }
}

function unfit(why: string): Rejected {
  return new Rejected({
    code: "record-unfit",
    message: `A tracking record does not fit: ${why}.`,
    hint: "Another version or configuration of Mento wrote it, or it is forged; its job may run. Replay it when it fits.",
  });
}

function tryJson(bytes: Buffer): unknown {
  try {
    return parseJson(bytes.toString("utf8"));
  } catch {
    return undefined;
  }
}
