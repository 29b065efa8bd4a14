/** Enough for every `traceparent`, and what a `tracestate` has to have room for (https://www.w3.org/TR/trace-context). */
const MAX_BYTES = 512;

const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]+)?$/;
const MEMBER = /^([a-z0-9][a-z0-9_\-*/@]{0,255})=[ -+\--<>-~]{0,255}[!-+\--<>-~]$/;

/** Whether a text is a W3C `traceparent`: of version 00 exactly, of a later one as far as 00 knows it. */
export function isTraceparent(text: unknown): text is string {
  if (typeof text !== "string" || text.length > MAX_BYTES) return false;
  return TRACEPARENT.test(text) && (!text.startsWith("00") || text.length === 55);
}

/** Whether a text is a W3C `tracestate`: at most 32 members `key=value`, each key once. */
export function isTracestate(text: unknown): text is string {
  if (typeof text !== "string" || text.length > MAX_BYTES) return false;
  const members = text.split(",").map((one) => one.trim());
  const keys = members.map((one) => MEMBER.exec(one)?.[1]);
  return members.length <= 32 && !keys.includes(undefined) && new Set(keys).size === keys.length;
}
