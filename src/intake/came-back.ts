import { Deferred, Rejected } from "../errors.ts";
import type { History } from "./message-history.ts";

/**
 * Where a policy limits deliveries, RabbitMQ gives up a message that has come back more often, whatever the reason: a copy
 * begins anew. At half the least limit that does no harm (doctor/broker-policies.ts), for the queue's own is not told.
 */
const RENEW_AFTER_RETURNS = 2;
/** A message that ends every worker that takes it must not do so for ever. */
const GIVE_UP_AFTER_RETURNS = 50;

export function cameBackTooOften({ returned, returns }: History): boolean {
  return returned >= RENEW_AFTER_RETURNS || (returned > 0 && returns >= GIVE_UP_AFTER_RETURNS);
}

/** Workers that had the message ended, or lost the broker, again and again. */
export function cameBack({ returns }: History): Rejected | Deferred {
  const details = {
    code: "worker-ended",
    message: `${returns} times a worker had the message, and ended or lost the broker before it had handled it.`,
  } as const;
  if (returns < GIVE_UP_AFTER_RETURNS) {
    const hint = "It is handled again.";
    const waits = { giveUpAfterSeconds: Infinity, waitAtMostSeconds: 5 };
    return new Deferred({ ...details, hint, ...waits, isSilent: true });
  }
  return new Rejected({ ...details, hint: "The workers' logs say how they ended; then replay the message." });
}
