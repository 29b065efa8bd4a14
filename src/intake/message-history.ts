import type { QueuedPosition } from "./message.ts";
import type { Received } from "../messages/received.ts";

/** What our own headers say of a message that has waited or failed. */
export interface History {
  firstSeen: string;
  /** How often it was deferred for the present reason. */
  attempts: number;
  /** The code of the present reason, and since when it holds. */
  reason: string | null;
  reasonSince: string | null;
  /** Where its producer has published it. */
  exchange: string;
  routingKey: string;
  /** The login that published it. */
  userId: string | null;
  /** What the last look saw of data of unknown size. */
  dataCheck: string | null;
  /** It was sent again for this trigger alone. */
  onlyTrigger: string | null;
  /** Triggers that have it in their own queues already. */
  queuedFor: string[];
  /** How often its own command failed while others' worked. */
  ownFailures: number;
  /** How often the broker has taken this delivery back from workers, and the message in all. */
  returned: number;
  returns: number;
}

export function historyOf({ ours, ...message }: Received, now: Date): History {
  const text = (name: string) => {
    const value = ours[`mento-${name}`];
    return typeof value === "string" && value !== "" ? value : null;
  };
  const time = (name: string) => {
    const value = text(name);
    return value === null || Number.isNaN(Date.parse(value)) ? null : value;
  };
  const number = (name: string) => {
    const value = ours[`mento-${name}`];
    return typeof value === "number" ? value : 0;
  };
  return {
    firstSeen: time("first-seen") ?? now.toISOString(),
    attempts: number("attempts"),
    reason: text("reason"),
    reasonSince: time("reason-since"),
    exchange: text("exchange") ?? message.exchange,
    routingKey: text("routing-key") ?? message.routingKey,
    userId: text("user-id") ?? message.properties.userId ?? null,
    dataCheck: text("data-check"),
    onlyTrigger: text("trigger"),
    queuedFor: text("queued-for")?.split(" ") ?? [],
    ownFailures: number("own-failures"),
    returned: message.returns,
    returns: number("returns") + message.returns,
  };
}

export function headersOf(history: History): Record<string, string | number> {
  return {
    "mento-first-seen": history.firstSeen,
    "mento-attempts": history.attempts,
    "mento-reason": history.reason ?? "",
    "mento-reason-since": history.reasonSince ?? "",
    "mento-exchange": history.exchange,
    "mento-routing-key": history.routingKey,
    ...(history.userId === null ? {} : { "mento-user-id": history.userId }),
    ...(history.dataCheck === null ? {} : { "mento-data-check": history.dataCheck }),
    ...(history.ownFailures === 0 ? {} : { "mento-own-failures": history.ownFailures }),
    ...(history.returns === 0 ? {} : { "mento-returns": history.returns }),
    ...(history.onlyTrigger === null ? {} : { "mento-trigger": history.onlyTrigger }),
    ...(history.queuedFor.length === 0 ? {} : { "mento-queued-for": history.queuedFor.join(" ") }),
  };
}

/**
 * Headers of a message in the queue of one trigger: its waits for anything else are over, and whoever had it since it was
 * put away last did not end by it.
 */
export function positionHeaders(
  history: History,
  trigger: string,
  position: QueuedPosition,
): Record<string, string | number> {
  const { firstSeen, exchange, routingKey, userId } = history;
  const returns = history.returns - history.returned;
  const fresh = {
    attempts: 0,
    reason: null,
    reasonSince: null,
    dataCheck: null,
    ownFailures: 0,
    returned: 0,
  };
  const known = { firstSeen, exchange, routingKey, userId, returns };
  return {
    ...headersOf({ ...fresh, ...known, onlyTrigger: trigger, queuedFor: [] }),
    "mento-concurrency-key": position.concurrencyKey,
    "mento-order": position.order,
    "mento-session": position.session ?? "",
    "mento-beamline": position.beamline ?? "",
  };
}

/** Where it waits in the queue of a trigger; undefined in any other. */
export function queuedPositionOf({ ours }: Received): QueuedPosition | undefined {
  const { "mento-concurrency-key": concurrencyKey, "mento-order": order } = ours;
  const name = (value: unknown) => (typeof value === "string" && value !== "" ? value : null);
  if (typeof concurrencyKey !== "string" || typeof order !== "string") return undefined;
  return {
    concurrencyKey,
    order,
    session: name(ours["mento-session"]),
    beamline: name(ours["mento-beamline"]),
  };
}
