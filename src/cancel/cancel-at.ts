import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { accountHere } from "../files/account-here.ts";
import { failed, outOfReach, refused, slurmSilent, unknown } from "./cancel-outcomes.ts";
import { MentoError } from "../errors.ts";
import { accountingCommand, parseAccounting } from "../slurm/accounting.ts";
import { lastLines } from "../shells/answer-lines.ts";
import {
  acceptedCommand,
  askCommand,
  cancelInSlurmCommand,
  cancelQueryCommand,
  LONGEST_CANCEL_SECONDS,
  ownIdOf,
  parseCancelQuery,
  standingInSlurm,
  standingOfProcess,
  type CancelJobs,
  type CancelQuery,
  type FoundJob,
  type Living,
  type Standing,
} from "../jobs/cancel.ts";
import type { CancelRequest } from "../jobs/cancel-request.ts";
import { directoryOf } from "../jobs/directory.ts";
import { endFromSlurmAlone } from "../jobs/job.ts";
import {
  cancelProcessesCommand,
  parseCancelled,
  parseProcesses,
  processesCommand,
  type ProcessJob,
} from "../jobs/process.ts";
import { requirePrivateFolder } from "../jobs/private-folder.ts";
import type { CancelOutcome } from "../messages/job-cancel.ts";
import type { JobMethod } from "../messages/job-event.ts";
import { isWorthRetrying } from "../tracking/resubmit.ts";
import type { SlurmRest } from "../slurm/rest/slurm-rest.ts";
import type { Shell } from "../shells/shell.ts";
import { isReportOn } from "../jobs/is-ours.ts";

/** A folder of job directories, and the way to it. */
export interface CancelTarget {
  jobsDirectory: string;
  /** Of the account that the jobs there are of. */
  shell: Shell;
  /** Jobs of other ways, which can be in the same folder, are not touched. */
  methods: readonly JobMethod[];
  /** Where a process of the host with this name is ended; undefined: it cannot be from here. */
  shellOn(host: string): Promise<Shell | undefined>;
  /** Slurm's REST API, where Slurm is asked over it. */
  rest?: SlurmRest | null;
  /** Where requests to cancel are kept, if the jobs' directories are not of this account. */
  cancelRequests?: string;
}

/** Their directories lie among those of other ways: one that does not say is not taken for theirs. */
const BESIDE_OTHERS: readonly JobMethod[] = ["local-sbatch-script", "slurm-rest-api"];
const BY_SLURM: readonly JobMethod[] = ["remote-sbatch-script", "local-sbatch-script", "slurm-rest-api"];

/** Whoever runs this program asks. */
export function requestFromHere(reason: string | null): CancelRequest {
  const who = `${accountHere()}@${hostname()}`;
  return { who, reason, at: new Date().toISOString() };
}

/** A submit, or a resubmit, may come between a look and a cancel. */
const TRIES = 5;
const BETWEEN_TRIES_MS = 1_000;
const FORGOTTEN_WITHIN_MS = 15 * 60_000;
const DAY_SECONDS = 24 * 3600;

/**
 * Cancels jobs whose directories are in one folder; needs no broker. A job that is not there is not in the answer.
 *
 * @param jobIds Mento's own
 * @throws Unavailable `ssh-unreachable`, `ssh-lost` and whatever else the shell throws, if nothing could be found out
 */
export async function cancelAt(
  target: CancelTarget,
  jobIds: readonly string[],
  request: CancelRequest,
): Promise<Map<string, CancelOutcome>> {
  const { methods } = target;
  const isKnownHere = ({ inSlurm }: FoundJob) =>
    inSlurm.length > 0 || !methods.some((method) => BESIDE_OTHERS.includes(method));
  const look = await lookAt(target, jobIds);
  const found = [...look.found.values()]
    .map((job) => ({ ...job, method: job.method ?? (isKnownHere(job) ? methods[0] : undefined) }))
    .filter(({ method }) => method !== undefined && methods.includes(method));
  const outcomes = new Map<string, CancelOutcome>();
  const take = async (jobs: readonly FoundJob[], work: () => Promise<Map<string, CancelOutcome>>) => {
    if (jobs.length === 0) return;
    try {
      for (const [id, outcome] of await work()) outcomes.set(id, outcome);
    } catch (error) {
      for (const { id } of jobs) outcomes.set(id, failed(id, error));
    }
  };

  const isProcess = ({ method }: FoundJob) => method !== undefined && !BY_SLURM.includes(method);
  const started = await stopUnstarted(found.filter(isProcess), target, request);
  for (const host of new Set(started.map(hostOf))) {
    const jobs = started.filter((job) => hostOf(job) === host);
    await take(jobs, async () => {
      // The look at it, and the request, are all that there is to do of one that has not started.
      if (host === "")
        return new Map(jobs.map((job) => [job.id, outcomeOf(job, { kind: "in-flight" }, true)]));
      const shell = await target.shellOn(host);
      if (shell === undefined) return new Map(jobs.map((job) => [job.id, outcomeElsewhere(job, host)]));
      return cancelProcesses(jobs, shell, target, request);
    });
  }
  const inSlurm = found.filter((job) => !isProcess(job));
  const ids = inSlurm.map(({ id }) => id);
  await take(inSlurm, () => cancelInSlurm(target, ids, request, look));
  return outcomes;
}

/** Mento's ids by Slurm's, for those that Slurm knows of the account; null: another program's. */
export async function ownIds(
  target: CancelTarget,
  slurmJobIds: readonly string[],
): Promise<Map<string, string | null>> {
  const { slurm } = await lookAt(target, []);
  if (slurm === undefined) throw slurmSilent(target.shell);
  return new Map(
    slurmJobIds.flatMap((slurmJobId) => {
      const job = slurm.get(slurmJobId);
      return job === undefined ? [] : [[slurmJobId, ownIdOf(job) ?? null] as const];
    }),
  );
}

async function lookAt(target: CancelTarget, jobIds: readonly string[]): Promise<CancelQuery> {
  const { shell, rest } = target;
  const jobs = jobsOf(target, jobIds);
  const list = rest == null ? undefined : await rest.list();
  const listed = list && new Map(list.jobs.map((job) => [job.id, job]));
  const end = await shell.run(cancelQueryCommand(jobs), { timeout: LONGEST_CANCEL_SECONDS * 1000 });
  if (end.code === 0) {
    const look = parseCancelQuery(end.stdout, jobs, listed);
    // Of a job that it does not name, a list with something unreadable says nothing.
    return list?.isWhole === false ? { ...look, slurm: undefined } : look;
  }
  throw new MentoError({
    code: "cancel-refused",
    message: `The job directories in ${target.jobsDirectory} cannot be read on ${shell.host}: ${lastLines(end.stderr).at(-1) ?? ""}.`,
    hint: `Can ${shell.account} read and write there?`,
  });
}

function jobsOf(target: CancelTarget, jobIds: readonly string[]): CancelJobs {
  const { jobsDirectory, shell, methods, rest, cancelRequests } = target;
  const isAsked = rest == null && methods.some((method) => BY_SLURM.includes(method));
  return { jobsDirectory, jobIds, account: isAsked ? shell.account : null, cancelRequests };
}

async function cancelInSlurm(
  target: CancelTarget,
  jobIds: readonly string[],
  request: CancelRequest,
  before: CancelQuery,
): Promise<Map<string, CancelOutcome>> {
  const { shell } = target;
  const outcomes = new Map<string, CancelOutcome>();
  const asked = new Set<string>();
  let look = before;
  let said = "";
  for (let tried = 0; ; tried++) {
    const living = new Map<string, readonly string[]>();
    for (const job of [...look.found.values()].filter(({ id }) => jobIds.includes(id) && !outcomes.has(id))) {
      const standing = standingInSlurm(job);
      const isAsked = asked.has(job.id);
      if (standing.kind === "living") living.set(job.id, standing.slurmJobIds);
      else if (look.slurm === undefined && standing.kind !== "ended") {
        outcomes.set(job.id, failed(job.id, slurmSilent(shell)));
      } else if (mayComeAgain(standing) && !isAsked) living.set(job.id, []);
      else if (standing.kind === "forgotten" && !isAsked && target.rest == null) {
        const outcome = await askAccounting(job, shell);
        // A worker may be about to submit it again: not if its directory says so.
        if (outcome.outcome === "unknown" && mayBeSubmittedAgain(job)) living.set(job.id, []);
        else outcomes.set(job.id, outcome);
      } else outcomes.set(job.id, outcomeOf(job, standing, isAsked));
    }
    if (living.size === 0) return outcomes;
    if (tried === TRIES) {
      for (const id of living.keys()) outcomes.set(id, failed(id, refused(id, said)));
      return outcomes;
    }
    if (tried > 0) await sleep(BETWEEN_TRIES_MS);
    for (const id of living.keys()) asked.add(id);
    ({ look, said } = await cancelThere(target, living, request));
  }
}

/** Slurm has forgotten it, perhaps since its controller was killed before the job began (jobs/forgotten.ts). */
function mayBeSubmittedAgain({ records, readAt }: FoundJob): boolean {
  const age = (readAt ?? Date.now()) - Date.parse(records.submitted?.at ?? "");
  return records.started === undefined && age < FORGOTTEN_WITHIN_MS;
}

/** What has ended without its own fault may be submitted again, unless its directory says that it is not to be. */
function mayComeAgain(standing: Standing): boolean {
  if (standing.kind === "in-flight") return true;
  return standing.kind === "ended" && isWorthRetrying(standing.end);
}

async function cancelThere(
  target: CancelTarget,
  living: Living,
  request: CancelRequest,
): Promise<{ look: CancelQuery; said: string }> {
  const { shell, jobsDirectory, rest } = target;
  const jobs = jobsOf(target, [...living.keys()]);
  if (rest == null) {
    const command = cancelInSlurmCommand(jobs, living, request);
    const end = await shell.run(command, { timeout: LONGEST_CANCEL_SECONDS * 1000 });
    return { look: parseCancelQuery(end.stdout, jobs), said: end.stderr };
  }
  // The directories are of whoever the jobs run as: this account writes nothing there.
  const requests = target.cancelRequests ?? jobsDirectory;
  requirePrivateFolder(requests);
  const asked = jobs.jobIds.map((id) => directoryOf(requests, id));
  await shell.run(askCommand(asked, request));
  for (const slurmJobId of [...living.values()].flat()) await rest.cancel(slurmJobId);
  const inSlurm = jobs.jobIds.filter((id) => living.get(id)?.length);
  await shell.run(acceptedCommand(requests, inSlurm));
  return { look: await lookAt(target, jobs.jobIds), said: "" };
}

/** A run script looks for a request before its program starts. Returns the jobs as they are then. */
async function stopUnstarted(
  jobs: readonly FoundJob[],
  target: CancelTarget,
  request: CancelRequest,
): Promise<FoundJob[]> {
  const unstarted = jobs.filter(({ records }) => records.submitted === undefined);
  if (unstarted.length === 0) return [...jobs];
  const directories = unstarted.map(({ directory }) => directory);
  await target.shell.run(askCommand(directories, request));
  const { found } = await lookAt(
    target,
    unstarted.map(({ id }) => id),
  );
  return [...jobs.filter((job) => !unstarted.includes(job)), ...found.values()];
}

/** On their host. */
async function cancelProcesses(
  jobs: readonly FoundJob[],
  shell: Shell,
  target: CancelTarget,
  request: CancelRequest,
): Promise<Map<string, CancelOutcome>> {
  const outcomes = new Map<string, CancelOutcome>();
  const living: FoundJob[] = [];
  for (const [job, standing] of await standingsOn(shell, jobs)) {
    if (standing.kind === "living") living.push(job);
    else outcomes.set(job.id, outcomeOf(job, standing, false));
  }
  if (living.length === 0) return outcomes;
  const end = await shell.run(cancelProcessesCommand(living.map(processOf), request));
  const cancelled = parseCancelled(end.stdout.toString("utf8"));
  const { found } = await lookAt(
    target,
    living.map(({ id }) => id),
  );
  for (const [job, standing] of await standingsOn(shell, [...found.values()])) {
    const isAsked = cancelled.has(job.records.submitted?.runId ?? "");
    const lives = standing.kind === "living" && !isAsked;
    outcomes.set(
      job.id,
      lives ? failed(job.id, refused(job.id, end.stderr)) : outcomeOf(job, standing, isAsked),
    );
  }
  return outcomes;
}

/**
 * Of a process that only its records can be asked for: its host shares the folder of its directory with this one, or is
 * none that its account can have anybody connect to.
 */
function outcomeElsewhere(job: FoundJob, host: string): CancelOutcome {
  const standing = standingOfProcess(job, undefined);
  if (standing.kind === "ended") return outcomeOf(job, standing, false);
  return outOfReach(job.id, host, job.method === "remote-command");
}

async function standingsOn(shell: Shell, jobs: readonly FoundJob[]): Promise<Map<FoundJob, Standing>> {
  const processes = jobs.map(processOf);
  const end = await shell.run(processesCommand(processes));
  const words = parseProcesses(end.stdout.toString("utf8"), processes, shell.host);
  return new Map(
    jobs.map((job) => [job, standingOfProcess(job, words.get(job.records.submitted?.runId ?? ""))]),
  );
}

/** Empty: it has not started. */
function hostOf({ records }: FoundJob): string {
  return records.submitted?.host ?? "";
}

function processOf({ records, directory }: FoundJob): ProcessJob {
  return { pid: Number(records.submitted?.runId), directory };
}

/** Slurm's controller has forgotten it, and it has left no record of its end. */
async function askAccounting(job: FoundJob, shell: Shell): Promise<CancelOutcome> {
  const { records } = job;
  const { runId = "", at = null } = records.submitted ?? {};
  const since = at === null ? Date.now() / 1000 - 14 * DAY_SECONDS : Date.parse(at) / 1000;
  const end = await shell.run(accountingCommand(shell.account, [runId], since - 3600));
  const reported = parseAccounting(end.stdout.toString("utf8"), [runId]).get(runId);
  const isOurs = reported !== undefined && isReportOn(job, reported);
  const hasStarted = records.started !== undefined;
  const isAsked = records.cancelled !== undefined;
  const found = isOurs ? endFromSlurmAlone({ ...reported, hasStarted, isAsked, log: "" }) : undefined;
  return outcomeOf(
    job,
    found === undefined ? { kind: "forgotten" } : { kind: "ended", end: found, at: null },
    false,
  );
}

/** @param isAsked whether it was living when it was told to end */
function outcomeOf({ id, records }: FoundJob, standing: Standing, isAsked: boolean): CancelOutcome {
  const cancelledBy = records.cancelled?.by ?? null;
  const common = { job: id, id, end: null, cancelledBy: null, error: null };
  switch (standing.kind) {
    case "ended": {
      const { end, at } = standing;
      const isCancelled = end.state === "cancelled";
      if (isAsked && isCancelled) return { ...common, outcome: "cancelled", cancelledBy };
      return {
        ...common,
        outcome: "gone",
        end: { ...end, at },
        cancelledBy: isCancelled ? cancelledBy : null,
      };
    }
    case "forgotten":
      if (isAsked) return { ...common, outcome: "cancelled", cancelledBy };
      return unknown(
        id,
        `Of job ${id} neither Slurm nor its own records say how it has ended.`,
        `Look at job.log in its directory, and with \`sacct -j ${records.submitted?.runId ?? ""}\`.`,
      );
    case "ending":
      if (isAsked) return { ...common, outcome: "cancelled", cancelledBy };
      return { ...common, outcome: "gone", cancelledBy };
    case "living":
      return { ...common, outcome: "cancelled", cancelledBy };
    case "in-flight":
      if (cancelledBy === null) return failed(id, refused(id, "its directory cannot be written to"));
      return { ...common, outcome: "cancelled", cancelledBy };
  }
}
