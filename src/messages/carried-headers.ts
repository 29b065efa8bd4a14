import {
  attributesInHeaders,
  canonicalText,
  NO_EVENT,
  ownEntries,
  REQUIRED_ATTRIBUTES,
} from "./header-attributes.ts";
import { isTraceparent, isTracestate } from "./trace-context.ts";

/**
 * What of a producer's headers is carried on by a publish of ours, and nothing else is: the trace context, and the
 * attributes of a CloudEvent in binary mode, which would be another message without them. All are text under names from a
 * closed set, so that nothing here means anything to RabbitMQ (`CC`, `BCC`, `x-…`) or to Mento (`mento-…`).
 *
 * A message whose attributes are no event's must not become one on its way: it keeps those that tell whose it is, and a
 * `specversion` that no event has, and that says why. Never throws.
 */
export function carriedHeaders(headers: unknown): Record<string, string> {
  const carried = new Map<string, string>();
  for (const [name, value] of ownEntries(headers)) {
    const text = canonicalText(value);
    if (name === "traceparent" && isTraceparent(text)) carried.set(name, text);
    if (name === "tracestate" && isTracestate(text)) carried.set(name, text);
  }
  const found = attributesInHeaders(headers);
  for (const [name, text] of found?.attributes ?? []) {
    const isKept = found?.mistake === undefined || (REQUIRED_ATTRIBUTES.includes(name) && text !== "");
    if (isKept) carried.set(`cloudEvents:${name}`, text);
  }
  if (found?.mistake !== undefined) carried.set("cloudEvents:specversion", NO_EVENT + found.mistake);
  return Object.fromEntries(carried);
}
