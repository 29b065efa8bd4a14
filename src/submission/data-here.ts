import { posix } from "node:path";
import { rootsOfFiles, type Session } from "../beamtime/session.ts";
import type { DataHere } from "../jobs/data-check.ts";
import { localData, localJobsDirectory, slurmJobsDirectory, type SiteFolders } from "../jobs/site-folders.ts";
import type { JobPlan } from "../triggers/plan.ts";
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
  const beginnings = [...folders, causeDirectory, core, beamline, node].filter((one) => one != null);
  const named = [...paths, ...announcedPaths, ...causeResults, ...namedIn(plan, beginnings)];
  return { folders, secrets, paths: [...new Set(named)] };
}

/** What ends a path in an argument: `--in=A,B`, `FILE::/entry/data`, a list on the standard input. */
const DELIMITER = /[\s,:;?=&|<>()"']/g;
const MOST_DELIMITERS = 16;
const LONGEST_PATH = 4096;

/**
 * All paths that a program is told of in its arguments, variables or input, with and without what stands behind them. A
 * folder on the way may be called like the beginning of another path: a short text is taken whole as well.
 */
function namedIn({ argv, env, workdir, stdin }: JobPlan, beginnings: readonly string[]): string[] {
  if (beginnings.length === 0) return [];
  const texts = [...argv, ...Object.values(env), workdir ?? "", stdin ?? ""];
  const known = [...new Set(beginnings)].map((one) => one.replace(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`));
  const begins = new RegExp(known.join("|"), "g");
  return texts.flatMap((text) => {
    const whole = text.length <= LONGEST_PATH;
    const places = [...text.matchAll(begins)].map(({ index }) => index);
    return places.flatMap((place) => {
      const next = places.find((one) => one > place && isDelimiter(text.charAt(one - 1))) ?? Infinity;
      const path = text.slice(place, Math.min(next, place + LONGEST_PATH));
      const ends = [...path.matchAll(DELIMITER)].slice(0, MOST_DELIMITERS).map(({ index }) => index);
      return [path, ...ends.map((end) => path.slice(0, end)), ...(whole ? [text.slice(place)] : [])];
    });
  });
}

const isDelimiter = (character: string) => character.search(DELIMITER) === 0;
