import type { ConsumeMessage } from "amqplib";
import { posix } from "node:path";
import * as z from "zod";
import { isTerminal } from "../jobs/job.ts";
import { JobEventData } from "../messages/job-event.ts";
import { parseJson } from "../messages/json.ts";
import type { BrokerClient } from "../broker/client.ts";
import { HISTORY_MS, historySince } from "../broker/history.ts";

/** What was last announced of a job. */
export interface LastJobEvent {
  data: JobEventData;
  /** The worker group that announced it. */
  group: string;
  /** Only of Slurm's ids: a job in another folder is announced with the same. An account tells its own jobs' ids. */
  isContested: boolean;
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
  const history = historySince(client, new Date(Date.now() - HISTORY_MS));
  return lastEventsIn(history, client.topology.eventsExchange, names);
}

/** The same of any part of the history. */
export async function lastEventsIn(
  history: AsyncIterable<Pick<ConsumeMessage, "content" | "fields" | "properties">>,
  eventsExchange: string,
  names: readonly string[],
): Promise<Map<string, LastJobEvent>> {
  const wanted = new Set(names);
  const found = new Map<string, LastJobEvent>();
  for await (const { content, fields, properties } of history) {
    const type: unknown = properties.type;
    // On the exchange for data they are anybody's.
    if (fields.exchange !== eventsExchange) continue;
    if (typeof type !== "string" || !type.startsWith("mento.job.")) continue;
    if (!mayName(content, wanted)) continue;
    const { data: event } = JobEvent.safeParse(tryJson(content));
    if (event === undefined) continue;
    const { data, source } = event;
    const { job, slurm } = data;
    for (const name of [job.id, slurm.jobId ?? ""].filter((one) => wanted.has(one))) {
      const old = found.get(name);
      const isOther = old !== undefined && old.data.job.id !== job.id;
      const isElsewhere = isOther && folderOf(old.data) !== folderOf(data);
      const isContested = old?.isContested === true || isElsewhere;
      // An event that is announced again may come after the end.
      const isLate =
        !isOther && old !== undefined && isTerminal(old.data.job.state) && !isTerminal(job.state);
      if (isLate) continue;
      found.set(name, { data, group: /^\/mento\/(.+)$/.exec(source)?.[1] ?? "default", isContested });
    }
  }
  return found;
}

/** The folder of the directories of jobs that the job's own is one of. */
export function folderOf({ job }: JobEventData): string {
  return posix.dirname(job.directory);
}

/** Most of hundreds of thousands of events are of other jobs: to parse them all takes sixteen times as long. */
function mayName(content: Buffer, wanted: ReadonlySet<string>): boolean {
  for (const key of ['"id"', '"jobId"']) {
    for (let at = content.indexOf(key); at >= 0; at = content.indexOf(key, at + 1)) {
      const from = at + key.length;
      const [, name = ""] = /^\s*:\s*"([\w-]+)"/.exec(content.toString("latin1", from, from + 150)) ?? [];
      if (wanted.has(name)) return true;
    }
  }
  return false;
}

function tryJson(content: Buffer): unknown {
  try {
    return parseJson(content.toString("utf8"));
  } catch {
    return undefined;
  }
}
