import { posix } from "node:path";
import { Rejected } from "../errors.ts";
import {
  isBeamlinePath,
  toBeamlinePath,
  toCorePath,
  toNodePath,
  type SessionRoots,
} from "../beamtime/paths.ts";
import type { Cause, ChainLink, JobMethod, MessageFacts } from "../messages/job-event.ts";
import { cut } from "../text/cut.ts";
import { writeJson } from "../messages/json.ts";
import type { TriggerInput } from "../messages/trigger-input.ts";
import { derivedId } from "../messages/derived-id.ts";
import { checkedDirectory, checkedResults, ofNoSession } from "./event-paths.ts";
import {
  asksForBeamlineView,
  beginsWithWord,
  fillArguments,
  fillText,
  type TemplateValues,
} from "./template.ts";
import { traceparentFor } from "./traceparent.ts";
import type { Trigger } from "./trigger-config.ts";

/** What one trigger makes of one message or event, before anything is said about where it runs. */
export interface JobPlan {
  jobId: string;
  group: string;
  trigger: Trigger;
  cause: Cause;
  correlationId: string | null;
  chain: readonly ChainLink[];
  facts: MessageFacts;
  /** W3C trace context, the same trace for all of a chain. */
  traceparent: string;
  /** null: for a job here, while no session is open. */
  session: PlanSession | null;
  /** The session's, or what the message says of it. */
  beamline: string | null;
  sessionId: string | null;
  /** The data, as seen where the job runs, in the order of the message. */
  paths: string[];
  /** The same as events name it: on the core file system. */
  announcedPaths: string[];
  bytes: readonly number[] | undefined;
  /** Results of the job that it follows on, in each view that the event has. */
  causeResults: string[];
  /** The directory of the job that it follows on. */
  causeDirectory: string | null;
  /** The program and its arguments, literal. */
  argv: string[];
  env: Record<string, string>;
  workdir: string | null;
  stdin: string | null;
  /** What the trigger's `key` is for this message; null: it has none. */
  key: string | null;
  /** Where the program's output goes; null: to `job.log` in the job directory. */
  logFile: string | null;
  /** Where the program puts its results; null: in the job directory. */
  resultsDirectory: string | null;
  /** Of what the message gives it, as its script has it, quoted for the command that brings that to the node. */
  givenBytes: number;
}

export interface PlanSession {
  id: string;
  beamline: string;
  roots: SessionRoots;
  /** At the beamline; absent where nobody knows. */
  isOpen?: boolean;
  metadataFile?: string | null;
}

/** The folder of a method's job directories, in a session or in none. */
export type JobsFolderOf = (method: JobMethod, session: { id: string; corePath: string } | null) => string;

/** Where results go on the core file system, below the session's folder (MENTO, `prepare_results_filename`). */
export const RESULTS_FOLDER = "processed/onlineanalysis";

/** The type of what a program is run by that no message asks for: by the library, or `mento run`. */
export const RUN_TYPE = "mento.run";

/** Methods whose jobs run on this host, and see the beamline's file system. */
export const HERE: readonly JobMethod[] = ["local-bash-script"];
/** Methods whose jobs run as the worker's account: what they write goes where nobody else could have put a link. */
export const AS_WORKER: readonly JobMethod[] = ["local-bash-script", "local-sbatch-script"];

/** So many jobs may follow from one another: a longer chain is a circle, perhaps by way of another group. */
export const LONGEST_CHAIN = 16;

/** A job's id: the same cause, group and trigger always give the same id, and nothing else does. */
export function jobIdFor(cause: Pick<Cause, "source" | "id">, group: string, trigger: string): string {
  return derivedId(cause.source, cause.id, group, trigger);
}

/**
 * `jobsFolderOf` says where the configuration has the job directories of a method; without it, no result outside the
 * session is handed on.
 *
 * @throws Rejected `path-outside-beamtime`, `path-not-synced`, `template-value-missing`, `wrong-argument`, `chain-too-long`
 */
export function planJob(
  input: TriggerInput,
  trigger: Trigger,
  session: PlanSession | null,
  group: string,
  jobsFolderOf?: JobsFolderOf,
): JobPlan {
  const { event, cause, chain, facts, bytes } = input;
  const jobId = jobIdFor(event, group, trigger.name);
  checkChain(chain, trigger);
  const isHere = HERE.includes(trigger.method);
  const [named] = input.paths;
  // Without the session that it names, nothing that an event says of files can be checked.
  if (session === null && input.job !== null && input.job.session.id !== null && named !== undefined) {
    throw ofNoSession(named);
  }
  if (input.job?.pathsCut !== undefined || input.job?.parametersCut === true) throw ofCutEvent(input.job);
  const view = (path: string) => viewOf(path, session?.roots, isHere);
  const paths = input.paths.map(view);
  const announcedPaths = isHere ? input.paths.map((path) => viewOf(path, session?.roots, false)) : paths;
  const [first] = paths;
  const resultsDirectory =
    AS_WORKER.includes(trigger.method) || session === null || first === undefined
      ? null
      : resultsDirectoryFor(first, trigger.name, session.roots);
  const known = session && { id: session.id, corePath: session.roots.core };
  const jobsFolder = (input.job && jobsFolderOf?.(input.job.job.method, known)) ?? null;
  const values = valuesOf(input, session, { jobId, paths, results: resultsDirectory, jobsFolder });
  const mapped = (argument: string) => argumentFor(argument, session, trigger.method);
  const fill = (template: string) => {
    const filled = fillArguments([template], values);
    return asksForBeamlineView(template) ? filled : filled.map(mapped);
  };
  const text = (template: string) => {
    const filled = fillText(template, values);
    return asksForBeamlineView(template) ? filled : mapped(filled);
  };
  const plan = {
    argv: argumentsOf(trigger, fill),
    env: Object.fromEntries(Object.entries(trigger.env).map(([name, value]) => [name, text(value)])),
    workdir: trigger.workdir === undefined ? null : noOption(text(trigger.workdir), trigger.workdir, trigger),
    stdin: trigger.stdin === undefined ? null : fillText(trigger.stdin, values),
    key: trigger.key === undefined ? null : fillText(trigger.key, values),
  };
  const variables = Object.entries(plan.env).map(([name, value]) => `${name}=${value}`);
  for (const argument of [...plan.argv, ...variables, plan.workdir ?? ""]) checkArgument(argument, trigger);
  const given = [...plan.argv, ...Object.values(plan.env), plan.workdir ?? "", plan.stdin ?? ""];
  const givenBytes = checkedSize([...given, ...paths, writeJson(facts.parameters)], trigger);
  if (isHere && session?.isOpen === false) requireNoBeamlinePath(given, session);
  const traceparent = traceparentFor(event.traceparent, cause, jobId);
  const beamline = session?.beamline ?? input.beamline;
  const sessionId = session?.id ?? input.beamtimeId;
  const planned = {
    jobId,
    group,
    trigger,
    cause,
    correlationId: input.correlationId,
    chain,
    facts,
    traceparent,
    session,
    beamline,
    sessionId,
    paths,
    announcedPaths,
    bytes,
    causeResults: (input.job?.results ?? []).flatMap(({ path, beamlinePath }) =>
      beamlinePath === null || beamlinePath === path ? [path] : [path, beamlinePath],
    ),
    causeDirectory: (input.job && checkedDirectory(input.job, session?.roots, jobsFolder)) ?? null,
  };
  return { ...planned, ...plan, resultsDirectory, logFile: null, givenBytes };
}

/** The folder at the beamline is gone with its session, or another session's. */
function requireNoBeamlinePath(given: readonly string[], { id, roots }: PlanSession): void {
  const gone = given.find((text) => text.includes(`${roots.beamline}/`));
  if (gone === undefined) return;
  throw new Rejected({
    code: "beamtime-ended",
    message: `${id} is not open at the beamline, and the program would be given ${gone}, which is no longer its file.`,
    hint: "Give it {{ path.core }} or corePath of the result, which stay; or have the beamtime started again and replay the message.",
  });
}

/** A path in the beamline's view is given to the program as the same file where it runs. */
export function argumentFor(argument: string, session: PlanSession | null, method: JobMethod): string {
  if (HERE.includes(method) || session === null || !isBeamlinePath(argument, session.roots)) return argument;
  return toCorePath(argument, session.roots);
}

/** The path of data where the job runs. Without a session it stays as it is. */
function viewOf(path: string, roots: SessionRoots | undefined, isHere: boolean): string {
  if (roots === undefined) return path;
  return (isHere ? toBeamlinePath(path, roots) : null) ?? toCorePath(path, roots);
}

type View = (path: string, roots: SessionRoots) => string | null;

function valuesOf(
  input: TriggerInput,
  session: PlanSession | null,
  job: { jobId: string; paths: string[]; results: string | null; jobsFolder: string | null },
): TemplateValues {
  const { facts, cause } = input;
  const roots = session?.roots;
  const [named] = input.paths;
  // A message may have a thousand paths, and most triggers ask for one view of them.
  const all = (map: View) => (roots === undefined ? undefined : input.paths.map((path) => map(path, roots)));
  const first = (map: View) => (roots === undefined || named === undefined ? undefined : map(named, roots));
  const { job: ended } = input;
  const causeResults = ended === null ? undefined : checkedResults(ended, roots, job.jobsFolder);
  const file = job.paths[0] === undefined ? undefined : posix.parse(job.paths[0]);
  return {
    path: job.paths[0],
    paths: job.paths,
    "path.name": file?.base,
    "path.stem": file?.name,
    "path.folder": file?.dir,
    "path.core": first(toCorePath),
    get "paths.core"() {
      return all(toCorePath);
    },
    "path.beamline": first(toBeamlinePath),
    get "paths.beamline"() {
      return all(toBeamlinePath);
    },
    "path.node": first(toNodePath),
    get "paths.node"() {
      return all(toNodePath);
    },
    results: job.results,
    jobId: job.jobId,
    corePath: roots?.core,
    beamline: session?.beamline ?? input.beamline,
    beamtimeId: session?.id ?? input.beamtimeId,
    "session.core": roots?.core,
    "session.beamline": roots?.beamline,
    "session.node": roots?.node,
    "message.id": cause.id,
    "message.source": cause.source,
    "message.time": input.ready ?? undefined,
    // A program that is given some of them cannot know that there were more.
    "cause.results":
      ended?.resultsCut === undefined && ended?.resultsUnknown === undefined
        ? causeResults?.map(({ path }) => path)
        : undefined,
    "cause.job": input.job?.job.id,
    "cause.trigger": input.job?.job.trigger,
    "cause.directory": ended === null ? undefined : checkedDirectory(ended, roots, job.jobsFolder),
    "cause.exitCode": input.job?.exit?.code,
    detector: facts.detector,
    technique: facts.technique,
    scan: facts.scan,
    sample: facts.sample,
    parameters: facts.parameters,
    causeResults,
  };
}

/** The program and its arguments; what follows an argument `--` is no option of a program that knows it. */
function argumentsOf(trigger: Trigger, fill: (template: string) => string[]): string[] {
  const end = trigger.run.indexOf("--");
  return trigger.run.flatMap((template, at) => {
    const filled = fill(template);
    return end !== -1 && at > end ? filled : filled.map((one) => noOption(one, template, trigger));
  });
}

/**
 * A name that a message gives is not to become an option of the program. Numbers may be negative; and whoever writes
 * `parameters.NAME` at the beginning of an argument wants what the sender has put there.
 */
function noOption(argument: string, template: string, trigger: Trigger): string {
  const isNumber = /^-(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(argument);
  if (!argument.startsWith("-") || isNumber || !beginsWithWord(template, argument)) return argument;
  throw new Rejected({
    code: "wrong-argument",
    message: `An argument of trigger ${trigger.name}, ${template}, would begin with "-", as an option does: ${cut(argument, 200)}`,
    hint: "Send another name, or put text before it in the trigger: --name={{ sample }}, ./{{ path.name }}, or an argument -- before.",
  });
}

function checkChain(chain: readonly ChainLink[], trigger: Trigger): void {
  if (chain.length < LONGEST_CHAIN) return;
  const last = chain.slice(-3).map((link) => link.trigger);
  throw new Rejected({
    code: "chain-too-long",
    message: `Trigger ${trigger.name} would follow ${chain.length} jobs, the last of ${last.join(" → ")}; ${LONGEST_CHAIN} jobs are the limit.`,
    hint: "Triggers of several groups start one another in a circle: name the triggers or the group in on, or exclude with unless.",
  });
}

/** Linux gives a program no longer one, with its NUL (execve(2), MAX_ARG_STRLEN); nor a longer `NAME=value`. */
const LONGEST_ARGUMENT = 128 * 1024 - 1;

function checkArgument(argument: string, trigger: Trigger): void {
  const bytes = Buffer.byteLength(argument);
  const mistake = argument.includes("\0")
    ? "would hold a NUL byte, which no program can be given"
    : !argument.isWellFormed()
      ? "would hold half of a surrogate pair, which is not a character"
      : bytes > LONGEST_ARGUMENT
        ? `would have ${bytes} bytes; ${LONGEST_ARGUMENT} are the most that Linux gives a program in one`
        : undefined;
  if (mistake === undefined) return;
  throw new Rejected({
    code: "wrong-argument",
    message: `An argument or variable of trigger ${trigger.name} ${mistake}.`,
    hint: "Correct the message's parameters; a program finds all of them in the file $MENTO_PARAMETERS.",
  });
}

/** What a job is given becomes part of its script: Slurm takes no longer one, unless `max_script_size` is set. */
const MAX_GIVEN_BYTES = 4 * 1024 * 1024;
/** Bytes of a quote or a carriage return in a script, when that is quoted itself for the command that brings it to the node. */
const QUOTED_BYTES = 21;

function checkedSize(given: readonly string[], trigger: Trigger): number {
  const bytes = given.reduce((sum, text) => sum + bytesInCommand(text), 0);
  if (bytes <= MAX_GIVEN_BYTES) return bytes;
  throw new Rejected({
    code: "wrong-argument",
    message: `What the message gives the job of trigger ${trigger.name} has ${bytes} bytes when it is quoted for a shell; ${MAX_GIVEN_BYTES} are the most.`,
    hint: "Write such data to a file and send its path.",
  });
}

/** One by one: a list of a million quotes takes a second. */
function bytesInCommand(text: string): number {
  let bytes = Buffer.byteLength(text);
  for (let at = 0; at < text.length; at++) {
    if (text[at] === "'" || text[at] === "\r") bytes += QUOTED_BYTES - 1;
  }
  return bytes;
}

/**
 * `<core>/raw/s1/scan_0001.h5` → `<core>/processed/onlineanalysis/<trigger>/s1/scan_0001.h5`: MENTO's
 * `processed/onlineanalysis/<same subfolders>`, with a folder of its own for each trigger and file.
 */
function resultsDirectoryFor(corePath: string, trigger: string, roots: SessionRoots): string {
  return posix.join(roots.core, RESULTS_FOLDER, folderOfResults(corePath, trigger, roots));
}

function folderOfResults(corePath: string, trigger: string, roots: SessionRoots): string {
  const inside = posix.relative(roots.core, corePath);
  return posix.join(trigger, inside.replace(/^raw\//, ""));
}

/** A program that is given some of them cannot know that there were more. */
function ofCutEvent({ job, pathsCut }: NonNullable<TriggerInput["job"]>): Rejected {
  const what = pathsCut === undefined ? "the message's parameters" : `${pathsCut} of its paths`;
  return new Rejected({
    code: "template-value-missing",
    message: `The event of job ${job.id} was too large for ${what}: a job that follows cannot be given them.`,
    hint: "Send fewer paths or parameters in one message, or set worker.maxEventBytes to 1 MiB and RabbitMQ's max_message_size to 2 MiB.",
  });
}
