import { readdirSync } from "node:fs";
import { requireOnline } from "../beamtime/session.ts";
import type { MentoConfig } from "../config/config.ts";
import {
  cancelRequestsDirectory,
  jobsDirectory,
  localJobsDirectory,
  slurmJobs,
  slurmJobsDirectory,
} from "../jobs/site-folders.ts";
import { errorText } from "../errors.ts";
import { parseRemoved, retentionCommand, type Whose } from "../jobs/retention.ts";
import type { Log } from "../log.ts";
import type { Shell } from "../shells/shell.ts";
import type { WorkerDeps } from "./worker-deps.ts";

const AT_MOST_MS = 1800_000;
/** A host without Slurm's client, or without its configuration: nothing is wrong where no job of its own is Slurm's. */
const NO_SLURM =
  /squeue: (command )?not found|command .squeue.: No such file|unknown host|establish a configuration source/i;

/** Removes what open sessions, and this host, keep of jobs that ended long ago. */
export async function cleanUp(
  { site, worker: { retentionDays } }: Pick<MentoConfig, "site" | "worker">,
  { sessions, shells, here }: Pick<WorkerDeps, "sessions" | "shells"> & { here: Shell },
  log: Log,
): Promise<void> {
  const clean = async (where: { session: string } | { host: string }, begin: () => Promise<Cleaning>) => {
    try {
      const { shell, directory, whose } = await begin();
      const command = retentionCommand(directory, whose, retentionDays);
      // A command that is not done in time costs the whole connection, and this one has many files to remove.
      const end = await shell.run(command, { timeout: AT_MOST_MS });
      const removed = parseRemoved(end.stdout.toString("utf8"));
      if (removed === 0 || (removed === undefined && end.code === 0)) return;
      if (removed === undefined) throw new Error(end.stderr.trim());
      log.info({ ...where, removed, retentionDays }, "old job directories were removed");
    } catch (error) {
      const text = errorText(error);
      log[NO_SLURM.test(text) ? "debug" : "info"](where, `old job directories were not removed: ${text}`);
    }
  };
  const { host } = here;
  const local = { shell: here, directory: localJobsDirectory(site), whose: { host } };
  await clean({ host }, () => Promise.resolve(local));
  const requests = { ...local, directory: cancelRequestsDirectory(site) };
  await clean({ host }, () => Promise.resolve(requests));
  for (const session of foldersIn(slurmJobs(site))) {
    const directory = slurmJobsDirectory(site, session);
    const own = { shell: here, directory, whose: { account: here.account } };
    await clean({ session }, () => Promise.resolve(own));
  }
  const { open } = await sessions.open();
  for (const session of open.filter(({ online }) => online !== null)) {
    await clean({ session: session.id }, async () => {
      const shell = await shells.open(requireOnline(session));
      const directory = jobsDirectory(site, session.roots.core);
      return { shell, directory, whose: { account: shell.account } };
    });
  }
}

/** Sessions that this host has submitted jobs of, open or not. */
function foldersIn(folder: string): string[] {
  try {
    return readdirSync(folder).filter((name) => !name.startsWith("."));
  } catch {
    return [];
  }
}

interface Cleaning {
  shell: Shell;
  directory: string;
  whose: Whose;
}
