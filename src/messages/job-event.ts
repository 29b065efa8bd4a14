import * as z from "zod";
import { ERROR_CODES, type ErrorCode } from "../errors.ts";
import type { CloudEvent } from "./cloud-event.ts";
import { derivedId } from "./derived-id.ts";
import { JsonValue } from "./json.ts";

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
  "not-prepared",
  "reservation-deleted",
]);
export type ExitReason = z.infer<typeof ExitReason>;

/** The ways to run a job; MENTO's names for them are those of the library's `TriggerMethod`. */
export const JobMethod = z.enum([
  "remote-sbatch-script",
  "remote-command",
  "slurm-rest-api",
  "local-sbatch-script",
  "local-bash-script",
]);
export type JobMethod = z.infer<typeof JobMethod>;

const errorCodes = Object.keys(ERROR_CODES) as [ErrorCode, ...ErrorCode[]];

export const EventError = z.strictObject({
  code: z.enum(errorCodes),
  message: z.string().describe("What happened, in a sentence."),
  hint: z.string().describe("What to do about it."),
});
export type EventError = z.infer<typeof EventError>;

export const Cause = z.strictObject({ source: z.string(), id: z.string(), type: z.string() });
export type Cause = z.infer<typeof Cause>;

const CorrelationId = z
  .string()
  .nullable()
  .describe("The data-ready message's own `correlation_id`; null if it had none.");

const time = z.iso.datetime({ offset: true }).nullable();

export const JobResult = z.strictObject({
  path: z.string().describe("On the core file system."),
  beamlinePath: z.string().nullable().describe("As seen at the beamline; null where it is not."),
  bytes: z.int().nonnegative(),
  mediaType: z.string(),
});
export type JobResult = z.infer<typeof JobResult>;

/** What a message says of its data, beside the paths: the same in all events that come of it. */
export const MessageFacts = z.strictObject({
  detector: z.string().nullable(),
  technique: z.string().nullable(),
  scan: z.union([z.string(), z.int()]).nullable(),
  sample: z.string().nullable(),
  parameters: z.record(z.string(), JsonValue),
});
export type MessageFacts = z.infer<typeof MessageFacts>;

/** A job that led to another. */
export const ChainLink = z.strictObject({ job: z.string(), trigger: z.string() });
export type ChainLink = z.infer<typeof ChainLink>;

export const CancelledBy = z.strictObject({ who: z.string(), reason: z.string().nullable() });
export type CancelledBy = z.infer<typeof CancelledBy>;

function left(what: string, where = "") {
  return z
    .int()
    .positive()
    .optional()
    .describe(`How many more ${what} there were than an event may have; absent: these are all.${where}`);
}

/** `data` of every `mento.job.*.v1` event. */
export const JobEventData = z.strictObject({
  group: z.string().describe("The worker group that runs the job."),
  job: z.strictObject({
    id: z.string(),
    trigger: z.string(),
    method: JobMethod,
    state: JobState,
    name: z.string(),
    directory: z
      .string()
      .describe("The job directory: on the core file system, or on the host of a local-bash-script."),
  }),
  slurm: z.strictObject({
    jobId: z.string().nullable().describe("null for a job outside Slurm."),
    reservation: z.string().nullable(),
    partition: z.string().nullable(),
    nodes: z.array(z.string()),
  }),
  process: z
    .strictObject({ host: z.string(), pid: z.int() })
    .nullable()
    .describe(
      "Where a job outside Slurm runs; null for a Slurm job. The host is empty if its record names none of the session's nodes.",
    ),
  session: z
    .strictObject({
      beamline: z.string().nullable(),
      id: z.string().nullable(),
      corePath: z.string().nullable(),
    })
    .describe("All null for a local-bash-script's job while no session is open."),
  cause: Cause.describe("The data-ready message that all of a chain comes from."),
  correlationId: CorrelationId,
  chain: z
    .array(ChainLink)
    .describe(
      "The jobs whose events led here, the first one first; empty for a data-ready message's own job.",
    ),
  message: MessageFacts,
  paths: z
    .array(z.string())
    .describe("The data, on the core file system; as the message names it while no session is open."),
  times: z.strictObject({
    ready: time.describe("When the data was ready, as the message says; null if it does not."),
    received: time.describe("When a worker of the group first had the message."),
    submitted: time.describe(
      "When Slurm had the job, or its process began; over the REST API when the request was sent. Of a job that was submitted again: when it was.",
    ),
    started: time.describe("When the job's script began on its node."),
    ended: time.describe(
      "When the program ended. Of a job that left no record of that: when Slurm says that it ended, to the second, or when the worker saw it.",
    ),
  }),
  exit: z
    .strictObject({
      code: z.int().nullable(),
      signal: z.string().nullable(),
      reason: ExitReason.nullable(),
    })
    .nullable()
    .describe("null until the job has ended."),
  cancelledBy: CancelledBy.nullable().describe(
    "Who asked Mento to cancel it; null unless cancelled, and null if somebody cancelled it in Slurm.",
  ),
  results: z.array(JobResult),
  resultsCut: left("results", " `all-results.<run>` in the job directory names all, each ended by NUL."),
  resultsUnknown: z
    .literal(true)
    .optional()
    .describe("Nobody knows which results there are: the job left no record of its end, or no list of them."),
  resultsNotCopied: z
    .int()
    .positive()
    .optional()
    .describe("How many results were to be copied to the beamline and were not; the job's log says why."),
  error: EventError.nullable(),
  notes: z
    .array(z.string())
    .optional()
    .describe(
      "Of job.submitted, for a person: which directives of the user's own sbatch script are left out, which reservations of the session were not taken, and why.",
    ),
  pathsCut: left("paths"),
  parametersCut: z.literal(true).optional().describe("The event was too large for the message's parameters."),
});
export type JobEventData = z.infer<typeof JobEventData>;

/** Why a message was ignored. */
export const IgnoredReason = z.enum(["no-trigger", "superseded", "already-run"]);

/** A job that had run for a message before. */
export const EarlierJob = z.strictObject({
  id: z.string(),
  slurmJobId: z.string().nullable().describe("null for a job outside Slurm."),
  submitted: z.iso.datetime({ offset: true }),
  ended: z.iso.datetime({ offset: true }),
});
export type EarlierJob = z.infer<typeof EarlierJob>;

/** `data` of `mento.message.rejected.v1`, `.deferred.v1` and `.ignored.v1`. */
export const MessageEventData = z.strictObject({
  group: z.string().describe("The worker group that says so."),
  cause: Cause,
  correlationId: CorrelationId,
  beamline: z.string().nullable(),
  beamtimeId: z.string().nullable(),
  paths: z.array(z.string()),
  error: EventError.nullable().describe("Why it was rejected or deferred; null if ignored."),
  reason: IgnoredReason.nullable().describe(
    "Of an ignored one: no trigger wanted it, a newer one has overtaken it, or all its jobs had run before it came; else null.",
  ),
  reasons: z
    .array(z.strictObject({ trigger: z.string(), reason: z.string(), job: EarlierJob.optional() }))
    .describe("The same trigger by trigger, with the job that has run; empty unless ignored."),
  givesUpAt: time
    .optional()
    .describe(
      "Of a deferred one: when it is rejected (waited-too-long), if nothing changes; null: it waits for as long as that takes.",
    ),
  reasonsCut: left("reasons"),
  pathsCut: left("paths"),
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
  /** The job's W3C trace context. */
  traceparent?: string | undefined;
  data: JobEventData | MessageEventData;
}

/**
 * A job's event. Its id is derived, and its time is that of what it tells, so that an event announced twice is the same
 * event. `again` is the Slurm job of one that was submitted again. What follows from the event belongs to the job's trace.
 *
 * @param at when it was, if the job's times do not say it
 */
export function jobEvent(
  data: JobEventData,
  at: Date,
  { again = "", traceparent }: { again?: string; traceparent?: string | undefined } = {},
): OutgoingEvent {
  const { job, session } = data;
  return {
    id: `${job.id}/${job.state}${again && `/${again}`}`,
    type: `mento.job.${job.state}.v1`,
    routingKey: routingKey(session.beamline, session.id, `job.${job.state}`),
    time: momentOf(data) ?? at.toISOString(),
    traceparent,
    data,
  };
}

/** When it was that the event tells of, if the job's times say it. */
function momentOf({ job, times }: JobEventData): string | null {
  if (job.state === "lost") return null;
  if (job.state === "submitted") return times.submitted;
  return job.state === "started" ? times.started : times.ended;
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
export function toCloudEvent(
  event: OutgoingEvent,
  source: string,
): CloudEvent & { data: OutgoingEvent["data"] } {
  return {
    specversion: "1.0",
    id: event.id,
    source,
    type: event.type,
    time: event.time,
    datacontenttype: "application/json",
    ...(event.traceparent === undefined ? {} : { traceparent: event.traceparent }),
    data: event.data,
  };
}

/** `<beamline>.<session id>.<event>`; a dot inside a name is written `-`, an unknown part `-`. */
export function routingKey(beamline: string | null, sessionId: string | null, event: string): string {
  // AMQP's routing keys have at most 255 bytes.
  const word = (name: string | null) => (name ?? "").replace(/[^A-Za-z0-9_-]/g, "-").slice(0, 80) || "-";
  return `${word(beamline)}.${word(sessionId)}.${event}`;
}
