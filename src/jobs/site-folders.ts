import { homedir } from "node:os";
import { posix } from "node:path";
import type { JobMethod } from "../messages/job-event.ts";

/** Where job directories are, and which data jobs on this host may have; `site` of the configuration. */
export interface SiteFolders {
  gpfs: string;
  /** Below a session's folder on the core file system. */
  jobs: string;
  localJobs?: string | undefined;
  slurmJobs?: string | undefined;
  localData?: readonly string[] | undefined;
}

/** The folder of a session's job directories. */
export function jobsDirectory(site: SiteFolders, corePath: string): string {
  return posix.join(corePath, site.jobs);
}

/** The folder of a method's job directories. */
export function jobsDirectoryOf(
  site: SiteFolders,
  method: JobMethod,
  session: { id: string; corePath: string } | null,
): string {
  if (session === null || method === "local-bash-script") return localJobsDirectory(site);
  if (method === "local-sbatch-script") return slurmJobsDirectory(site, session.id);
  return jobsDirectory(site, session.corePath);
}

/** The folders whose data jobs on this host may be given while no session is open. */
export function localData(site: SiteFolders): readonly string[] {
  return site.localData ?? [site.gpfs];
}

/** The folder of the directories of jobs that run on this host. */
export function localJobsDirectory(site: SiteFolders): string {
  return site.localJobs ?? posix.join(stateFolder(), "jobs");
}

/**
 * Where what this worker's account writes for jobs of Slurm is, a folder for each session: not in the session's own
 * folder, where others could put links in its way.
 */
export function slurmJobsDirectory(site: SiteFolders, sessionId: string): string {
  return posix.join(slurmJobs(site), sessionId);
}

/** Who has asked for jobs to be cancelled whose directories are not this account's, those of Slurm's REST API. */
export function cancelRequestsDirectory(site: SiteFolders): string {
  return posix.join(slurmJobs(site), ".cancel-requests");
}

export function slurmJobs(site: SiteFolders): string {
  return site.slurmJobs ?? posix.join(stateFolder(), "slurm-jobs");
}

function stateFolder(): string {
  return posix.join(process.env["XDG_STATE_HOME"] ?? posix.join(homedir(), ".local/state"), "mento");
}
