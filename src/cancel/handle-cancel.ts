import { Rejected } from "../errors.ts";

import type { CancelRequest } from "../jobs/cancel-request.ts";
import type { Log } from "../log.ts";
import { decodeMessage } from "../messages/cloud-event.ts";
import { readJobCancel, type CancelAnswer, type CancelOutcome } from "../messages/job-cancel.ts";
import type { MessageProperties } from "../messages/message-properties.ts";

/** What a message that cancels jobs needs from outside. */
export interface CancelMessageDeps {
  /** RabbitMQ's users who may. */
  mayCancel: readonly string[];
  cancel: (jobs: readonly string[], request: CancelRequest) => Promise<CancelOutcome[]>;
  log: Log;
  now: () => Date;
}

/**
 * Cancels what the message asks for, if its sender may. What cannot be done now is an outcome, not a reason to wait: who
 * cancels a job wants to know now.
 *
 * @returns what its sender is answered
 * @throws Rejected `cancel-not-allowed`, and those of a message that cannot be read
 */
export async function handleCancel(
  { body, properties }: { body: Uint8Array; properties: MessageProperties },
  { mayCancel, cancel, log, now }: CancelMessageDeps,
): Promise<CancelAnswer> {
  const event = decodeMessage(body, properties);
  const { jobs, reason } = readJobCancel(event);
  const { userId } = properties;
  if (userId === undefined || !mayCancel.includes(userId)) throw notAllowed(userId);
  const outcomes = await cancel(jobs, { who: userId, reason, at: now().toISOString() });
  const told = outcomes.map(({ job, outcome, error }) => `${job} ${error?.code ?? outcome}`);
  log.info({ who: userId, reason, outcomes: told }, "asked to cancel jobs");
  return { outcomes };
}

function notAllowed(userId: string | undefined): Rejected {
  return new Rejected({
    code: "cancel-not-allowed",
    message:
      userId === undefined
        ? "The message asks to cancel jobs, and does not say which user of RabbitMQ has sent it."
        : `The message asks to cancel jobs, and RabbitMQ's user ${userId} may not.`,
    hint: "Set the AMQP property user_id to the login that publishes, and have that name put into worker.mayCancel; or use `mento cancel`.",
  });
}
