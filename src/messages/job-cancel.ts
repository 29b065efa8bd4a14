import * as z from "zod";
import { Rejected } from "../errors.ts";
import { checkForm } from "./check-form.ts";
import type { CloudEvent } from "./cloud-event.ts";
import { cut } from "../text/cut.ts";
import { CancelledBy, EventError, ExitReason, JobState } from "./job-event.ts";

export const JOB_CANCEL_TYPE = "mento.job.cancel.v1";
export const CANCEL_ANSWER_TYPE = "mento.job.cancel-answer.v1";

/** Mento's id of a job, or Slurm's; it becomes a folder's name. */
export const JobName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$/, "must be a job's id, of Mento or of Slurm");

/** `data` of a `mento.job.cancel.v1` message: jobs are to be cancelled. */
export const JobCancel = z.strictObject({
  job: z
    .union([JobName, z.array(JobName).min(1).max(1000)])
    .describe("The job or jobs: Mento's ids, as events have them, or Slurm's."),
  reason: z.string().min(1).max(500).optional().describe("Why; the event job.cancelled has it."),
});
export type JobCancel = z.infer<typeof JobCancel>;

/** What became of one job that was to be cancelled. */
export const CancelOutcome = z.strictObject({
  job: z.string().describe("As it was asked for."),
  id: z.string().nullable().describe("Mento's id; null if unknown."),
  outcome: z
    .enum(["cancelled", "gone", "unknown", "failed"])
    .describe(
      "cancelled: it was there, and has been told to end; gone: it had ended before, or was just ending; unknown: nothing is known of it; failed: it could not be found out, or not be done.",
    ),
  end: z
    .strictObject({
      state: JobState,
      code: z.int().nullable(),
      signal: z.string().nullable(),
      reason: ExitReason.nullable(),
      at: z.iso.datetime({ offset: true }).nullable(),
    })
    .nullable()
    .describe("How it had ended, as far as that is known; null unless gone."),
  cancelledBy: CancelledBy.nullable().describe("Who asked first, if it is cancelled."),
  error: EventError.nullable().describe("Why it is unknown or failed."),
});
export type CancelOutcome = z.infer<typeof CancelOutcome>;

/** `data` of the answer to a `mento.job.cancel.v1` message with `reply_to`. */
export const CancelAnswer = z.strictObject({
  outcomes: z.array(CancelOutcome),
  outcomesCut: z.int().positive().optional().describe("So many more did not fit: ask again for these jobs."),
});
export type CancelAnswer = z.infer<typeof CancelAnswer>;

/** The bytes of an answer, at most so many: outcomes that do not fit are counted. */
export function cancelAnswerBytes({ outcomes }: CancelAnswer, most: number): Buffer {
  let kept = outcomes.length;
  for (;;) {
    const cut = outcomes.length - kept;
    const answer: CancelAnswer = { outcomes: outcomes.slice(0, kept), ...(cut > 0 && { outcomesCut: cut }) };
    const bytes = Buffer.from(JSON.stringify(answer));
    if (bytes.byteLength <= most || kept === 0) return bytes;
    kept = Math.floor(kept * Math.min(most / bytes.byteLength, 0.9));
  }
}

/** Also of a version that this Mento does not know. */
export function isJobCancel(type: string): boolean {
  return /^mento\.job\.cancel\.v\d+$/.test(type);
}

/**
 * @throws Rejected `unknown-version`, `wrong-schema`
 */
export function readJobCancel(event: CloudEvent): { jobs: string[]; reason: string | null } {
  if (event.type !== JOB_CANCEL_TYPE) {
    throw new Rejected({
      code: "unknown-version",
      message: `The message's type is ${cut(event.type, 100)}; this Mento knows ${JOB_CANCEL_TYPE}.`,
      hint: `Send ${JOB_CANCEL_TYPE}, or run a newer Mento.`,
    });
  }
  const checked = checkForm(JobCancel, event.data, { job: 1000 });
  if (checked.mistake !== undefined) {
    throw new Rejected({
      code: "wrong-schema",
      message: `The message does not fit ${JOB_CANCEL_TYPE}: ${checked.mistake}`,
      hint: "See schemas/job-cancel.json.",
    });
  }
  const { job, reason = null } = checked.data;
  return { jobs: typeof job === "string" ? [job] : job, reason };
}

/** Whether a message on a queue of tracking records is a request. */
export function isHostRequest({ type }: { type?: unknown }): boolean {
  return type === JOB_CANCEL_TYPE;
}
