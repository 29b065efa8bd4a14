import type { Trouble } from "./admission.ts";
import type { Collected } from "./collect-array.ts";
import { Deferred, MentoError, Misconfigured, Rejected, Superseded, Unavailable } from "../errors.ts";
import type { Session } from "../beamtime/session.ts";
import type { Seats } from "../jobs/seats.ts";
import type { TrackingRecord } from "../tracking/tracking-record.ts";
import { turnToRead } from "../messages/large-turns.ts";
import { matchInTurns } from "./match-in-turns.ts";
import type { Log } from "../log.ts";
import { decodeMessage, type MessageProperties } from "../messages/cloud-event.ts";
import { jobEvent, messageEvent, type MessageEventData, type OutgoingEvent } from "../messages/job-event.ts";
import type { Outgoing } from "../messages/sent-again.ts";
import { readTriggerInput, requireFromEvents, type TriggerInput } from "../messages/trigger-input.ts";
import type { Method, Place, SubmitOptions } from "../submission/method.ts";
import { notesOf } from "../submission/sbatch.ts";
import type { PlaceWish } from "../submission/session-places.ts";
import { HERE, jobIdFor, planJob, type JobPlan, type JobsFolderOf } from "../triggers/plan.ts";
import type { Trigger } from "../triggers/trigger-config.ts";
import { hasTurns, turnOf, type Turn } from "../triggers/turns.ts";
import { submittedData } from "../submission/submitted-data.ts";

export interface ReceivedMessage {
  body: Uint8Array;
  properties: MessageProperties;
  /** It was published to the exchange of Mento's events, where producers may not. */
  isFromEvents: boolean;
  /** When a worker of this group first had it. */
  receivedAt: Date;
  /** What an earlier look saw of data of unknown size. */
  dataLook: string | undefined;
  /** It was sent again for this trigger alone, whatever the trigger's `on` says. */
  onlyTrigger: string | undefined;
  /** Names of triggers whose queues it has been put into; grows as it is. */
  queuedFor: string[];
  /** Where it waits in the queue of a trigger. */
  queuedTurn: QueuedTurn | undefined;
  /** Workers that had it have ended, so often that it is not to be tried now; there it can still wait. */
  cameBack?: MentoError | undefined;
  /** Its turn in that queue has come, or a newer message has overtaken it. */
  turn?: "now" | { overtakenBy: string };
  /** The message as it is put into the queue of a trigger. */
  copyFor: (trigger: string, turn: QueuedTurn) => Outgoing;
}

/** What the copy of a message says of its turn. */
export interface QueuedTurn {
  /** See triggers/turns.ts. */
  door: string;
  order: string;
  /** The session that it was found to belong to. */
  session: string | null;
  beamline: string | null;
}

/** What the line needs from outside. */
export interface IntakeEffects {
  group: string;
  triggers: readonly Trigger[];
  /** Where the configuration has the directories of jobs. */
  jobsFolderOf?: JobsFolderOf;
  findSession: (beamtimeId: string | undefined, paths: readonly string[]) => Promise<Session>;
  /** Waits until the session may submit so many jobs; returns what gives the turn back. */
  enter: (session: Session, jobs: number, priority: number) => Promise<() => void>;
  /** What becomes of a message whose submit met trouble that is not its own. */
  report: (session: Session, trouble: Trouble) => Promise<MentoError>;
  /** Where a job of the trigger can run now; looks into Slurm, but makes nothing. */
  placeFor: (session: Session | null, wish: PlaceWish) => Promise<Place>;
  /** Looks whether there are seats for the job; throws as `submit` does if not. */
  requireRoom: (session: Session | null, plan: JobPlan, seats: Seats) => Promise<void>;
  /** Puts a copy of the message into the queue of the trigger, confirmed. */
  queueFor: (trigger: string, copy: Outgoing) => Promise<void>;
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
 * returns, the message is done with. Whatever it throws says what becomes of the message; see intake.ts.
 *
 * Repeating it for the same message does no harm: the same jobs are found, the same events announced.
 */
export async function handleMessage(received: ReceivedMessage, effects: IntakeEffects): Promise<void> {
  const input = readTriggerInput(decodeMessage(received.body, received.properties));
  requireFromEvents(input, received.isFromEvents);
  const { matched, unmatched } =
    received.onlyTrigger === undefined
      ? await matchInTurns(input, received.body.byteLength, effects.triggers)
      : { matched: [triggerNamed(received.onlyTrigger, effects.triggers)], unmatched: [] };
  const { turn } = received;
  if (typeof turn === "object") {
    for (const trigger of matched)
      await announceSuperseded(trigger, turn.overtakenBy, input, received, effects);
    return;
  }
  if (matched.length === 0) {
    // Nobody needs to be told that the end of a job starts nothing.
    if (input.job === null) await effects.announce(ignoredEvent(input, unmatched, effects.now()));
    return;
  }

  const wanted = matched
    .filter(({ name }) => !received.queuedFor.includes(name))
    .sort((one, other) => other.priority - one.priority);
  const here = wanted.filter(({ method }) => HERE.includes(method));
  const elsewhere = wanted.filter((trigger) => !here.includes(trigger));
  const failures: unknown[] = [];
  const session = await effects
    .findSession(input.beamtimeId ?? undefined, input.paths)
    .catch((error: unknown) => {
      // What runs here needs no open session, unless it is an event that says which it is of.
      const needsSession = here.length === 0 || (input.job !== null && input.job.session.id !== null);
      if (needsSession || !(error instanceof MentoError)) throw error;
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
  if (alone.length > 0) {
    const run = resolved.received.turn === "now" ? runAfterLook : runInTurn;
    works.push(run(alone, resolved, effects, failures));
  }
  await Promise.all(works.map((work) => work.catch((error: unknown) => failures.push(error))));
  return failures;
}

/** When their turn with their trigger has come: a look for room that is in vain takes no turn of the session's. */
async function runAfterLook(
  triggers: readonly Trigger[],
  resolved: Resolved & { session: Session },
  effects: IntakeEffects,
  failures: unknown[],
): Promise<void> {
  for (const trigger of triggers) {
    const enter = () => effects.enter(resolved.session, 1, trigger.priority);
    const failure = await tryTrigger(trigger, { ...resolved, enter }, effects);
    if (failure !== undefined) failures.push(failure);
  }
}

/** In the session's turn, and until nobody can work. */
async function runInTurn(
  triggers: readonly Trigger[],
  resolved: Resolved & { session: Session },
  effects: IntakeEffects,
  failures: unknown[],
): Promise<void> {
  const { session } = resolved;
  const submits = triggers.filter((trigger) => !hasTurns(trigger));
  const priority = Math.max(...triggers.map((trigger) => trigger.priority));
  const leave = await effects.enter(session, submits.length, priority);
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

/** Of this one trigger's job, which the event's id tells from others of the message. */
async function announceSuperseded(
  { name }: Trigger,
  by: string,
  input: TriggerInput,
  { queuedTurn }: ReceivedMessage,
  { announce, group, now }: IntakeEffects,
): Promise<void> {
  const { cause, paths } = input;
  const data = {
    cause,
    beamline: input.beamline ?? queuedTurn?.beamline ?? null,
    beamtimeId: input.beamtimeId ?? queuedTurn?.session ?? null,
    paths: [...paths],
    error: null,
    reasons: [{ trigger: name, reason: new Superseded(by).message }],
  };
  await announce(messageEvent("ignored", data, now(), jobIdFor(input.event, group, name)));
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
  /** Waits for a turn of the session's, if it has none yet. */
  enter?: () => Promise<() => void>;
}

/** The copy to the core file system is quick for beamtimes only (docs.desy.de/asap3, "Fast copy"). */
const DATA_TIMEOUT_SECONDS = { beamtime: 600, commissioning: 1800 };

async function runTrigger(trigger: Trigger, resolved: Resolved, effects: IntakeEffects): Promise<void> {
  const { input, received } = resolved;
  try {
    await submitOrQueue(trigger, resolved, effects);
  } catch (error) {
    if (!(error instanceof Superseded)) throw error;
    await announceSuperseded(trigger, error.by, input, received, effects);
  }
}

/**
 * Plan, submit, record, announce: each step can be repeated, and each is confirmed before the next. A trigger whose jobs
 * are counted has a queue of its own, where a message whose data is whole waits for its turn.
 */
async function submitOrQueue(trigger: Trigger, resolved: Resolved, effects: IntakeEffects): Promise<void> {
  const { input, received, session } = resolved;
  await turnToRead(received.body.byteLength);
  const plan = planJob(input, trigger, session, effects.group, effects.jobsFolderOf);
  const turn = turnOf(plan, input, received.receivedAt, effects.group);
  const options: SubmitOptions = {
    dataTimeout: trigger.dataTimeout ?? DATA_TIMEOUT_SECONDS[session?.kind ?? "beamtime"],
    dataLook: received.dataLook,
    seats: turn?.seats ?? null,
    now: effects.now(),
  };
  const submitted =
    trigger.array === undefined || session === null
      ? await submitAlone(plan, turn, options, resolved, effects)
      : await effects.collect(session, plan, options);
  if (submitted === undefined) return;
  const { job, place } = submitted;
  const notes = notesOf(plan, place);
  const said = notes.length > 0 ? { notes } : {};
  effects.log.info({ job: plan.jobId, slurmJob: job.slurmJobId, process: job.process, ...said }, "submitted");
  const data = submittedData(plan, job, {
    ready: input.ready,
    received: received.receivedAt,
    notice: job.slot?.reservation == null ? place.notice : null,
  });
  await effects.track({
    version: 1,
    data,
    traceparent: plan.traceparent,
    jobsDirectory: place.jobsDirectory,
    slurm: place.slurm,
    ...(job.arrayId !== null && { arrayId: job.arrayId }),
    ...(trigger.retries > 0 && { retries: trigger.retries }),
    priority: trigger.priority,
    ...(turn === null ? {} : { rows: turn.seats.rows.map(({ name }) => name) }),
  });
  await effects.announce(jobEvent({ ...data, ...said }, effects.now(), { traceparent: plan.traceparent }));
}

/** Undefined: the message waits for its turn, in the queue of the trigger. */
async function submitAlone(
  plan: JobPlan,
  turn: Turn | null,
  options: SubmitOptions,
  resolved: Resolved,
  effects: IntakeEffects,
): Promise<Collected | undefined> {
  const mustWait = turn !== null && resolved.received.turn === undefined;
  if (turn !== null && !mustWait) await effects.requireRoom(resolved.session, plan, turn.seats);
  if (resolved.received.cameBack !== undefined) throw resolved.received.cameBack;
  const leave = await resolved.enter?.();
  try {
    return await findOrSubmit(plan, mustWait ? turn : null, options, resolved, effects);
  } finally {
    leave?.();
  }
}

async function findOrSubmit(
  plan: JobPlan,
  waitsAt: Turn | null,
  options: SubmitOptions,
  { received, session }: Resolved,
  effects: IntakeEffects,
): Promise<Collected | undefined> {
  const { trigger, argv } = plan;
  const place = await effects.placeFor(session, { ...trigger, program: argv[0] });
  const method = effects.methods[trigger.method];
  const found = waitsAt === null ? null : await method.find?.(plan, place, options);
  if (waitsAt === null || found != null)
    return { place, job: found ?? (await method.submit(plan, place, options)) };
  if (place.slot instanceof MentoError) throw place.slot;
  const { door, order } = waitsAt;
  const { beamline = null, id = null } = session ?? {};
  await effects.queueFor(
    trigger.name,
    received.copyFor(trigger.name, { door, order, beamline, session: id }),
  );
  received.queuedFor.push(trigger.name);
  return undefined;
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
  const isShut = error instanceof Deferred && ["ssh-login-refused", "login-shell"].includes(error.code);
  if (!isShut || isOpen) return error;
  return new Rejected({
    code: "beamtime-ended",
    message: `${id} is not open at the beamline, and its account is not accepted: it has ended. ${error.message}`,
    hint: "Have it started again, then replay the message; before its start, wait until its account is ready.",
    cause: error,
  });
}

/** @throws Rejected `wrong-beamline` */
export function requireBeamline(
  { beamline: named }: Pick<TriggerInput, "beamline">,
  session: Pick<Session, "id" | "beamline">,
): void {
  if (named === null || named.toLowerCase() === session.beamline.toLowerCase()) return;
  throw new Rejected({
    code: "wrong-beamline",
    message: `The message names beamline ${named}, but the beamtime ${session.id} is at ${session.beamline}.`,
    hint: "Correct beamline or beamtimeId; a worker is bound to its own beamline's messages with worker.keys.",
  });
}
