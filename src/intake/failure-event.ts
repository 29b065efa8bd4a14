import type { MentoError } from "../errors.ts";
import { messageEvent, type OutgoingEvent } from "../messages/job-event.ts";
import { chainOriginOf } from "../messages/origin.ts";
import type { Received } from "../messages/received.ts";

/** null: there is no such time. */
export function timeAfter(since: Date, seconds: number): string | null {
  const time = new Date(since.getTime() + seconds * 1000);
  return Number.isNaN(time.getTime()) ? null : time.toISOString();
}

/** What is announced of a message that was rejected or deferred, and why. */
export function failureEvent(
  outcome: "rejected" | "deferred",
  group: string,
  { body, properties }: Received,
  { code, message, hint }: MentoError,
  now: Date,
  more: { givesUpAt?: string | null } = {},
): OutgoingEvent {
  const { origin, link } = chainOriginOf(body, properties);
  const { correlationId = null } = properties;
  const error = { code, message, hint };
  const data = { ...origin, group, correlationId, error, reason: null, reasons: [], ...more };
  return messageEvent(outcome, data, now, link === "" ? code : `${link}/${code}`);
}
