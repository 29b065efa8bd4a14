import { posix } from "node:path";
import { requireOnline, type Session, type Sessions } from "./beamtime/session.ts";
import type { LastJobEvent } from "./broker/job-history.ts";
import { cancelAt, failed, goneSince, ownIds, unknown, type CancelPlace } from "./cancel-at.ts";
import {
  cancelRequestsDirectory,
  jobsDirectory,
  localJobsDirectory,
  slurmJobsDirectory,
  type MentoConfig,
} from "./config.ts";
import { MentoError } from "./errors.ts";
import type { CancelRequest } from "./jobs/cancel-request.ts";
import { JobName, type CancelOutcome } from "./messages/job-cancel.ts";
import type { JobEventData, JobMethod } from "./messages/job-event.ts";
import type { SessionShells } from "./session-shells.ts";
import type { SlurmRest } from "./slurm-rest/slurm-rest.ts";
import type { Shell } from "./shells/shell.ts";

/** The ways to the places where jobs are. */
interface CancelWays {
  site: MentoConfig["site"];
  sessions: Sessions;
  shells: SessionShells;
  here: Shell;
  rest: SlurmRest | null;
}

export interface CancelEffects extends CancelWays {
  /** What was last announced of jobs that are not where jobs of open sessions are, by the names that are asked for. */
  lastEvents: (names: readonly string[]) => Promise<ReadonlyMap<string, LastJobEvent>>;
  /** Has a job cancelled by its host's worker, which alone can reach it. */
  askHost: (host: string, group: string, jobId: string, request: CancelRequest) => Promise<CancelOutcome>;
}

/**
 * Cancels jobs, wherever they are: by their directories of open sessions and of this host, else by what was last
 * announced of them. One outcome for each name, in their order; what could not be found out of one keeps no other.
 *
 * @param names Mento's ids, or Slurm's
 */
export async function cancelJobs(
  names: readonly string[],
  request: CancelRequest,
  effects: CancelEffects,
): Promise<CancelOutcome[]> {
  const wanted = [...new Set(names)];
  const search = new Search(wanted.filter((name) => JobName.safeParse(name).success));
  await lookInOpenSessions(search, request, effects);
  await lookInHistory(search, request, effects);
  return wanted.map((name) => search.outcomeOf(name));
}

/** Cancels one job of which it is known where it is: also of a session that is not open any more. */
export async function cancelKnown(
  data: JobEventData,
  request: CancelRequest,
  ways: CancelWays,
): Promise<CancelOutcome> {
  const { id, directory } = data.job;
  const ended = goneSince(data);
  if (ended !== undefined) return ended;
  try {
    const place = await placeOfJob(data, ways);
    const outcome = (await cancelAt(place, [id], request)).get(id);
    return outcome ?? unknown(id, `There is no job ${id}: it is not in ${directory}.`, DIRECTORY_REMOVED);
  } catch (error) {
    return failed(id, error);
  }
}

const DIRECTORY_REMOVED = "Its directory was removed.";

/** The more certain, the earlier. */
const CERTAIN: readonly CancelOutcome["outcome"][] = ["cancelled", "gone", "failed", "unknown"];

/** What is known so far of each name. */
class Search {
  readonly #names: readonly string[];
  readonly #outcomes = new Map<string, CancelOutcome>();
  /** Of jobs that are there, but do not tell how they have ended, or are another host's: their events may help. */
  readonly #silent = new Map<string, CancelOutcome>();
  /** What could not be asked. */
  readonly #troubles: MentoError[] = [];

  constructor(names: readonly string[]) {
    this.#names = names;
  }

  /** Those that are still to be looked for. */
  get open(): string[] {
    return this.#names.filter((name) => !this.#outcomes.has(name));
  }

  /** A job of the REST API's account may be found over SSH too: whoever has cancelled it, or knows who has, is right. */
  found(name: string, outcome: CancelOutcome): void {
    const rank = (one: CancelOutcome | undefined) =>
      one === undefined ? Infinity : CERTAIN.indexOf(one.outcome) + (one.cancelledBy === null ? 0.5 : 0);
    if (rank(outcome) < rank(this.#outcomes.get(name))) this.#outcomes.set(name, { ...outcome, job: name });
  }

  silent(name: string, outcome: CancelOutcome): void {
    this.#silent.set(name, { ...outcome, job: name });
  }

  /** What is no error of ours is a bug, and thrown. */
  trouble(error: unknown): void {
    if (!(error instanceof MentoError)) throw error;
    this.#troubles.push(error);
  }

  outcomeOf(name: string): CancelOutcome {
    const known = this.#outcomes.get(name) ?? this.#silent.get(name);
    if (known !== undefined) return known;
    const [trouble] = this.#troubles;
    if (trouble !== undefined && this.#names.includes(name)) return { ...failed(name, trouble), id: null };
    return unknown(
      name,
      `There is no job ${name}: neither an open session nor this host has it, nor is it in the events of the last 14 days.`,
      "Ids of jobs are in their events.",
    );
  }
}

async function lookInOpenSessions(
  search: Search,
  request: CancelRequest,
  effects: CancelEffects,
): Promise<void> {
  const { open, broken } = await effects.sessions.open();
  if (broken !== undefined) search.trouble(broken);
  const { site, rest } = effects;
  const places = [
    ...open.filter(({ online }) => online !== null).map((session) => placeOf(session, effects)),
    ...open.flatMap(({ id, roots }) => {
      const bySbatch = placeHere("local-sbatch-script", slurmJobsDirectory(site, id), effects);
      const byRest = placeHere("slurm-rest-api", jobsDirectory(site, roots.core), effects);
      return rest === null ? [bySbatch] : [bySbatch, byRest];
    }),
    placeHere("local-bash-script", localJobsDirectory(site), effects),
  ];
  const looked = places.map(async (one) => {
    try {
      const place = await one;
      await lookIn(place, search, request);
    } catch (error) {
      search.trouble(error);
    }
  });
  await Promise.all(looked);
}

/** Where jobs of a session are that run as its account. */
async function placeOf(session: Session, { site, shells }: CancelWays): Promise<CancelPlace> {
  const online = requireOnline(session);
  return {
    jobsDirectory: jobsDirectory(site, session.roots.core),
    shell: await shells.open(online),
    methods: ["remote-sbatch-script", "remote-command"],
    shellOn: (host) => shells.open(online, host),
  };
}

/** Where jobs are that are seen from this host: of our own account, or of that of Slurm's REST API. */
function placeHere(
  method: JobMethod,
  folder: string,
  { here, rest, site }: CancelWays,
): Promise<CancelPlace> {
  const place = {
    jobsDirectory: folder,
    shell: here,
    methods: [method],
    shellOn: (host: string) => Promise.resolve(host === here.host ? here : undefined),
  };
  return Promise.resolve(
    method === "slurm-rest-api" ? { ...place, rest, cancelRequests: cancelRequestsDirectory(site) } : place,
  );
}

async function lookIn(place: CancelPlace, search: Search, request: CancelRequest): Promise<void> {
  const names = search.open;
  const numbers = names.filter((name) => /^\d+$/.test(name));
  const ids = new Map(names.map((name) => [name, name]));
  // This host need not have Slurm's commands; of jobs that it has submitted with them, the events know the number.
  if ((place.rest != null || place.methods.includes("remote-sbatch-script")) && numbers.length > 0) {
    for (const [number, id] of await ownIds(place, numbers)) {
      if (id !== null) ids.set(number, id);
      else search.found(number, notOurs(number));
    }
  }
  const outcomes = await cancelAt(place, [...new Set(ids.values())], request);
  for (const [name, id] of ids) {
    const outcome = outcomes.get(id);
    if (outcome === undefined) continue;
    const isKnownElsewhere = outcome.outcome === "unknown" || outcome.error?.code === "worker-silent";
    if (isKnownElsewhere) search.silent(name, outcome);
    else search.found(name, outcome);
  }
}

async function lookInHistory(search: Search, request: CancelRequest, effects: CancelEffects): Promise<void> {
  if (search.open.length === 0) return;
  const events = await effects.lastEvents(search.open).catch((error: unknown) => {
    // Where no worker has ever run, there is no history to ask.
    if (!(error instanceof MentoError) || error.code !== "exchange-missing") search.trouble(error);
    return new Map<string, LastJobEvent>();
  });
  for (const [name, event] of events) {
    try {
      const outcome = await followEvent(event, request, effects);
      if (outcome !== undefined) search.found(name, outcome);
    } catch (error) {
      search.found(name, { ...failed(name, error), id: event.data.job.id });
    }
  }
}

/** Undefined: what it leads to has no such job. */
async function followEvent(
  { data, group }: LastJobEvent,
  request: CancelRequest,
  effects: CancelEffects,
): Promise<CancelOutcome | undefined> {
  const { job, process } = data;
  const { id } = job;
  const ended = goneSince(data);
  if (ended !== undefined) return ended;
  if (job.method === "local-bash-script") return effects.askHost(process?.host ?? "", group, id, request);
  return (await cancelAt(await placeOfJob(data, effects), [id], request)).get(id);
}

/** Where the job is by what was last said of it. */
async function placeOfJob({ job, session }: JobEventData, ways: CancelWays): Promise<CancelPlace> {
  const isBySession = job.method === "remote-sbatch-script" || job.method === "remote-command";
  return isBySession
    ? placeOf(await ways.sessions.find(session.id ?? undefined), ways)
    : placeHere(job.method, posix.dirname(job.directory), ways);
}

function notOurs(slurmJobId: string): CancelOutcome {
  return unknown(
    slurmJobId,
    `Slurm job ${slurmJobId} is not one of Mento's.`,
    `Whoever has submitted it can cancel it: scancel ${slurmJobId}`,
  );
}
