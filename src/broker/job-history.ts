import { z } from "zod";
import { isTerminal } from "../jobs/job.ts";
import { JobEventData } from "../messages/job-event.ts";
import { parseJson } from "../messages/json.ts";
import type { BrokerClient } from "./client.ts";
import { HISTORY_MS, historySince } from "./history.ts";

/** What was last announced of a job. */
export interface LastJobEvent {
  data: JobEventData;
  /** The worker group that announced it. */
  group: string;
}

const JobEvent = z.looseObject({ source: z.string(), data: JobEventData });

/**
 * What was last announced of these jobs, by the name that was asked for: Mento's id, or Slurm's. Reads all of the history.
 *
 * @throws MentoError `exchange-missing` if there is no history yet
 * @throws Unavailable `broker-lost`, `broker-refused`
 */
export async function lastJobEvents(
  client: Pick<BrokerClient, "link" | "publisher" | "topology">,
  names: readonly string[],
): Promise<Map<string, LastJobEvent>> {
  const wanted = new Set(names);
  const found = new Map<string, LastJobEvent>();
  const { eventsExchange } = client.topology;
  for await (const { content, fields, properties } of historySince(
    client,
    new Date(Date.now() - HISTORY_MS),
  )) {
    const type: unknown = properties.type;
    // On the exchange for data they are anybody's.
    if (fields.exchange !== eventsExchange) continue;
    if (typeof type !== "string" || !type.startsWith("mento.job.")) continue;
    const { data: event } = JobEvent.safeParse(tryJson(content));
    if (event === undefined) continue;
    const { job, slurm } = event.data;
    for (const name of [job.id, slurm.jobId ?? ""].filter((one) => wanted.has(one))) {
      // An event that is announced again may come after the end.
      const old = found.get(name)?.data.job;
      if (old?.id === job.id && isTerminal(old.state) && !isTerminal(job.state)) continue;
      found.set(name, { data: event.data, group: /^\/mento\/(.+)$/.exec(event.source)?.[1] ?? "default" });
    }
  }
  return found;
}

function tryJson(content: Buffer): unknown {
  try {
    return parseJson(content.toString("utf8"));
  } catch {
    return undefined;
  }
}
