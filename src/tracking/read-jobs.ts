import { TIMED_OUT, within } from "../shells/bounded-file.ts";
import { spoolOf } from "../jobs/directory.ts";
import { parseRecords, readRecordsCommand, type ReadJob } from "../jobs/records.ts";
import { rootsOf } from "./results.ts";
import type { Watched } from "./watched.ts";
import type { SessionJobs } from "./session-jobs.ts";
import { quote, quoteAll } from "../shells/quote.ts";
import type { Observer } from "./observer.ts";

/** Jobs whose records are read in one remote call. */
const READ_AT_ONCE = 50;
/** A spool that holds more is not listed to its end: each watched job's own notifications are looked for. */
const LISTED_AT_MOST = 5_000;
const LISTED_BYTES = 1024 * 1024;
const LIST_SECONDS = 10;
/** Names in one command. */
const LOOKED_FOR_AT_ONCE = 1_000;

/** The files of the spool that say which jobs' directories have something new: those jobs are to be read. */
export async function takeNotifications({ shell }: Observer, session: SessionJobs): Promise<void> {
  const { jobs, jobsDirectory } = session;
  const spool = quote(spoolOf(jobsDirectory));
  const list = `cd ${spool} && ls -1U | head -n ${LISTED_AT_MOST}`;
  const names = await namesFrom(within(LIST_SECONDS, list));
  if (names.length >= LISTED_AT_MOST) {
    const ids = [...jobs.keys()];
    for (let at = 0; at < ids.length; at += LOOKED_FOR_AT_ONCE) {
      const look = `cd ${spool} && for id in ${quoteAll(ids.slice(at, at + LOOKED_FOR_AT_ONCE))}; do
  [ ! -e "$id.started" ] && [ ! -e "$id.ended" ] || printf '%s\\n' "$id."
done`;
      names.push(...(await namesFrom(within(LIST_SECONDS, look))));
    }
  }
  for (const name of names) {
    const watched = jobs.get(name.split(".", 1)[0] ?? "");
    if (watched !== undefined) watched.isNotified = true;
  }

  async function namesFrom(command: string): Promise<string[]> {
    const { stdout } = await shell.run(command);
    return stdout.toString("latin1", 0, LISTED_BYTES).split("\n");
  }
}

/** Those that are new here or have notified, as far as they may be read so soon again. */
export function jobsToRead({ jobs }: SessionJobs, now: Date): Watched[] {
  return [...jobs.values()].filter(({ isNotified, reads }) => isNotified && reads.take(now.getTime()));
}

/** A watched job, and what was read of it: undefined if there is nothing to be read. */
export interface Read extends ReadJob {
  watched: Watched;
}

/**
 * Reads the records of these jobs, some at a time. A job whose files cannot be read in time is left for later, and does not
 * keep the others from being read.
 */
export async function* readJobs(
  { shell, results, cancelRequests }: Observer,
  jobsDirectory: string,
  wanted: readonly Watched[],
  now: () => Date,
): AsyncGenerator<Read, void, undefined> {
  let left = [...wanted];
  while (left.length > 0) {
    const batch = left.slice(0, READ_AT_ONCE);
    const ids = batch.map(({ record }) => record.data.job.id);
    const end = await shell.run(
      readRecordsCommand(jobsDirectory, ids, { roots: rootsOf(results), cancelRequests }),
    );
    const read = parseRecords(end.stdout, ids);
    const isLate = TIMED_OUT.includes(end.code);
    const later: Watched[] = [];
    for (const [at, watched] of batch.entries()) {
      const job = read.get(ids[at] ?? "");
      if (job?.records !== undefined) {
        yield { watched, ...job };
      } else if (job !== undefined || (isLate && read.size === 0 && at === 0)) {
        // It has begun and not ended, or nothing has even begun.
        watched.isNotified = true;
        watched.reads.holdOff(now().getTime());
      } else if (isLate || read.size > 0) later.push(watched);
      else yield { watched, records: undefined, refused: [], readAt: null, realPaths: [] };
    }
    left = [...later, ...left.slice(READ_AT_ONCE)];
  }
}
