import { requireOnline, type Session, type Sessions } from "../beamtime/session.ts";
import { folderOf, type LastJobEvent } from "./job-history.ts";
import { cancelAt, ownIds, type CancelTarget } from "./cancel-at.ts";
import { failed, goneSince, unknown } from "./cancel-outcomes.ts";
import {
  cancelRequestsDirectory,
  jobsDirectory,
  localJobsDirectory,
  slurmJobsDirectory,
  type SiteFolders,
} from "../jobs/site-folders.ts";
import { MentoError } from "../errors.ts";
import type { CancelRequest } from "../jobs/cancel-request.ts";
import { JobName, type CancelOutcome } from "../messages/job-cancel.ts";
import type { JobEventData, JobMethod } from "../messages/job-event.ts";
import type { SessionShells } from "../submission/session-shells.ts";
import type { SlurmRest } from "../slurm/rest/slurm-rest.ts";
import type { Shell } from "../shells/shell.ts";

/** The ways to the places where jobs are. */
interface CancelJobsDeps {
  site: SiteFolders;
  sessions: Sessions;
  shells: SessionShells;
  here: Shell;
  rest: SlurmRest | null;
  /** Nodes of the configuration's triggers: where processes of a session can be, beside its own nodes. */
  destinations: readonly string[];
}

export interface CancelDeps extends CancelJobsDeps {
  /** What was last announced of jobs, by the names that are asked for. */
  lastEvents: (names: readonly string[]) => Promise<ReadonlyMap<string, LastJobEvent>>;
  /** Has a job cancelled by its host's worker, which alone can reach it. */
  askHost: (host: string, group: string, jobId: string, request: CancelRequest) => Promise<CancelOutcome>;
}

/**
 * Cancels jobs, wherever they are. All places where jobs of open sessions and of this host are looked at, and cancel what
 * they have; beside that the history is read. Whoever has a place can claim any job's id there: an event, which is a
 * worker's word, says which place is believed. The others are not waited for: an account may take its time to answer.
 *
 * One outcome for each name, in their order; what could not be found out of one keeps no other.
 *
 * @param names Mento's ids, or Slurm's
 * @param told of each outcome as soon as it is known: other names' nodes may take their time
 */
export async function cancelJobs(
  names: readonly string[],
  request: CancelRequest,
  deps: CancelDeps,
  told: (outcome: CancelOutcome) => void = () => undefined,
): Promise<CancelOutcome[]> {
  const wanted = [...new Set(names)];
  const jobs = wanted.filter((name) => JobName.safeParse(name).success);
  if (jobs.length === 0) return wanted.map(nowhere);
  const reading = readHistory(jobs, deps);
  const numbers = jobs.filter(isSlurmId);
  // Any account can have its own job announced under another's number: nothing is cancelled by one that is in doubt.
  const inDoubt = numbers.length === 0 ? new Set<string>() : contestedIn(await reading, numbers);
  const [{ looks, broken }, { events, silence }] = await Promise.all([
    searchOpenSessions(
      jobs.filter((name) => !inDoubt.has(name)),
      request,
      deps,
    ),
    reading,
  ]);
  const folderOfName = (name: string) => {
    const event = events.get(name);
    return event && folderOf(event.data);
  };
  const outcomes = new Map<string, CancelOutcome>();
  const settle = async (folder: string | undefined) => {
    const believed = looks.filter(({ jobsDirectory }) => folder === undefined || jobsDirectory === folder);
    const claims = await Promise.all(believed.map((look) => look.claims));
    const failures = [broken, ...claims.map(({ failure }) => failure), silence];
    for (const name of jobs.filter((one) => folderOfName(one) === folder)) {
      const claimed = mostCertain(claims.flatMap((one) => one.outcomes.get(name) ?? []));
      const event = events.get(name);
      const outcome =
        event === undefined
          ? (claimed ?? unfound(name, failures))
          : await byEvent(name, event, claimed, request, deps);
      outcomes.set(name, outcome);
      told(outcome);
    }
  };
  await Promise.all([...new Set(jobs.map(folderOfName))].map(settle));
  return wanted.map((name) => outcomes.get(name) ?? nowhere(name));
}

const isSlurmId = (name: string) => /^\d+(_\d+)?$/.test(name);

/** Those that several jobs are announced under; all, if it is not known what was announced. */
function contestedIn({ events, silence }: History, numbers: readonly string[]): Set<string> {
  return new Set(numbers.filter((name) => silence !== undefined || events.get(name)?.isContested === true));
}

/** Cancels one job of which it is known where it is: also of a session that is not open any more. */
export async function cancelKnown(
  data: JobEventData,
  request: CancelRequest,
  deps: CancelJobsDeps,
): Promise<CancelOutcome> {
  const { id, directory } = data.job;
  const ended = goneSince(data);
  if (ended !== undefined) return ended;
  try {
    const target = await targetOfJob(data, deps);
    return (await cancelAt(target, [id], request)).get(id) ?? removed(id, directory);
  } catch (error) {
    return failed(id, error);
  }
}

/** What is said at one place of the names; where it could not be looked at, why. */
interface Claims {
  outcomes: ReadonlyMap<string, CancelOutcome>;
  failure?: MentoError;
}

/** A place that is being looked at. */
interface Look {
  jobsDirectory: string;
  claims: Promise<Claims>;
}

async function searchOpenSessions(
  names: readonly string[],
  request: CancelRequest,
  deps: CancelDeps,
): Promise<{ looks: Look[]; broken: MentoError | undefined }> {
  const { site, sessions, rest } = deps;
  const { open, broken } = await sessions.open();
  const look = (folder: string, opening: CancelTarget | Promise<CancelTarget>): Look => {
    const claims = lookIn(opening, names, request);
    // It may throw when nobody waits for it any more.
    claims.catch(() => undefined);
    return { jobsDirectory: folder, claims };
  };
  const searchHere = (method: JobMethod, folder: string) => look(folder, targetHere(method, folder, deps));
  const looks = [
    ...open
      .filter(({ online }) => online !== null)
      .map((session) => look(jobsDirectory(site, session.roots.core), placeOf(session, deps))),
    ...open.map(({ id }) => searchHere("local-sbatch-script", slurmJobsDirectory(site, id))),
    ...(rest === null ? [] : open).map(({ roots }) =>
      searchHere("slurm-rest-api", jobsDirectory(site, roots.core)),
    ),
    searchHere("local-bash-script", localJobsDirectory(site)),
  ];
  return { looks, broken: broken && requireOurs(broken) };
}

/**
 * Where jobs of a session are that run as its account.
 *
 * @param host where a process of it is, by a worker's word
 */
async function placeOf(session: Session, deps: CancelJobsDeps, host?: string): Promise<CancelTarget> {
  const { site, shells, destinations } = deps;
  const online = requireOnline(session);
  const hosts = [...online.online.nodes, ...destinations, host];
  return {
    jobsDirectory: jobsDirectory(site, session.roots.core),
    shell: await shells.open(online),
    methods: ["remote-sbatch-script", "remote-command"],
    // The account could name any host, and have us connect to it.
    shellOn: async (name) => (hosts.includes(name) ? shells.open(online, name) : undefined),
  };
}

/** Where jobs are that are seen from this host: of our own account, or of that of Slurm's REST API. */
function targetHere(method: JobMethod, folder: string, { here, rest, site }: CancelJobsDeps): CancelTarget {
  const target = {
    jobsDirectory: folder,
    shell: here,
    methods: [method],
    shellOn: (host: string) => Promise.resolve(host === here.host ? here : undefined),
  };
  if (method !== "slurm-rest-api") return target;
  return { ...target, rest, cancelRequests: cancelRequestsDirectory(site) };
}

async function lookIn(
  opening: CancelTarget | Promise<CancelTarget>,
  names: readonly string[],
  request: CancelRequest,
): Promise<Claims> {
  const outcomes = new Map<string, CancelOutcome>();
  try {
    const target = await opening;
    const numbers = names.filter((name) => /^\d+$/.test(name));
    const ids = new Map(names.map((name) => [name, name]));
    // This host need not have Slurm's commands; of jobs that it has submitted with them, the events know the number.
    if ((target.rest != null || target.methods.includes("remote-sbatch-script")) && numbers.length > 0) {
      for (const [number, id] of await ownIds(target, numbers)) {
        if (id !== null) ids.set(number, id);
        else outcomes.set(number, notOurs(number));
      }
    }
    const cancelled = await cancelAt(target, [...new Set(ids.values())], request);
    for (const [name, id] of ids) {
      const outcome = cancelled.get(id);
      if (outcome !== undefined) outcomes.set(name, { ...outcome, job: name });
    }
    return { outcomes };
  } catch (error) {
    return { outcomes, failure: requireOurs(error) };
  }
}

interface History {
  events: ReadonlyMap<string, LastJobEvent>;
  /** Why they are not known. */
  silence: MentoError | undefined;
}

/** Where the broker cannot be asked, the places' claims are all that there is. */
async function readHistory(names: readonly string[], { lastEvents }: CancelDeps): Promise<History> {
  const none = new Map<string, LastJobEvent>();
  try {
    return { events: await lastEvents(names), silence: undefined };
  } catch (error) {
    const failure = requireOurs(error);
    // Where no worker has ever run, there is no history to ask.
    return { events: none, silence: failure.code === "exchange-missing" ? undefined : failure };
  }
}

/** What is no error of ours is a bug, and thrown. */
function requireOurs(error: unknown): MentoError {
  if (error instanceof MentoError) return error;
  throw error;
}

const CERTAIN: readonly CancelOutcome["outcome"][] = ["cancelled", "gone", "failed", "unknown"];

/** A job of the REST API's account may be found over SSH too: whoever has cancelled it, or knows who has, is right. */
function mostCertain(claims: readonly CancelOutcome[]): CancelOutcome | undefined {
  const rank = ({ outcome, cancelledBy }: CancelOutcome) =>
    CERTAIN.indexOf(outcome) + (cancelledBy === null ? 0.5 : 0);
  return [...claims].sort((one, other) => rank(one) - rank(other))[0];
}

/** @param claimed what is said where the event says that the job is */
async function byEvent(
  name: string,
  event: LastJobEvent,
  claimed: CancelOutcome | undefined,
  request: CancelRequest,
  deps: CancelDeps,
): Promise<CancelOutcome> {
  if (event.isContested) return contested(name);
  const { id, directory } = event.data.job;
  // It is there, but does not tell how it has ended, or is another host's: its event may help.
  const isOpen = claimed?.outcome === "unknown" || claimed?.error?.code === "worker-silent";
  if (claimed !== undefined && !isOpen) return claimed;
  try {
    const outcome = (await followEvent(event, request, deps)) ?? claimed ?? removed(id, directory);
    return { ...outcome, job: name };
  } catch (error) {
    return { ...failed(name, error), id };
  }
}

/** Undefined: what it leads to has no such job. */
async function followEvent(
  { data, group }: LastJobEvent,
  request: CancelRequest,
  deps: CancelDeps,
): Promise<CancelOutcome | undefined> {
  const { job, process } = data;
  const { id } = job;
  const ended = goneSince(data);
  if (ended !== undefined) return ended;
  if (job.method === "local-bash-script") return deps.askHost(process?.host ?? "", group, id, request);
  return (await cancelAt(await targetOfJob(data, deps), [id], request)).get(id);
}

/** Where the job is by what was last said of it. */
async function targetOfJob(data: JobEventData, deps: CancelJobsDeps): Promise<CancelTarget> {
  const { job, session } = data;
  const isBySession = job.method === "remote-sbatch-script" || job.method === "remote-command";
  if (!isBySession) return targetHere(job.method, folderOf(data), deps);
  return placeOf(await deps.sessions.find(session.id ?? undefined), deps, data.process?.host);
}

function notOurs(slurmJobId: string): CancelOutcome {
  return unknown(
    slurmJobId,
    `Slurm job ${slurmJobId} is not one of Mento's.`,
    `Whoever has submitted it can cancel it: scancel ${slurmJobId}`,
  );
}

function contested(slurmJobId: string): CancelOutcome {
  const { error, ...none } = unknown(
    slurmJobId,
    `Jobs in several folders are announced as Slurm job ${slurmJobId}: which of them it is, is not known.`,
    "Name the job by Mento's id, as its events have it.",
  );
  return { ...none, outcome: "failed", error };
}

function removed(id: string, directory: string): CancelOutcome {
  return unknown(id, `There is no job ${id}: it is not in ${directory}.`, "Its directory was removed.");
}

function unfound(name: string, failures: readonly (MentoError | undefined)[]): CancelOutcome {
  const failure = failures.find((one) => one !== undefined);
  return failure === undefined ? nowhere(name) : { ...failed(name, failure), id: null };
}

function nowhere(name: string): CancelOutcome {
  return unknown(
    name,
    `There is no job ${name}: neither an open session nor this host has it, nor is it in the events of the last 14 days.`,
    "Ids of jobs are in their events.",
  );
}
