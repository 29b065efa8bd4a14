import { Misconfigured } from "../errors.ts";
import { bindingFits } from "./binding-key.ts";
import { JobState, routingKey, type MessageOutcome } from "./job-event.ts";

/** Which events a client wants. */
export interface EventFilter {
  beamline?: string | undefined;
  /** A beamtime's or commissioning run's id. */
  session?: string | undefined;
  /**
   * The ends of event types: `job.completed`, `job.*`, `message.*`. Default: all events. Data-ready messages come only
   * if they are named: `data.ready`.
   */
  types?: readonly string[] | undefined;
}

const OUTCOMES: readonly MessageOutcome[] = ["rejected", "deferred", "ignored"];
const TYPES = [
  ...JobState.options.map((state) => `job.${state}`),
  ...OUTCOMES.map((outcome) => `message.${outcome}`),
  "data.ready",
];

/** How the types that a client wants are written. */
export const EVENT_TYPE_FORMS = "job.completed, job.*, message.*; of messages: data.ready";

/** Whether there is an event of this type, in which `*` is one word and `#` any number of them. */
export function isEventType(type: string): boolean {
  return TYPES.some((known) => bindingFits(type, known));
}

/**
 * The keys that a queue would be bound with, to the exchange of events and to that of data-ready messages.
 *
 * @throws Misconfigured `wrong-usage` for a type that no event has
 */
export function bindingKeys({ beamline, session, types }: EventFilter): { events: string[]; data: string[] } {
  const unknown = types?.find((type) => !isEventType(type));
  if (unknown !== undefined) {
    throw new Misconfigured({
      code: "wrong-usage",
      message: `There are no events of the type ${unknown}.`,
      hint: `It looks like ${EVENT_TYPE_FORMS}.`,
    });
  }
  const word = (name: string | undefined) =>
    name === undefined ? "*" : (routingKey(name, null, "").split(".")[0] ?? "");
  const isData = (type: string) => type.startsWith("data.");
  const wanted = types ?? ["#"];
  return {
    events: wanted
      .filter((type) => !isData(type))
      .map((type) => `${word(beamline)}.${word(session)}.${type}`),
    // Producers choose their own keys; Mento takes them all.
    data: !wanted.some(isData)
      ? []
      : beamline === undefined && session === undefined
        ? ["#"]
        : [`${word(beamline)}.${word(session)}.#`],
  };
}
