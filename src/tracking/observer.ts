import { requireOnline, rootsOfFiles, type Sessions } from "../beamtime/session.ts";
import { cancelRequestsDirectory, localData, type SiteFolders } from "../jobs/site-folders.ts";
import { jobCommentOf } from "../jobs/directory.ts";
import { hasNotRun, runnerOf, wasCancelledBefore } from "../jobs/not-run.ts";
import { parseProcesses, processesCommand, type ProcessJob } from "../jobs/process.ts";
import type { ResultRoots } from "./results.ts";
import { parseSqueue, squeueCommand } from "../slurm/squeue.ts";
import type { TrackingRecord } from "./tracking-record.ts";
import { runIdOf } from "./watched.ts";
import type { JobMethod } from "../messages/job-event.ts";
import type { SessionShells } from "../submission/session-shells.ts";
import type { SlurmRest } from "../slurm/rest/slurm-rest.ts";
import { unreadable, type ListedJob } from "../slurm/rest/versions.ts";
import type { CommandEnd, Shell } from "../shells/shell.ts";
import type { ReportedJob } from "../slurm/job-states.ts";

/** Where jobs of one kind can be seen. */
export interface Observer {
  /** Where their directories are. */
  shell: Shell;
  /**
   * What is known now, by run id, from one look at all of them; who is not in it is not known there. Throws if nothing
   * can be seen.
   */
  look(records: readonly TrackingRecord[]): Promise<ReadonlyMap<string, ReportedJob>>;
  /** Whether Slurm's accounting can be asked over the shell. */
  hasAccounting: boolean;
  /** Where results of these jobs may lie. */
  results: ResultRoots;
  /** Where requests to cancel them are, if not in their directories. */
  cancelRequests?: string;
  /** Cancels a job that Slurm holds, where nobody could submit it again: the script is Slurm's alone. */
  cancelHeld?: (slurmJobId: string) => Promise<unknown>;
}

/** Where each job of a process can be seen, by its method. */
export class Observers {
  readonly #here: Shell;
  readonly #sessions: Sessions;
  readonly #shells: SessionShells;
  readonly #rest: SlurmRest | null;
  readonly #site: SiteFolders;

  constructor(
    here: Shell,
    sessions: Sessions,
    shells: SessionShells,
    rest: SlurmRest | null,
    site: SiteFolders,
  ) {
    this.#here = here;
    this.#rest = rest;
    this.#site = site;
    this.#sessions = sessions;
    this.#shells = shells;
  }

  /** Throws as `Sessions.find`, `requireOnline` and `SessionShells.open`. */
  async of({ data }: TrackingRecord): Promise<Observer> {
    const { job, session, process } = data;
    const isHere = METHODS_HERE.includes(job.method);
    const results = isHere ? await this.#resultsHere(session) : undefined;
    if (results !== undefined) {
      if (job.method === "local-bash-script") return processObserver(this.#here, results);
      if (job.method === "slurm-rest-api") {
        return {
          ...restObserver(this.#here, this.#rest, results),
          cancelRequests: cancelRequestsDirectory(this.#site),
        };
      }
      return slurmObserver(this.#here, results);
    }
    const online = requireOnline(await this.#sessions.find(session.id ?? undefined));
    const inSession = { session: rootsOfFiles(online), folders: [] };
    if (process === null) return slurmObserver(await this.#shells.open(online), inSession);
    if (process.host !== "") return processObserver(await this.#shells.open(online, process.host), inSession);
    // Nobody knows where it runs: only its own records tell of it.
    return {
      ...processObserver(await this.#shells.open(online), inSession),
      look: () => Promise.resolve(new Map()),
    };
  }

  /** What is known of a session whose metadata is gone is its folder on the core file system. */
  async #resultsHere({ id, corePath }: TrackingRecord["data"]["session"]): Promise<ResultRoots> {
    if (id === null || corePath === null) return { session: null, folders: localData(this.#site) };
    const found = await this.#sessions.find(id).catch(() => undefined);
    const session = rootsOfFiles(
      found ?? { isOpen: false, roots: { core: corePath, beamline: "", node: "" } },
    );
    return { session, folders: [] };
  }
}

export const METHODS_HERE: readonly JobMethod[] = [
  "local-bash-script",
  "local-sbatch-script",
  "slurm-rest-api",
];
const NOWHERE: ResultRoots = { session: null, folders: [] };

/** By one `squeue` for all jobs of the account. */
export function slurmObserver(shell: Shell, results = NOWHERE): Observer {
  return {
    shell,
    results,
    hasAccounting: true,
    look: async () => {
      const end = await shell.run(squeueCommand(shell.account));
      if (end.code === 0) return parseSqueue(end.stdout.toString("utf8"));
      throw failed("squeue", shell, end);
    },
  };
}

/** Slurm's REST API; records of the jobs can be read where the core file system is here. */
export function restObserver(
  shell: Shell,
  rest: Pick<SlurmRest, "list" | "cancel"> | null,
  results = NOWHERE,
): Observer {
  const known = () => {
    if (rest !== null) return rest;
    throw new Error("the configuration has no slurmRest, and a job was submitted over it");
  };
  return {
    shell,
    results,
    hasAccounting: false,
    look: async (records) => {
      const { jobs, isWhole } = await known().list();
      const byId = new Map(jobs.map((job) => [job.id, job]));
      const reports = records.flatMap((record) => {
        const id = runIdOf(record);
        const jobId = record.data.job.id;
        // One that may be among those that cannot be read is not forgotten.
        const unread = isWhole ? undefined : unreadable(id, jobCommentOf(jobId));
        const reported = restReport(jobId, byId.get(id), jobs, unread);
        return reported === undefined ? [] : [[id, reported] as const];
      });
      return new Map(reports);
    },
    cancelHeld: (slurmJobId) => known().cancel(slurmJobId),
  };
}

/** Of a job that another has run, which Slurm has forgotten, its own end says nothing. */
function restReport(
  jobId: string,
  job: ListedJob | undefined,
  jobs: readonly ListedJob[],
  unread: ListedJob | undefined,
): ReportedJob | undefined {
  const plain = (one: ListedJob) => ({ ...one, exitCode: one.exitCode ?? "0:0", log: "" });
  if (job === undefined) return unread && plain(unread);
  if (!hasNotRun(job)) return plain(job);
  const runner = runnerOf(jobId, jobs);
  if (runner !== undefined && !hasNotRun(runner)) {
    const { id: runId, reservation, partition } = runner;
    const instead = { runId, reservation: reservation || null, partition: partition || null };
    return { ...plain(runner), instead };
  }
  if (unread !== undefined) return plain(unread);
  return wasCancelledBefore(job)
    ? { ...plain(job), state: "CANCELLED", exitCode: "0:0", nodes: "" }
    : undefined;
}

/** The processes of one host. */
export function processObserver(shell: Shell, results = NOWHERE): Observer {
  return {
    shell,
    results,
    hasAccounting: false,
    look: async (records) => {
      const jobs: ProcessJob[] = records.flatMap(({ data }) =>
        data.process === null ? [] : { pid: data.process.pid, directory: data.job.directory },
      );
      const end = await shell.run(processesCommand(jobs));
      if (end.code === 0) return parseProcesses(end.stdout.toString("utf8"), jobs, shell.host);
      throw failed("a look at /proc", shell, end);
    },
  };
}

function failed(what: string, { host }: Shell, { stderr }: CommandEnd): Error {
  return new Error(`${what} on ${host} failed: ${stderr.trim() || "no answer"}`);
}
