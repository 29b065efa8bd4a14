import type { Trouble } from "./admission.ts";
import { Deferred, MentoError, Misconfigured, Rejected, Unavailable } from "./errors.ts";
import type { Session } from "./beamtime/session.ts";
import type { TrackingRecord } from "./jobs/tracking-record.ts";
import type { Log } from "./log.ts";
import { decodeMessage, type MessageProperties } from "./messages/cloud-event.ts";
import { validateDataReady, type DataReadyMessage } from "./messages/data-ready.ts";
import {
  jobEvent,
  messageEvent,
  type EventError,
  type JobEventData,
  type OutgoingEvent,
} from "./messages/job-event.ts";
import type { Method, Place, SubmittedJob } from "./methods/method.ts";
import { matchTriggers } from "./triggers/match.ts";
import { planJob, type JobPlan } from "./triggers/plan.ts";
import type { Trigger } from "./triggers/trigger-config.ts";

export interface ReceivedMessage {
  body: Uint8Array;
  properties: MessageProperties;
  /** When a worker of this group first had it. */
  receivedAt: Date;
  /** What an earlier look saw of data of unknown size. */
  dataLook: string | undefined;
  /** It was sent again for this trigger alone, whatever the trigger's `on` says. */
  onlyTrigger: string | undefined;
}

/** What the line needs from outside. */
export interface IntakeEffects {
  group: string;
  triggers: readonly Trigger[];
  findSession: (beamtimeId: string | undefined, paths: readonly string[]) => Promise<Session>;
  /** Waits until the session may submit so many jobs; returns what gives the turn back. */
  enter: (session: Session, jobs: number) => Promise<() => void>;
  /** What becomes of a message whose submit met trouble that is not its own. */
  report: (session: Session, trouble: Trouble) => Promise<MentoError>;
  /** Where a job of the trigger can run now; looks into Slurm, but makes nothing. */
  placeFor: (session: Session, trigger: Trigger) => Promise<Place>;
  methods: Readonly<Record<Trigger["method"], Method>>;
  /** Puts a record on the group's queue of jobs, confirmed. */
  track: (record: TrackingRecord) => Promise<void>;
  /** Publishes an event, confirmed. */
  announce: (event: OutgoingEvent) => Promise<void>;
  log: Log;
  now: () => Date;
}

/**
 * The line, first half: one data-ready message becomes submitted jobs, one for each trigger that wants it. When this
 * returns, the message is done with. Whatever it throws says what becomes of the message; see broker/intake.ts.
 *
 * Repeating it for the same message does no harm: the same jobs are found, the same events announced.
 */
export async function handleMessage(received: ReceivedMessage, effects: IntakeEffects): Promise<void> {
  const event = decodeMessage(received.body, received.properties);
  const message = validateDataReady(event);

  const { matched, unmatched } =
    received.onlyTrigger === undefined
      ? matchTriggers(message, effects.triggers)
      : { matched: [triggerNamed(received.onlyTrigger, effects.triggers)], unmatched: [] };
  if (matched.length === 0) {
    const { source, id, type } = event;
    const data = {
      cause: { source, id, type },
      beamline: message.data.beamline ?? null,
      beamtimeId: message.data.beamtimeId ?? null,
      paths: message.paths,
      error: null,
      reasons: unmatched,
    };
    await effects.announce(messageEvent("ignored", data, effects.now()));
    return;
  }

  const session = await effects.findSession(message.data.beamtimeId, message.paths);
  requireBeamline(message, session);

  const leave = await effects.enter(session, matched.length);
  try {
    const failures: unknown[] = [];
    for (const trigger of matched) {
      try {
        await runTrigger(trigger, { message, received, session }, effects);
      } catch (error) {
        if (!isTroubleOfOthers(error)) {
          failures.push(endedIfClosed(error, session));
          continue;
        }
        const told = await effects.report(session, error);
        failures.push(told);
        // Nobody can work. Else it may be this trigger's command alone, which keeps no other from its job.
        if (!(told instanceof Deferred)) break;
      }
    }
    if (failures.length > 0) throw worst(failures);
  } finally {
    leave();
  }
}

function triggerNamed(name: string, triggers: readonly Trigger[]): Trigger {
  const found = triggers.find((trigger) => trigger.name === name);
  if (found !== undefined) return found;
  throw new Rejected({
    code: "unknown-trigger",
    message: `The message was sent again for trigger ${name}, which the worker's configuration does not have.`,
    hint: `It has ${triggers.map((trigger) => trigger.name).join(", ") || "none"}; replay the message for one of them.`,
  });
}

/** The node or Slurm, not the message; the broker's trouble is the link's, and starts everything over. */
function isTroubleOfOthers(error: unknown): error is Trouble {
  if (!(error instanceof Unavailable || error instanceof Misconfigured)) return false;
  return !/^(broker|publish)-/.test(error.code);
}

/** A message, and whose it is. */
interface Resolved {
  message: DataReadyMessage;
  received: ReceivedMessage;
  session: Session;
}

/** The copy to the core file system is quick for beamtimes only (docs.desy.de/asap3, "Fast copy"). */
const DATA_TIMEOUT_SECONDS = { beamtime: 600, commissioning: 1800 };

/** Plan, submit, record, announce: each step can be repeated, and each is confirmed before the next. */
async function runTrigger(trigger: Trigger, resolved: Resolved, effects: IntakeEffects): Promise<void> {
  const { message, received, session } = resolved;
  const plan = planJob(message, trigger, session, effects.group);
  const place = await effects.placeFor(session, trigger);
  const job = await effects.methods[trigger.method].submit(plan, place, {
    dataTimeout: trigger.dataTimeout ?? DATA_TIMEOUT_SECONDS[session.kind],
    dataLook: received.dataLook,
    now: effects.now(),
  });
  effects.log.info({ job: plan.jobId, slurmJob: job.slurmJobId }, "accepted by Slurm");
  const data = submittedEvent(plan, job, resolved, job.slot?.reservation == null ? place.notice : null);
  await effects.track({
    version: 1,
    data,
    jobsDirectory: place.jobsDirectory,
    resultGlobs: trigger.results,
    resultsDirectory: plan.resultsDirectory,
    slurm: trigger.slurm,
  });
  await effects.announce(jobEvent(data, effects.now()));
}

/** One trigger's trouble does not keep the others from their jobs; of several, the one that can pass decides. */
function worst(failures: readonly unknown[]): unknown {
  for (const kind of [Unavailable, Misconfigured, Deferred]) {
    const found = failures.find((error) => error instanceof kind);
    if (found !== undefined) return found;
  }
  return failures[0];
}

/** The account of a session that is over is not accepted any more. */
function endedIfClosed(error: unknown, { id, isOpen }: Session): unknown {
  if (!(error instanceof Deferred) || error.code !== "ssh-login-refused" || isOpen) return error;
  return new Rejected({
    code: "beamtime-ended",
    message: `${id} is not open at the beamline, and its account is not accepted: it has ended. ${error.message}`,
    hint: "Have it started again, then replay the message; before its start, wait until its account is ready.",
    cause: error,
  });
}

function requireBeamline(message: DataReadyMessage, session: Session): void {
  const named = message.data.beamline;
  if (named === undefined || named.toLowerCase() === session.beamline.toLowerCase()) return;
  throw new Rejected({
    code: "wrong-beamline",
    message: `The message names beamline ${named}, but the beamtime ${session.id} is at ${session.beamline}.`,
    hint: "Correct beamline or beamtimeId; a worker is bound to its own beamline's messages with worker.keys.",
  });
}

function submittedEvent(
  plan: JobPlan,
  job: SubmittedJob,
  { message, received, session }: Resolved,
  notice: EventError | null,
): JobEventData {
  return {
    job: {
      id: plan.jobId,
      trigger: plan.trigger.name,
      method: plan.trigger.method,
      state: "submitted",
      name: job.name,
      directory: job.directory,
    },
    slurm: {
      jobId: job.slurmJobId,
      reservation: job.slot?.reservation ?? null,
      partition: job.slot?.partition ?? null,
      nodes: [],
    },
    session: { beamline: session.beamline, id: session.id, corePath: session.roots.core },
    cause: plan.cause,
    paths: plan.paths,
    times: {
      ready: message.event.time ?? null,
      received: received.receivedAt.toISOString(),
      submitted: job.submittedAt,
      started: null,
      ended: null,
    },
    exit: null,
    results: [],
    error: notice,
  };
}
