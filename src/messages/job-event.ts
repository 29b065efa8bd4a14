import { z } from "zod";
import { ERROR_CODES, type ErrorCode } from "../errors.ts";
import type { CloudEvent } from "./cloud-event.ts";
import { derivedId } from "./derived-id.ts";

/** What a job can be. The transitions between these are in jobs/job.ts. */
export const JobState = z.enum(["submitted", "started", "completed", "failed", "cancelled", "lost"]);
export type JobState = z.infer<typeof JobState>;

export const ExitReason = z.enum([
  "exit-code",
  "signal",
  "timeout",
  "out-of-memory",
  "node-failure",
  "preempted",
  "deadline",
  "launch-failed",
  "reservation-deleted",
]);
export type ExitReason = z.infer<typeof ExitReason>;

const errorCodes = Object.keys(ERROR_CODES) as [ErrorCode, ...ErrorCode[]];

export const EventError = z.strictObject({
  code: z.enum(errorCodes),
  message: z.string().describe("What happened, in a sentence."),
  hint: z.string().describe("What to do about it."),
});
export type EventError = z.infer<typeof EventError>;

export const Cause = z.strictObject({ source: z.string(), id: z.string(), type: z.string() });
export type Cause = z.infer<typeof Cause>;

const time = z.iso.datetime({ offset: true }).nullable();

export const JobResult = z.strictObject({
  path: z.string().describe("On the core file system."),
  beamlinePath: z.string().nullable().describe("As seen at the beamline; null where it is not."),
  bytes: z.int().nonnegative(),
  mediaType: z.string(),
});
export type JobResult = z.infer<typeof JobResult>;

/** `data` of every `mento.job.*.v1` event. */
export const JobEventData = z.strictObject({
  job: z.strictObject({
    id: z.string(),
    trigger: z.string(),
    method: z.literal("remote-sbatch-script"),
    state: JobState,
    name: z.string(),
    directory: z.string().describe("The job directory, on the core file system."),
  }),
  slurm: z.strictObject({
    jobId: z.string(),
    reservation: z.string().nullable(),
    partition: z.string().nullable(),
    nodes: z.array(z.string()),
  }),
  session: z.strictObject({ beamline: z.string(), id: z.string(), corePath: z.string() }),
  cause: Cause,
  paths: z.array(z.string()).describe("The data, on the core file system."),
  times: z.strictObject({ ready: time, received: time, submitted: time, started: time, ended: time }),
  exit: z
    .strictObject({
      code: z.int().nullable(),
      signal: z.string().nullable(),
      reason: ExitReason.nullable(),
    })
    .nullable()
    .describe("null until the job has ended."),
  results: z.array(JobResult),
  error: EventError.nullable(),
});
export type JobEventData = z.infer<typeof JobEventData>;

/** `data` of `mento.message.rejected.v1`, `.deferred.v1` and `.ignored.v1`. */
export const MessageEventData = z.strictObject({
  cause: Cause,
  beamline: z.string().nullable(),
  beamtimeId: z.string().nullable(),
  paths: z.array(z.string()),
  error: EventError.nullable().describe("Why it was rejected or deferred; null if ignored."),
  reasons: z
    .array(z.strictObject({ trigger: z.string(), reason: z.string() }))
    .describe("Why each trigger did not want it; empty unless ignored."),
});
export type MessageEventData = z.infer<typeof MessageEventData>;

export type MessageOutcome = "rejected" | "deferred" | "ignored";

/** An event to be announced: the envelope's fields that differ, and the data. */
export interface OutgoingEvent {
  id: string;
  type: string;
  /** `<beamline>.<session id>.<event>` on the exchange `mento.events`. */
  routingKey: string;
  time: string;
  data: JobEventData | MessageEventData;
}

/**
 * A job's event. Its id is derived, so that an event announced twice is the same event; `again` is the Slurm job of one
 * that was submitted again.
 */
export function jobEvent(data: JobEventData, now: Date, again = ""): OutgoingEvent {
  const { job, session } = data;
  return {
    id: `${job.id}/${job.state}${again && `/${again}`}`,
    type: `mento.job.${job.state}.v1`,
    routingKey: routingKey(session.beamline, session.id, `job.${job.state}`),
    time: now.toISOString(),
    data,
  };
}

/** What became of a message that did not become a job. `discriminator` tells two deferrals of one message apart. */
export function messageEvent(
  outcome: MessageOutcome,
  data: MessageEventData,
  now: Date,
  discriminator = "",
): OutgoingEvent {
  const id = `${derivedId(data.cause.source, data.cause.id)}/${outcome}${discriminator && `/${discriminator}`}`;
  return {
    id,
    type: `mento.message.${outcome}.v1`,
    routingKey: routingKey(data.beamline, data.beamtimeId, `message.${outcome}`),
    time: now.toISOString(),
    data,
  };
}

/** The structured form that goes over the wire. */
export function toCloudEvent(event: OutgoingEvent, source: string): CloudEvent {
  return {
    specversion: "1.0",
    id: event.id,
    source,
    type: event.type,
    time: event.time,
    datacontenttype: "application/json",
    data: event.data,
  };
}

/** `<beamline>.<session id>.<event>`; a dot inside a name is written `-`, an unknown part `-`. */
export function routingKey(beamline: string | null, sessionId: string | null, event: string): string {
  // AMQP's routing keys have at most 255 bytes.
  const word = (name: string | null) => (name ?? "").replace(/[^A-Za-z0-9_-]/g, "-").slice(0, 80) || "-";
  return `${word(beamline)}.${word(sessionId)}.${event}`;
}
