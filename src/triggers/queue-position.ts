import type { Permits } from "../jobs/permits.ts";
import { derivedId } from "../messages/derived-id.ts";
import type { TriggerInput } from "../messages/trigger-input.ts";
import type { JobPlan } from "./plan.ts";
import type { Concurrency, Trigger } from "./trigger-config.ts";

/** Where a message waits for its turn with a trigger whose jobs are counted. */
export interface QueuePosition {
  /** Messages of one concurrency key run one after the other: it stands for a trigger, a session and the value of `key`. */
  concurrencyKey: string;
  /** Texts in the order of the messages, all of one length; each ends with the id of the message's job. */
  order: string;
  permits: Permits;
}

/** Whether messages wait for their turn with this trigger, in a queue of its own. */
export function countsJobs({ concurrency, latest }: Trigger): boolean {
  return latest || concurrency !== undefined;
}

/** null: nobody counts the trigger's jobs. */
export function positionOf(
  plan: JobPlan,
  input: TriggerInput,
  receivedAt: Date,
  group: string,
): QueuePosition | null {
  const { trigger, session, key, jobId } = plan;
  if (!countsJobs(trigger)) return null;
  const { perTrigger = trigger.latest ? 1 : undefined, perSession }: Concurrency = trigger.concurrency ?? {};
  const sessionId = session?.id ?? "";
  const concurrencyKey = `${group}.${trigger.name}.${derivedId(sessionId, key ?? "")}`;
  const order = orderOf(input, receivedAt, jobId);
  const semaphores = [
    ...(perTrigger === undefined
      ? []
      : [{ name: concurrencyKey, limit: perTrigger, of: "trigger" as const }]),
    ...(perSession === undefined
      ? []
      : [{ name: `${group}.${derivedId(sessionId)}`, limit: perSession, of: "session" as const }]),
  ];
  const newest = trigger.latest ? { order, messageId: input.event.id } : null;
  return { concurrencyKey, order, permits: { semaphores, newest } };
}

/**
 * By when the data was ready, as far as its producer says, and not in the future: a wrong clock must not outdate all that
 * comes later. AMQP's times are whole seconds: then by when it came.
 */
function orderOf(input: TriggerInput, receivedAt: Date, jobId: string): string {
  const ready = Date.parse(input.ready ?? "");
  const received = receivedAt.getTime();
  const time = Number.isNaN(ready) ? received : Math.min(Math.max(ready, 0), received);
  return [time, received].map((one) => String(one).padStart(15, "0")).join("-") + `-${jobId}`;
}

/** The job's id in the order of its message. */
export function jobIdIn(order: string): string {
  return order.slice(order.lastIndexOf("-") + 1);
}
