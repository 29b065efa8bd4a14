import * as z from "zod";
import { JobMethod } from "../messages/job-event.ts";
import { tryPlainJson } from "../messages/json.ts";
import { quote, quoteAll } from "../shells/quote.ts";
import { fieldsOf, markedLines } from "../shells/answer-lines.ts";
import { BOUNDED_FILE, READ_SECONDS, REQUEST_BYTES, within } from "../shells/bounded-file.ts";
import { ACCEPTED_FUNCTION, askFunction, type CancelRequest } from "./cancel-request.ts";
import { directoryOf, jobCommentOf } from "./directory.ts";
import {
  CANCELLED,
  endFromBoth,
  endFromRecord,
  endFromRecordAlone,
  endFromSlurmAlone,
  hasBegun,
  type JobEnd,
} from "./job.ts";
import { parseRecords, printRecordsCommand, type JobRecords } from "./records.ts";
import { REQUEST_PREFIX } from "./run-script.ts";
import { parseSqueue, partTask, squeueCommand, type SlurmJob } from "../slurm/squeue.ts";
import { MOST_REQUEST_VALUES } from "./submit-said.ts";
import { endFromSlurm, meaningOf, type ReportedJob } from "../slurm/job-states.ts";
import { isReportOn } from "./is-ours.ts";

/** Jobs of one folder of job directories. */
export interface CancelJobs {
  jobsDirectory: string;
  jobIds: readonly string[];
  /** Whose jobs in Slurm are looked at; null: these are no jobs of Slurm. */
  account: string | null;
  /** Where requests to cancel them are, if not in their directories. */
  cancelRequests?: string | undefined;
}

/** What is found of a job that is to be cancelled. */
export interface FoundJob {
  id: string;
  directory: string;
  records: JobRecords;
  /** What it was submitted by; undefined if its directory does not say. */
  method: JobMethod | undefined;
  /** When it was looked at, by the clock of the host where its records lie, in milliseconds; null if that is not said. */
  readAt: number | null;
  /** The array that it was submitted with as a task. */
  array: string | undefined;
  /** Jobs of Slurm that are this one, by our comment; a number alone may be another's. */
  inSlurm: readonly SlurmJob[];
}

/** One look, which changes nothing. */
export interface CancelQuery {
  /** By our id; who is not in it is not here. */
  found: ReadonlyMap<string, FoundJob>;
  /** All jobs of the account, by Slurm's id; undefined: Slurm did not answer. */
  slurm: ReadonlyMap<string, SlurmJob> | undefined;
}

/** How a job stands, as far as one look tells. */
export type Standing =
  | { kind: "living"; slurmJobIds: readonly string[] }
  /** It has stopped, and how will be known when its node is done with it. */
  | { kind: "ending" }
  | { kind: "ended"; end: JobEnd; at: string | null }
  /** It is just being submitted, for the first time or again, or that was cut off. */
  | { kind: "in-flight" }
  /** Slurm, or its host, has nothing of it, and it has left no record. */
  | { kind: "forgotten" };

const NO_SLURM = "mento-slurm-does-not-answer";
/** What is behind it is not Slurm's. */
const DIRECTORIES = "mento-directories";
const REQUEST_LINE = "mento-request";
const SQUEUE_SECONDS = 20;
/** `scancel` tries again by itself, for minutes. */
const SCANCEL_SECONDS = 40;
/** So long the commands here can take. */
export const LONGEST_CANCEL_SECONDS = SQUEUE_SECONDS + SCANCEL_SECONDS + 30;

/** A directory that the account cannot write to is another's. */
export function cancelQueryCommand({ jobsDirectory, jobIds, account, cancelRequests }: CancelJobs): string {
  const slurm = account === null ? "" : `${squeueCommand(account)} || echo ${NO_SLURM}\n`;
  return `${slurm}echo ${DIRECTORIES}
${
  cancelRequests !== undefined
    ? within(READ_SECONDS, printRequests(jobsDirectory, jobIds))
    : `[ -d ${quote(jobsDirectory)} ] || exit 0
${within(READ_SECONDS, printRequests(jobsDirectory, jobIds))} || exit 1`
}
${printRecordsCommand(jobsDirectory, jobIds, { cancelRequests })}`;
}

function printRequests(jobsDirectory: string, jobIds: readonly string[]): string {
  return `cd ${quote(jobsDirectory)} || exit 1
${BOUNDED_FILE}
for id in ${quoteAll(jobIds)}; do
  [ -d "$id" ] && [ ! -L "$id" ] && [ -w "$id" ] || continue
  printf '${REQUEST_LINE} %s %s\\n' "$id" "$(content "$id/run.sh" ${REQUEST_BYTES} | sed -n '2{p;q}' | base64 -w 0)"
done`;
}

/** Jobs, and what Slurm calls those of them that live. */
export type Living = ReadonlyMap<string, readonly string[]>;

/**
 * Cancels these jobs of Slurm, and then looks. Each directory says before who has asked: a submit that comes later is
 * then cancelled by whoever sends it.
 */
export function cancelInSlurmCommand(jobs: CancelJobs, living: Living, request: CancelRequest): string {
  const directories = jobs.jobIds.map((id) => directoryOf(jobs.jobsDirectory, id));
  const inSlurm = jobs.jobIds.filter((id) => living.get(id)?.length);
  const slurmJobIds = inSlurm.flatMap((id) => living.get(id) ?? []);
  // A waiting task of an array leaves no trace if it is not parted from the others first; see squeue.ts.
  const tasks = inSlurm.flatMap((id) =>
    (living.get(id) ?? []).filter((one) => one.includes("_")).map((one) => partTask(one, jobCommentOf(id))),
  );
  const scancel = `${tasks.join("\n")}
timeout ${SCANCEL_SECONDS} scancel ${quoteAll(slurmJobIds)} && {
${acceptedCommand(jobs.jobsDirectory, inSlurm)}
}`;
  return `${askCommand(directories, request)}
${inSlurm.length === 0 ? "" : scancel}
${cancelQueryCommand(jobs)}`;
}

/** Slurm has taken the cancellation of these jobs, while they lived. */
export function acceptedCommand(jobsDirectory: string, jobIds: readonly string[]): string {
  const directories = quoteAll(jobIds.map((id) => directoryOf(jobsDirectory, id)));
  return within(
    READ_SECONDS,
    `${ACCEPTED_FUNCTION}
for d in ${directories}; do accepted "$d"; done`,
  );
}

/** What cannot be written down is cancelled all the same. A job that Slurm was given without a directory gets one. */
export function askCommand(directories: readonly string[], request: CancelRequest): string {
  return within(
    READ_SECONDS,
    `${askFunction(request)}
for d in ${quoteAll(directories)}; do
  { [ -d "$d" ] || mkdir "$d"; } && ask "$d"
done`,
  );
}

const Request = z.object({
  method: JobMethod.optional(),
  array: z.string().optional(),
});

/**
 * What {@link lookCommand} has printed, or a program that the account has put in the way: anything, as long as it likes.
 *
 * @param known Slurm's jobs, if they were asked for in another way
 */
export function parseCancelQuery(
  output: Buffer,
  { jobsDirectory, jobIds, account }: CancelJobs,
  known?: CancelQuery["slurm"],
): CancelQuery {
  const at = output.indexOf(`${DIRECTORIES}\n`);
  const [fromSlurm, fromDirectories] =
    at < 0 ? [output, NOTHING] : [output.subarray(0, at), output.subarray(at)];
  const isKnown = account !== null && at >= 0 && !fromSlurm.includes(NO_SLURM);
  const slurm = known ?? (isKnown ? parseSqueue(fromSlurm.toString("utf8")) : undefined);
  const requests = requestsIn(fromDirectories, jobIds);
  const records = parseRecords(fromDirectories, jobIds);
  const marked = byJobComment(slurm, jobIds);
  const found = new Map<string, FoundJob>();
  for (const id of jobIds) {
    const directory = directoryOf(jobsDirectory, id);
    const { records: written = {}, readAt = null } = records.get(id) ?? {};
    const encoded = requests.get(id);
    const request = readRequest(encoded ?? "");
    const inSlurm = marked.get(jobCommentOf(id)) ?? [];
    const named = slurm?.get(written.submitted?.runId ?? "");
    const isMore = named !== undefined && !inSlurm.includes(named);
    if (isMore && isReportOn({ id, directory, array: request.array }, named)) inSlurm.unshift(named);
    if (encoded === undefined && inSlurm.length === 0) continue;
    found.set(id, { id, directory, records: written, readAt, inSlurm, ...request });
  }
  return { found, slurm };
}

const NOTHING = Buffer.alloc(0);
/** As what a job is in Slurm at once: it may have been submitted again. */
const MOST_IN_SLURM = 64;

/** In base64, as they were printed. */
function requestsIn(output: Buffer, jobIds: readonly string[]): Map<string, string> {
  const wanted = new Set(jobIds);
  const requests = new Map<string, string>();
  for (const line of markedLines(output, REQUEST_LINE)) {
    const [, id = "", encoded] = fieldsOf(line, " ", 3);
    if (encoded !== undefined && wanted.has(id) && !requests.has(id)) requests.set(id, encoded);
  }
  return requests;
}

/** Jobs of Slurm by the job comments of these jobs. */
function byJobComment(slurm: CancelQuery["slurm"], jobIds: readonly string[]): Map<string, SlurmJob[]> {
  const marked = new Map<string, SlurmJob[]>(jobIds.map((id) => [jobCommentOf(id), []]));
  for (const job of slurm?.values() ?? []) {
    const ones = marked.get(job.comment);
    if (ones !== undefined && ones.length < MOST_IN_SLURM) ones.push(job);
  }
  return marked;
}

function readRequest(encoded: string): Pick<FoundJob, "method" | "array"> {
  const text = Buffer.from(encoded, "base64").toString("utf8", REQUEST_PREFIX.length, REQUEST_BYTES);
  const { method, array } = Request.safeParse(tryPlainJson(text, MOST_REQUEST_VALUES)).data ?? {};
  return { method, array };
}

/** Our job's id by Slurm's; undefined if Slurm's job is not of ours. */
export function ownIdOf(job: SlurmJob): string | undefined {
  return /^mento:([A-Za-z0-9][A-Za-z0-9_-]{0,99})$/.exec(job.comment)?.[1];
}

/** A job that has recorded how it ended by itself has ended so, whatever Slurm is still at. */
export function standingInSlurm({ records, inSlurm, method }: FoundJob): Standing {
  const { submitted } = records;
  const byItself = endByItself(records);
  if (byItself !== undefined) return byItself;
  const isEnding = (job: SlurmJob) => job.state === "COMPLETING" || job.state === "CG";
  const living = inSlurm.filter((job) => !isEnding(job) && endFromSlurm(job.state) === undefined);
  // A state that is not known is no end either.
  if (living.length > 0) return { kind: "living", slurmJobIds: living.map(({ id }) => id) };
  if (inSlurm.some(isEnding)) return { kind: "ending" };
  const reported = inSlurm.find(({ id }) => id === submitted?.runId) ?? inSlurm[0];
  const isToCome = submitted?.isBeingResubmitted === true && (reported?.state ?? "CANCELLED") === "CANCELLED";
  if (isToCome) return { kind: "in-flight" };
  if (reported !== undefined) return endedBy(reported, records, method);
  const isAccepted = records.cancelled?.isAccepted === true;
  return submitted === undefined && !isAccepted ? { kind: "in-flight" } : endedSilently(records);
}

/** @param word what its host says; undefined if it was not asked */
export function standingOfProcess({ records }: FoundJob, reported: ReportedJob | undefined): Standing {
  const byItself = endByItself(records);
  if (byItself !== undefined) return byItself;
  if (records.submitted === undefined) return { kind: "in-flight" };
  if (reported === undefined) return { kind: "forgotten" };
  return meaningOf(reported.state) === "goes-on"
    ? { kind: "living", slurmJobIds: [] }
    : endedBy(reported, records);
}

function endByItself({ ended }: JobRecords): Standing | undefined {
  if (ended === undefined) return undefined;
  const end = endFromRecord(ended.record);
  return end && { kind: "ended", end, at: ended.record.at };
}

/** By Slurm's report, or that of its host, which alone has an exit code. */
function endedBy(reported: SlurmJob | ReportedJob, records: JobRecords, method?: JobMethod): Standing {
  const { state } = reported;
  const record = records.ended?.record;
  const end = (record && endFromBoth(record, state)) ?? endedWithoutRecord(reported, records, method);
  return end === undefined ? { kind: "forgotten" } : { kind: "ended", end, at: record?.at ?? null };
}

function endedWithoutRecord(
  reported: SlurmJob | ReportedJob,
  { started, cancelled }: JobRecords,
  method: JobMethod | undefined,
): JobEnd | undefined {
  const { state } = reported;
  if ("exitCode" in reported) {
    const { exitCode = "0:0", nodes = "" } = reported;
    const isAsked = cancelled !== undefined;
    const hasStarted = hasBegun(method, started !== undefined, exitCode);
    return endFromSlurmAlone({ state, exitCode, nodes, hasStarted, isAsked, log: "" });
  }
  const end = endFromSlurm(state);
  return end && { ...end, code: null, signal: null };
}

/** Slurm has nothing of it any more. */
function endedSilently({ ended, cancelled }: JobRecords): Standing {
  if (ended !== undefined) {
    const end = endFromRecordAlone(ended.record, cancelled !== undefined);
    return { kind: "ended", end, at: ended.record.at };
  }
  return cancelled?.isAccepted === true ? { kind: "ended", end: CANCELLED, at: null } : { kind: "forgotten" };
}
