import { lookup as mediaTypeOf } from "mrmime";
import { isInSession, toBeamlinePath, toCorePath, type SessionRoots } from "../beamtime/paths.ts";
import { MentoError } from "../errors.ts";
import type { JobMethod, JobResult } from "../messages/job-event.ts";
import { normalPath } from "../messages/path-text.ts";
import type { EndedRecord, RecordedResult } from "../jobs/record-schema.ts";

/** Where results of a job may lie, besides its own directory. */
export interface ResultRoots {
  /** null: no session is open. */
  session: SessionRoots | null;
  /** Further folders, of jobs here without a session. */
  folders: readonly string[];
}

/** What an event says of a job's results. */
export interface FoundResults {
  results: JobResult[];
  /** How many more there were than an event may have. */
  cut: number;
  /** How many were to be copied to the beamline, and were not. */
  notCopied: number;
  /** Nobody knows which there are. */
  areUnknown: boolean;
}

export const NO_RESULTS: FoundResults = { results: [], cut: 0, notCopied: 0, areUnknown: false };

/** What of a job's record an event has. */
export interface Results extends FoundResults {
  /** What is left out, and why: for the log. */
  refused: string[];
}

/** Of a path in the log. */
const MAX_NAME = 300;

/** The folders whose real paths results are held against. */
export function rootsOf({ session, folders }: ResultRoots): string[] {
  return session === null ? [...folders] : [session.core, session.beamline, session.node, ...folders];
}

/**
 * The results as an event has them: files of the session, mapped as data paths are, and files of the job directory. A
 * path that leads out of these, by itself or by a symbolic link, is left out. What a job here has written, the beamline
 * sees where it is.
 *
 * @param realPaths of {@link rootsOf}, of the job directory and of the results, on the host that has them
 */
export function resultsOf(
  job: { method: JobMethod; directory: string },
  ended: Pick<EndedRecord, "results" | "cut" | "notCopied" | "areUnknown">,
  realPaths: readonly string[],
  places: ResultRoots,
): Results {
  const count = rootsOf(places).length + 1;
  const [realRoots, realResults] = [realPaths.slice(0, count), realPaths.slice(count)];
  const results: JobResult[] = [];
  let outside = 0;
  let first: string | undefined;
  let malformed = 0;
  let unread = 0;
  ended.results.forEach((one, at) => {
    const real = realResults[at];
    if (one === null) {
      malformed += 1;
      return;
    }
    const path = placeOf(one.path, job, places);
    // The list of real paths has an end too.
    if (real === undefined && realResults.length > 0) {
      unread += 1;
      return;
    }
    if (path === undefined || real === undefined || !realRoots.some((root) => isBelow(real, root))) {
      outside += 1;
      first ??= one.path;
      return;
    }
    const { bytes } = one;
    const mediaType = mediaTypeOf(path) ?? "application/octet-stream";
    const beamlinePath = job.method === "local-bash-script" ? path : copyOf(one, places);
    results.push({ path, beamlinePath, bytes, mediaType });
  });
  const refused = [];
  if (outside > 0) {
    const name = JSON.stringify(first?.slice(0, MAX_NAME));
    refused.push(
      `results that lie neither in the session nor in the job directory: ${outside}, first ${name}`,
    );
  }
  if (malformed > 0)
    refused.push(`malformed results: ${malformed} have no size, or no absolute path in UTF-8`);
  const { cut, notCopied, areUnknown } = ended;
  return { results, cut: cut + unread, notCopied, areUnknown, refused };
}

/** The result's path in an event; undefined if it may not be in one. */
function placeOf(
  path: string,
  { method, directory }: { method: JobMethod; directory: string },
  { session, folders }: ResultRoots,
): string | undefined {
  const normal = normalPath(path);
  if (isBelow(normal, directory)) return normal;
  if (session === null) return folders.some((folder) => isBelow(normal, folder)) ? normal : undefined;
  if (!isInSession(normal, session)) return undefined;
  if (method === "local-bash-script") return normal;
  return unlessRejected(() => toCorePath(normal, session));
}

function copyOf({ beamlinePath }: RecordedResult, { session }: ResultRoots): string | null {
  if (beamlinePath === null || session === null) return null;
  return unlessRejected(() => toBeamlinePath(beamlinePath, session)) ?? null;
}

function unlessRejected<T>(map: () => T): T | undefined {
  try {
    return map();
  } catch (error) {
    if (error instanceof MentoError) return undefined;
    throw error;
  }
}

function isBelow(path: string, folder: string): boolean {
  return path.startsWith(folder.endsWith("/") ? folder : `${folder}/`);
}
