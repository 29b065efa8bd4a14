import { posix } from "node:path";
import { isInSession, toBeamlinePath, toCorePath, type SessionRoots } from "../beamtime/paths.ts";
import { Rejected } from "../errors.ts";
import { cut } from "../text/cut.ts";
import type { JobEventData, JobResult } from "../messages/job-event.ts";
import { normalPath } from "../messages/path-text.ts";

/**
 * The results of the job whose end starts another, each path mapped and checked as paths of data are: an event is a
 * message, and names no file but the session's. A job has its own folder, too, below `jobsFolder`, where the
 * configuration has those of its method.
 *
 * @throws Rejected `path-outside-beamtime`, `path-not-synced`
 */
export function checkedResults(
  event: JobEventData,
  roots: SessionRoots | undefined,
  jobsFolder: string | null,
): JobResult[] {
  const isOfJob = (path: string) => liesInJobFolder(path, event, jobsFolder);
  return event.results.map((result) => {
    const { path, beamlinePath } = result;
    const view = (one: string, map: (path: string, roots: SessionRoots) => string | null) => {
      if (isOfJob(one)) return normalPath(one);
      if (roots === undefined) throw ofNoSession(one);
      return map(one, roots);
    };
    return {
      ...result,
      path: view(path, toCorePath) ?? path,
      beamlinePath: beamlinePath === null ? null : view(beamlinePath, toBeamlinePath),
    };
  });
}

/** The job's directory, which is named like the job; undefined if the event says one that cannot be it. */
export function checkedDirectory(
  event: JobEventData,
  roots: SessionRoots | undefined,
  jobsFolder: string | null,
): string | undefined {
  const { directory, id } = event.job;
  const normal = normalPath(directory);
  if (posix.basename(normal) !== id) return undefined;
  if (jobsFolder !== null && normal === posix.join(jobsFolder, id)) return normal;
  return roots !== undefined && isInSession(directory, roots) ? toCorePath(directory, roots) : undefined;
}

function liesInJobFolder(path: string, { job }: JobEventData, jobsFolder: string | null): boolean {
  if (jobsFolder === null || !/^[A-Za-z0-9_-]+$/.test(job.id)) return false;
  return normalPath(path).startsWith(posix.join(jobsFolder, job.id) + "/");
}

export function ofNoSession(path: string): Rejected {
  return new Rejected({
    code: "path-outside-beamtime",
    message: `The event of a job names ${cut(path, 500)}, and the session that it is of is not open here.`,
    hint: "Only files of an open session, and of jobs on this host, are handed on to other programs.",
  });
}
