import { ownFailure } from "./admission.ts";
import type { Collected } from "./collect-array.ts";
import {
  Deferred,
  isOutage,
  MentoError,
  Misconfigured,
  Rejected,
  Superseded,
  Unavailable,
} from "../errors.ts";
import type { Session } from "../beamtime/session.ts";
import { yieldForLarge } from "../messages/yield-for-large.ts";
import { alreadyRun, hasRunBefore, overtaken, unwanted, type RanBefore } from "./ignored.ts";
import { matchInSlices } from "./match-in-slices.ts";
import type { Message, MessageDeps, ReceivedMessage } from "./message.ts";
import { decodeMessage } from "../messages/cloud-event.ts";
import { jobEvent, routingKey, type OutgoingEvent } from "../messages/job-event.ts";
import { cut } from "../text/cut.ts";
import { readTriggerInput, requireFromEvents, type TriggerInput } from "../messages/trigger-input.ts";
import type { SubmitTarget, SubmitOptions, SubmittedJob } from "../submission/method.ts";
import { notesOf } from "../submission/sbatch.ts";
import { HERE, planJob, type JobPlan } from "../triggers/plan.ts";
import type { Trigger } from "../triggers/trigger-config.ts";
import { positionOf, type QueuePosition } from "../triggers/queue-position.ts";
import { submittedData } from "../submission/submitted-data.ts";

/**
 * The line, first half: one data-ready message becomes submitted jobs, one for each trigger that wants it. When this
 * returns, the message is done with. Whatever it throws says what becomes of the message; see intake.ts.
 *
 * Repeating it for the same message does no harm: the same jobs are found, the same events announced.
 */
export async function handleMessage(received: ReceivedMessage, deps: MessageDeps): Promise<void> {
  const message = readMessage(received, false);
  const { input } = message;
  const { matched, unmatched } =
    received.onlyTrigger === undefined
      ? await matchInSlices(input, received.body.byteLength, deps.triggers)
      : { matched: [triggerNamed(received.onlyTrigger, deps.triggers)], unmatched: [] };
  if (matched.length === 0) {
    // Nobody needs to be told that the end of a job starts nothing.
    if (input.job === null) await ignore(unwanted(message, unmatched, deps), message, deps);
    return;
  }
  const wanted = matched.filter(({ name }) => !received.queuedFor.includes(name));
  await submitAll(wanted, message, deps);
}

/** A message that waited in the queue of this trigger: its turn has come, or a newer one has overtaken it. */
export async function handleQueued(
  received: ReceivedMessage,
  trigger: Trigger,
  position: "now" | { overtakenBy: string },
  deps: MessageDeps,
): Promise<void> {
  const message = readMessage(received, true);
  if (position === "now") await submitAll([trigger], message, deps);
  else await ignore(overtaken(message, trigger.name, position.overtakenBy, deps), message, deps);
}

/** @throws Rejected what `decodeMessage` and `readTriggerInput` throw, and `event-not-believed` */
function readMessage(received: ReceivedMessage, isFirst: boolean): Message {
  const { body, properties, isFromEvents } = received;
  const input = readTriggerInput(decodeMessage(body, properties), properties.correlationId);
  requireFromEvents(input, isFromEvents);
  return { input, received, isFirst };
}

/** Its sender is answered as well, if it asked. */
async function ignore(event: OutgoingEvent, { received }: Message, { announce }: MessageDeps): Promise<void> {
  await announce(event);
  await received.answer(event);
}

/**
 * One trigger after the other, those on this host first, until nobody can work. Those whose jobs wait for others, to
 * become arrays, may take their time beside that.
 */
async function submitAll(triggers: readonly Trigger[], message: Message, deps: MessageDeps): Promise<void> {
  const { input } = message;
  const sorted = [...triggers].sort((one, other) => other.priority - one.priority);
  const here = sorted.filter(isHere);
  const elsewhere = sorted.filter((trigger) => !isHere(trigger));
  const failures: unknown[] = [];
  const session = await deps
    .findSession(input.beamtimeId ?? undefined, input.paths)
    .catch((error: unknown) => {
      // What runs here needs no open session, unless it is an event that says which it is of.
      const needsSession = here.length === 0 || (input.job !== null && input.job.session.id !== null);
      if (needsSession || !(error instanceof MentoError)) throw error;
      if (elsewhere.length > 0) failures.push(error);
      return null;
    });
  const { isFirst, received } = message;
  if (session !== null) {
    requireBeamline(input, session);
    if (!received.isFromEvents) requireBeamlineOfKey(received.routingKey, session);
  }
  const ready = session === null ? here : [...here, ...elsewhere];
  if (isFirst) return submitEach(ready, message, session, failures, deps);
  const bytes = received.body.byteLength * triggers.length;
  const [{ priority } = { priority: 0 }] = sorted;
  const leave = await deps.requireCapacity(session, { bytes, priority, isHere: elsewhere.length === 0 });
  await submitEach(ready, message, session, failures, deps).finally(leave);
}

/** @param failures what is wrong already */
async function submitEach(
  triggers: readonly Trigger[],
  message: Message,
  session: Session | null,
  failures: unknown[],
  deps: MessageDeps,
): Promise<void> {
  const ranBefore: RanBefore[] = [];
  const submit = async (trigger: Trigger) => {
    try {
      const submitted = await submitTrigger(trigger, message, session, deps);
      if (hasRunBefore(submitted, message)) ranBefore.push({ trigger: trigger.name, job: submitted });
      return undefined;
    } catch (error) {
      const failure = await fateOf(error, trigger, message, session, deps);
      if (failure !== undefined) failures.push(failure);
      return failure;
    }
  };
  const inArrays = triggers.filter(({ array }) => array !== undefined).map(submit);
  for (const trigger of triggers.filter(({ array }) => array === undefined)) {
    // Nobody can work. Else it may be this trigger's command alone, which keeps no other from its job.
    if (isOutage(await submit(trigger)) && !isHere(trigger)) break;
  }
  await Promise.all(inArrays);
  if (failures.length > 0) throw worst(failures);
  if (ranBefore.length > 0 && ranBefore.length === triggers.length) {
    await ignore(alreadyRun(message, ranBefore, deps), message, deps);
  }
}

const isHere = ({ method }: Trigger) => HERE.includes(method);

/** What becomes of a message because of what one trigger's submit threw; undefined: it was overtaken, and is done with. */
async function fateOf(
  error: unknown,
  trigger: Trigger,
  message: Message,
  session: Session | null,
  deps: MessageDeps,
): Promise<unknown> {
  if (error instanceof Superseded) {
    const announcing = ignore(overtaken(message, trigger.name, error.by, deps), message, deps);
    return announcing.then(
      () => undefined,
      (failure: unknown) => failure,
    );
  }
  // A command on this host that did not come to its end is the message's own: others' do.
  if (isHere(trigger)) return isOutage(error) && error.code === "ssh-lost" ? ownFailure(error) : error;
  if (session === null) return error;
  return isOutage(error) ? deps.report(session, error) : endedIfClosed(error, session);
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

/** The copy to the core file system is quick for beamtimes only (docs.desy.de/asap3, "Fast copy"). */
const DATA_TIMEOUT_SECONDS = { beamtime: 600, commissioning: 1800 };

/**
 * Plan, admit, submit, record, announce: each step can be repeated, and each is confirmed before the next. A trigger whose
 * jobs are counted has a queue of its own, where a message whose data is whole waits for its turn.
 *
 * @returns null: it waits there
 */
async function submitTrigger(
  trigger: Trigger,
  message: Message,
  session: Session | null,
  deps: MessageDeps,
): Promise<SubmittedJob | null> {
  const { input, received, isFirst } = message;
  await yieldForLarge(received.body.byteLength);
  const plan = planJob(input, trigger, session, deps.group, deps.jobsFolderOf);
  const position = positionOf(plan, input, received.receivedAt, deps.group);
  const options: SubmitOptions = {
    dataTimeout: trigger.dataTimeout ?? DATA_TIMEOUT_SECONDS[session?.kind ?? "beamtime"],
    dataCheck: received.dataCheck,
    permits: position?.permits ?? null,
    received: received.receivedAt,
  };
  const leave = await admit(plan, position, message, session, deps);
  let submitted: Collected;
  try {
    if (session !== null && trigger.array !== undefined) {
      submitted = await deps.collect(session, plan, options);
    } else {
      const target = await deps.targetFor(session, { ...trigger, program: plan.argv[0] });
      const method = deps.methods[trigger.method];
      const mustWait = position !== null && !isFirst;
      const found = mustWait ? await method.find?.(plan, target, options) : null;
      if (mustWait && found == null) {
        await waitInQueue(plan, position, target, message, session, deps);
        return null;
      }
      submitted = { target, job: found ?? (await method.submit(plan, target, options)) };
    }
  } finally {
    leave();
  }
  await recordAndAnnounce(plan, position, submitted, message, deps);
  return submitted.job;
}

/**
 * Who may submit now: a job of an array when the array is submitted, all others when the session lets them, or this host; and one of a trigger that counts its jobs only if there is room for it.
 *
 * @returns to be called when it was submitted
 */
async function admit(
  plan: JobPlan,
  position: QueuePosition | null,
  { received, isFirst }: Message,
  session: Session | null,
  deps: MessageDeps,
): Promise<() => void> {
  const { trigger } = plan;
  if (position !== null && isFirst) await deps.requireRoom(session, plan, position.permits);
  if (received.cameBack !== undefined) throw received.cameBack;
  if (isHere(trigger)) return deps.enterHere(session);
  if (session === null || trigger.array !== undefined) return () => undefined;
  const jobs = position === null || isFirst ? 1 : 0;
  return deps.enter(session, jobs, trigger.priority);
}

/** Puts the message into the queue of the trigger, if its job could run at all. */
async function waitInQueue(
  { trigger }: JobPlan,
  { concurrencyKey, order }: QueuePosition,
  { allocation }: SubmitTarget,
  { received }: Message,
  session: Session | null,
  deps: MessageDeps,
): Promise<void> {
  if (allocation instanceof MentoError) throw allocation;
  const { beamline = null, id = null } = session ?? {};
  await deps.queueFor(
    trigger.name,
    received.copyFor(trigger.name, { concurrencyKey, order, beamline, session: id }),
  );
  received.queuedFor.push(trigger.name);
}

async function recordAndAnnounce(
  plan: JobPlan,
  position: QueuePosition | null,
  { job, target }: Collected,
  { input }: Message,
  deps: MessageDeps,
): Promise<void> {
  const { trigger, traceparent } = plan;
  const notes = notesOf(plan, target, job);
  const said = notes.length > 0 ? { notes } : {};
  const ids = { job: plan.jobId, slurmJob: job.slurmJobId, process: job.process };
  deps.log.info({ ...ids, trigger: trigger.name, path: plan.paths[0] ?? null, ...said }, "submitted");
  const data = submittedData(plan, job, {
    ready: input.ready,
    notice: job.allocation?.reservation == null ? target.notice : null,
  });
  await deps.track({
    version: 1,
    data,
    traceparent,
    jobsDirectory: target.jobsDirectory,
    slurm: target.slurm,
    ...(job.arrayId !== null && { arrayId: job.arrayId }),
    // How often it was submitted again, its directory does not say: it is not once more.
    ...(trigger.retries > 0 && {
      retries: trigger.retries,
      ...(job.wasMoved && { retried: trigger.retries }),
    }),
    priority: trigger.priority,
    ...(position === null ? {} : { semaphores: position.permits.semaphores.map(({ name }) => name) }),
  });
  await deps.announce(jobEvent({ ...data, ...said }, deps.now(), { traceparent }));
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

/** Other keys than those of the usual form are their producers' own, and name nothing. */
const DATA_READY_KEY = /^([^.]+)\.[^.]+\.data\.ready$/;

/** @throws Rejected `wrong-beamline` */
export function requireBeamlineOfKey(key: string, session: Pick<Session, "id" | "beamline">): void {
  const [, word = "-"] = DATA_READY_KEY.exec(key) ?? [];
  const [wanted = ""] = routingKey(session.beamline, null, "").split(".");
  if (word === "-" || word.toLowerCase() === wanted.toLowerCase()) return;
  throw new Rejected({
    code: "wrong-beamline",
    message: `The message was published with the routing key ${cut(key, 100)}, but the beamtime ${session.id} is at ${session.beamline}.`,
    hint: `Publish with ${wanted}.${session.id}.data.ready, or -.-.data.ready; or correct the beamtimeId.`,
  });
}
