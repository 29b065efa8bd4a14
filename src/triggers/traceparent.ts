import { createHash } from "node:crypto";
import type { Cause } from "../messages/job-event.ts";

/**
 * The trace context of a job (https://www.w3.org/TR/trace-context, version 00): the trace that the message belongs to,
 * else one that follows from the message, so that all of a chain is one trace; and the job as its span.
 */
export function traceparentFor(
  given: string | undefined,
  cause: Pick<Cause, "source" | "id">,
  jobId: string,
): string {
  const [, trace, flags] = /^00-([0-9a-f]{32})-[0-9a-f]{16}-([0-9a-f]{2})$/.exec(given ?? "") ?? [];
  const ownTrace = hex(JSON.stringify([cause.source, cause.id])).slice(0, 32);
  return `00-${trace ?? ownTrace}-${hex(jobId).slice(0, 16)}-${flags ?? "01"}`;
}

function hex(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
