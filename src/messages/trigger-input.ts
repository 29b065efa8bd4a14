import { Rejected } from "../errors.ts";
import { checkForm } from "./check-form.ts";
import type { CloudEvent } from "./cloud-event.ts";
import { MAX_PATHS, validateDataReady } from "./data-ready.ts";
import { JobEventData, type Cause, type ChainLink, type MessageFacts } from "./job-event.ts";
import { normalPath } from "./path-text.ts";

/** What can start a trigger: the type of a message or event without `mento.` and version. */
export const INPUT_TYPES = [
  "data.ready",
  "job.completed",
  "job.failed",
  "job.cancelled",
  "job.lost",
] as const;
export type InputType = (typeof INPUT_TYPES)[number];

/** A message or an event as triggers see it: the end of one trigger's job can start another. */
export interface TriggerInput {
  type: InputType;
  event: CloudEvent;
  /** The data-ready message that it all comes from; of such a message, itself. */
  cause: Cause;
  /** The jobs that led here, the one of this event last. */
  chain: readonly ChainLink[];
  /** The job whose event this is. */
  job: JobEventData | null;
  /** The data-ready message's own time. */
  ready: string | null;
  beamline: string | null;
  beamtimeId: string | null;
  /** In whichever view the message has them; without `..`, as far as that can be found out. */
  paths: readonly string[];
  /** Expected sizes in the order of `paths`. */
  bytes: readonly number[] | undefined;
  facts: MessageFacts;
  /** What the data-ready message's sender knows it by (AMQP's correlation_id). */
  correlationId: string | null;
}

/** No event of a worker has more: it has at most a message's paths, and ends at 1 MiB. */
const MOST_IN_EVENT = { paths: MAX_PATHS, results: 20_000, chain: 100, "slurm.nodes": 20_000 };

const JOB_TYPE = /^mento\.(job\.(?:completed|failed|cancelled|lost))\.v1$/;

/**
 * @param correlationId of a data-ready message
 * @throws Rejected `unknown-type`, `unknown-version`, `wrong-schema`
 */
export function readTriggerInput(event: CloudEvent, correlationId?: string): TriggerInput {
  const jobType = JOB_TYPE.exec(event.type)?.[1];
  return jobType === undefined
    ? fromDataReady(event, correlationId ?? null)
    : fromJobEvent(event, jobType as InputType);
}

/**
 * Events of jobs count only from the exchange of Mento's events, where producers may not publish.
 *
 * @throws Rejected `event-not-believed`
 */
export function requireFromEvents({ job, event: { type } }: TriggerInput, isFromEvents: boolean): void {
  if (job === null || isFromEvents) return;
  throw new Rejected({
    code: "event-not-believed",
    message: `An event of type ${type} came by the exchange for data: it may be anybody's.`,
    hint: "Events of jobs start triggers only where workers announce them: on the exchange of Mento's events.",
  });
}

function fromDataReady(event: CloudEvent, correlationId: string | null): TriggerInput {
  const { data, paths, bytes } = validateDataReady(event);
  const { detector, technique, scan, sample, parameters } = data;
  return {
    type: "data.ready",
    event,
    cause: { source: event.source, id: event.id, type: event.type },
    chain: [],
    job: null,
    ready: event.time ?? null,
    beamline: data.beamline ?? null,
    beamtimeId: data.beamtimeId ?? null,
    paths: paths.map(withoutSteps),
    bytes,
    facts: {
      detector: detector ?? null,
      technique: technique ?? null,
      scan: scan ?? null,
      sample: sample ?? null,
      parameters: parameters ?? {},
    },
    correlationId,
  };
}

/** Once: all that looks at a path again finds it as it is. */
function withoutSteps(path: string): string {
  return normalPath(path) || path;
}

function fromJobEvent(event: CloudEvent, type: InputType): TriggerInput {
  const checked = checkForm(JobEventData, event.data, MOST_IN_EVENT);
  if (checked.mistake !== undefined) {
    throw new Rejected({
      code: "wrong-schema",
      message: `The event does not fit ${event.type}: ${checked.mistake}`,
      hint: "Another version of Mento may have announced it; see schemas/job-event.json.",
    });
  }
  const { data: job } = checked;
  return {
    type,
    event,
    cause: job.cause,
    chain: [...job.chain, { job: job.job.id, trigger: job.job.trigger }],
    job,
    ready: job.times.ready,
    beamline: job.session.beamline,
    beamtimeId: job.session.id,
    paths: job.paths.map(withoutSteps),
    // The data was whole when the first job was submitted.
    bytes: undefined,
    facts: job.message,
    correlationId: job.correlationId,
  };
}
