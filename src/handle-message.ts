import type { Trouble } from "./admission.ts";
import type { Collected } from "./collect-array.ts";
import { Deferred, MentoError, Misconfigured, Rejected, Unavailable } from "./errors.ts";
import type { Session } from "./beamtime/session.ts";
import { submittedData } from "./jobs/event-data.ts";
import type { TrackingRecord } from "./jobs/tracking-record.ts";
import type { Log } from "./log.ts";
import { decodeMessage, type MessageProperties } from "./messages/cloud-event.ts";
import { jobEvent, messageEvent, type MessageEventData, type OutgoingEvent } from "./messages/job-event.ts";
import { readTriggerInput, type TriggerInput } from "./messages/trigger-input.ts";
import type { Method, Place, SubmitOptions } from "./methods/method.ts";
import type { PlaceWish } from "./session-places.ts";
import { matchTriggers } from "./triggers/match.ts";
import { HERE, planJob, type JobPlan } from "./triggers/plan.ts";
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
  placeFor: (session: Session | null, wish: PlaceWish) => Promise<Place>;
  methods: Readonly<Record<Trigger["method"], Method>>;
  /** Submits the job together with others of its trigger, when these have come or a time has passed. */
  collect: (session: Session, plan: JobPlan, options: SubmitOptions) => Promise<Collected>;
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
  const input = readTriggerInput(decodeMessage(received.body, received.properties));
  const { matched, unmatched } =
    received.onlyTrigger === undefined
      ? matchTriggers(input, effects.triggers)
      : { matched: [triggerNamed(received.onlyTrigger, effects.triggers)], unmatched: [] };
  if (matched.length === 0) {
    // Nobody needs to be told that the end of a job starts nothing.
    if (input.job === null) await effects.announce(ignoredEvent(input, unmatched, effects.now()));
    return;
  }

  const here = matched.filter(({ method }) => HERE.includes(method));
  const elsewhere = matched.filter((trigger) => !here.includes(trigger));
  const failures: unknown[] = [];
  const session = await effects
    .findSession(input.beamtimeId ?? undefined, input.paths)
    .catch((error: unknown) => {
      // What runs here needs no open session.
      if (here.length === 0 || !(error instanceof MentoError)) throw error;
      if (elsewhere.length > 0) failures.push(error);
      return null;
    });
  if (session !== null) requireBeamline(input, session);
  for (const trigger of here) {
    const running = runTrigger(trigger, { input, received, session }, effects);
    await running.catch((error: unknown) => failures.push(error));
  }
  if (session !== null && elsewhere.length > 0) {
    failures.push(...(await runTriggers(elsewhere, { input, received, session }, effects)));
  }
  if (failures.length > 0) throw worst(failures);
}

/** The triggers whose jobs run at the session's nodes: by themselves or in arrays, which may take their time. */
async function runTriggers(
  triggers: readonly Trigger[],
  resolved: Resolved & { session: Session },
  effects: IntakeEffects,
): Promise<unknown[]> {
  const alone = triggers.filter(({ array }) => array === undefined);
  const inArrays = triggers.filter((trigger) => !alone.includes(trigger));
  const failures: unknown[] = [];
  const works = inArrays.map(async (trigger) => {
    const failure = await tryTrigger(trigger, resolved, effects);
    if (failure !== undefined) failures.push(failure);
  });
  if (alone.length > 0) works.push(runInTurn(alone, resolved, effects, failures));
  await Promise.all(works.map((work) => work.catch((error: unknown) => failures.push(error))));
  return failures;
}

/** In the session's turn, and until nobody can work. */
async function runInTurn(
  triggers: readonly Trigger[],
  resolved: Resolved & { session: Session },
  effects: IntakeEffects,
  failures: unknown[],
): Promise<void> {
  const leave = await effects.enter(resolved.session, triggers.length);
  try {
    for (const trigger of triggers) {
      const failure = await tryTrigger(trigger, resolved, effects);
      if (failure === undefined) continue;
      failures.push(failure);
      // Nobody can work. Else it may be this trigger's command alone, which keeps no other from its job.
      if (isTroubleOfOthers(failure)) break;
    }
  } finally {
    leave();
  }
}

/** Runs a trigger, or says what becomes of the message. */
async function tryTrigger(
  trigger: Trigger,
  resolved: Resolved & { session: Session },
  effects: IntakeEffects,
): Promise<unknown> {
  const { session } = resolved;
  try {
    await runTrigger(trigger, resolved, effects);
    return undefined;
  } catch (error) {
    if (!isTroubleOfOthers(error)) return endedIfClosed(error, session);
    return effects.report(session, error);
  }
}

function ignoredEvent(input: TriggerInput, reasons: MessageEventData["reasons"], now: Date): OutgoingEvent {
  const { cause, beamline, beamtimeId, paths } = input;
  return messageEvent(
    "ignored",
    { cause, beamline, beamtimeId, paths: [...paths], error: null, reasons },
    now,
  );
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
  input: TriggerInput;
  received: ReceivedMessage;
  session: Session | null;
}

/** The copy to the core file system is quick for beamtimes only (docs.desy.de/asap3, "Fast copy"). */
const DATA_TIMEOUT_SECONDS = { beamtime: 600, commissioning: 1800 };

/** Plan, submit, record, announce: each step can be repeated, and each is confirmed before the next. */
async function runTrigger(trigger: Trigger, resolved: Resolved, effects: IntakeEffects): Promise<void> {
  const { input, received, session } = resolved;
  const plan = planJob(input, trigger, session, effects.group);
  const options = {
    dataTimeout: trigger.dataTimeout ?? DATA_TIMEOUT_SECONDS[session?.kind ?? "beamtime"],
    dataLook: received.dataLook,
    now: effects.now(),
  };
  const { job, place } =
    trigger.array === undefined || session === null
      ? await submit(plan, session, options, effects)
      : await effects.collect(session, plan, options);
  effects.log.info({ job: plan.jobId, slurmJob: job.slurmJobId, process: job.process }, "submitted");
  const data = submittedData(plan, job, {
    ready: input.event.time ?? null,
    received: received.receivedAt,
    notice: job.slot?.reservation == null ? place.notice : null,
  });
  await effects.track({
    version: 1,
    data,
    jobsDirectory: place.jobsDirectory,
    slurm: place.slurm,
    ...(job.arrayId !== null && { arrayId: job.arrayId }),
  });
  await effects.announce(jobEvent(data, effects.now()));
}

async function submit(
  plan: JobPlan,
  session: Session | null,
  options: SubmitOptions,
  effects: IntakeEffects,
): Promise<Collected> {
  const { trigger, argv } = plan;
  const place = await effects.placeFor(session, { ...trigger, program: argv[0] });
  return { place, job: await effects.methods[trigger.method].submit(plan, place, options) };
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

function requireBeamline({ beamline: named }: TriggerInput, session: Session): void {
  if (named === null || named.toLowerCase() === session.beamline.toLowerCase()) return;
  throw new Rejected({
    code: "wrong-beamline",
    message: `The message names beamline ${named}, but the beamtime ${session.id} is at ${session.beamline}.`,
    hint: "Correct beamline or beamtimeId; a worker is bound to its own beamline's messages with worker.keys.",
  });
}
