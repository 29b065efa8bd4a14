import { posix } from "node:path";
import { rootsOfFiles, type Session } from "../beamtime/session.ts";
import { Rejected } from "../errors.ts";
import type { DataHere } from "../jobs/link-check.ts";
import { localData, localJobsDirectory, slurmJobsDirectory, type SiteFolders } from "../jobs/site-folders.ts";
import { quotedBytes } from "../shells/quote.ts";
import { RUN_TYPE, type JobPlan } from "../triggers/plan.ts";
import type { SubmitTarget } from "./method.ts";

/** What jobs on this host may be given, beside what the job before has left. */
function foldersOfData(site: SiteFolders, session: Session | null): readonly string[] {
  if (session === null) return localData(site);
  const { beamline, core, node } = rootsOfFiles(session);
  return [beamline, core, node];
}

/** What jobs on this host may be given, and what not. */
export function dataHereOf(
  site: SiteFolders,
  session: Session | null,
): NonNullable<SubmitTarget["dataHere"]> {
  const ofSlurm = session === null ? [] : [slurmJobsDirectory(site, session.id)];
  return {
    folders: foldersOfData(site, session),
    secrets: secretsOf(session),
    ownJobs: [localJobsDirectory(site), ...ofSlurm],
  };
}

/** The session's private key and tokens, which lie among its data, in each of its views. */
function secretsOf(session: Session | null): string[] {
  if (session === null) return [];
  const { roots, online, asapo } = session;
  const key = keyOf(online);
  const inSession = [asapo?.tokenPath, asapo?.readOnlyTokenPath, key?.inside].filter((one) => one != null);
  const views = [roots.beamline, roots.core, roots.node];
  return views.flatMap((root) => inSession.map((path) => posix.join(root, path))).concat(key?.file ?? []);
}

function keyOf(online: Session["online"]): { file: string; inside: string | null } | undefined {
  try {
    const { file, within } = online?.privateKey ?? {};
    return file === undefined
      ? undefined
      : { file, inside: within == null ? null : posix.relative(within, file) };
  } catch {
    // The metadata file names none.
    return undefined;
  }
}

/** Of a job that runs as the worker's account, all that comes from its message or event; null: it runs as another. */
export function dataHere(plan: JobPlan, { dataHere }: SubmitTarget): DataHere | null {
  if (dataHere === undefined) return null;
  const { ownJobs, secrets } = dataHere;
  const { paths, announcedPaths, causeResults, causeDirectory } = plan;
  // A folder in the session is its account's: it may be a link by now.
  const isOwn = causeDirectory !== null && ownJobs.includes(posix.dirname(causeDirectory));
  const folders = isOwn ? [...dataHere.folders, causeDirectory] : dataHere.folders;
  const { core, beamline, node } = plan.session?.roots ?? {};
  const roots = [...folders, causeDirectory, core, beamline, node].filter((one) => one != null);
  const known = [...new Set([...paths, ...announcedPaths, ...causeResults])];
  for (const path of known) if (SEPARATED.test(path)) throw separated(path);
  requireOwnWorkdir(plan, roots);
  return { folders, secrets, paths: known, texts: textsOf(plan, roots) };
}

/**
 * In a folder of the session's a name that a message gives is whatever the session's account has put there. Whoever runs a
 * program by himself, from where he is, gives it names of his own.
 */
function requireOwnWorkdir({ workdir, cause, chain }: JobPlan, roots: readonly string[]): void {
  const place = posix.normalize(`${workdir ?? ""}/`);
  const isInside = roots.some((root) => place.startsWith(posix.normalize(`${root}/`)));
  // What follows on such a job is a worker's.
  if (!isInside || (cause.type === RUN_TYPE && chain.length === 0)) return;
  throw new Rejected({
    code: "wrong-argument",
    message: `The job would work in ${workdir ?? ""}, which the session's account can write to, as the worker's account.`,
    hint: "Leave workdir out, and give the program paths: {{ path }}, {{ results }}. Or run the job on a node.",
  });
}

/** A job's texts are looked at in a script of a sane size, and that takes time for each path that may begin in one. */
const MOST_BYTES = 512 * 1024;
const MOST_PATHS = 4_000;
/** PATH_MAX. */
const LONGEST_PATH = 4096;

/**
 * All that a program is told in its arguments, variables or input in which a path may begin, cut where one does.
 *
 * @throws Rejected `wrong-argument`: it is too much to be looked at
 */
function textsOf({ argv, env, workdir, stdin }: JobPlan, roots: readonly string[]): string[][] {
  const named = [...new Set(roots)].map((one) => one.replace(/\/+$/, ""));
  if (named.length === 0) return [];
  const begins = new RegExp(
    `(?=(?:${named.map((one) => one.replace(SPECIAL, String.raw`\$&`)).join("|")})(?![\\w.-]))`,
    "g",
  );
  const told = [...new Set([...argv, ...Object.values(env), stdin ?? ""])];
  const texts = [...told, workdir ?? ""]
    .map((text) => text.split(begins))
    .map((pieces) => (pieces[0]?.search(begins) === 0 ? pieces : pieces.slice(1)))
    .map((pieces) => pieces.map((piece) => piece.slice(0, LONGEST_PATH)))
    .filter((pieces) => pieces.length > 0);
  const bytes = texts.flat().reduce((sum, piece) => sum + quotedBytes(piece), 0);
  const count = texts.flat().length;
  if (bytes > MOST_BYTES || count > MOST_PATHS) throw tooLong(`${count} paths in ${bytes} bytes`);
  return texts;
}

/** What is one name here may be two to a program that is given a list: the second would begin anew, anywhere. */
const SEPARATED = /[^\p{L}\p{M}\p{N}_.)\]+~/-]\//u;

function separated(path: string): Rejected {
  return new Rejected({
    code: "wrong-argument",
    message: `${path} has a folder whose name ends with a character that may separate paths in a list.`,
    hint: "Jobs that run as the worker's account are not given it; rename the folder, or run the job on a node.",
  });
}

const SPECIAL = /[.*+?^${}()|[\]\\]/g;

/** Of a job that runs as the worker's account. */
export function tooLong(what: string): Rejected {
  return new Rejected({
    code: "wrong-argument",
    message: `The job's arguments, variables and input name more than can be looked at: ${what}.`,
    hint: "It would run as the worker's account, so all that they name is looked at: give it a file with the list, or run it on a node.",
  });
}
