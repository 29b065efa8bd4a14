import { messageEvent, type MessageEventData, type OutgoingEvent } from "../messages/job-event.ts";
import type { SubmittedJob } from "../submission/method.ts";
import { jobIdFor } from "../triggers/plan.ts";
import { Superseded } from "../errors.ts";
import type { MessageDeps, Message } from "./message.ts";

/** No trigger wants the message: each says why. */
export function unwanted(
  message: Message,
  reasons: MessageEventData["reasons"],
  { group, now }: MessageDeps,
): OutgoingEvent {
  const data = { ...aboutMessage(message, group), reason: "no-trigger" as const, reasons };
  return messageEvent("ignored", data, now());
}

/** A newer message has overtaken it, for this one trigger: its job's id tells the event from others of the message. */
export function overtaken(
  message: Message,
  trigger: string,
  by: string,
  { group, now }: MessageDeps,
): OutgoingEvent {
  const reasons = [{ trigger, reason: new Superseded(by).message }];
  const data = { ...aboutMessage(message, group), reason: "superseded" as const, reasons };
  return messageEvent("ignored", data, now(), jobIdFor(message.input.event, group, trigger));
}

/** A job that had ended before the message came that it is of: the message was sent again under its id. */
export interface RanBefore {
  trigger: string;
  job: SubmittedJob & { endedAt: string };
}

/** Nobody needs to be told of what follows on a job, nor of a message that a worker had before and did not handle. */
export function hasRunBefore(
  job: SubmittedJob | null,
  { input, received }: Message,
): job is SubmittedJob & { endedAt: string } {
  if (job?.endedAt == null || input.job !== null || received.isRedelivered) return false;
  return Date.parse(job.endedAt) < received.receivedAt.getTime();
}

/** All its jobs have run before. */
export function alreadyRun(
  message: Message,
  ranBefore: readonly RanBefore[],
  { group, now }: MessageDeps,
): OutgoingEvent {
  const reasons = ranBefore.map(({ trigger, job }) => {
    const { slurmJobId, submittedAt: submitted, endedAt: ended } = job;
    const id = jobIdFor(message.input.event, group, trigger);
    const name = slurmJobId === null ? id : `${id} (Slurm job ${slurmJobId})`;
    const reason = `its job ${name} has run before, and ended at ${ended}; under a new id it runs again`;
    return { trigger, reason, job: { id, slurmJobId, submitted, ended } };
  });
  const data = { ...aboutMessage(message, group), reason: "already-run" as const, reasons };
  return messageEvent("ignored", data, now(), `again/${message.received.receivedAt.getTime()}`);
}

function aboutMessage({ input, received: { queuedPosition } }: Message, group: string) {
  return {
    group,
    cause: input.cause,
    correlationId: input.correlationId,
    beamline: input.beamline ?? queuedPosition?.beamline ?? null,
    beamtimeId: input.beamtimeId ?? queuedPosition?.session ?? null,
    paths: [...input.paths],
    error: null,
  };
}
