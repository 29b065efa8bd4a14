import { requireOnline, type Sessions } from "./beamtime/session.ts";
import { jobsDirectory, type MentoConfig } from "./config.ts";
import { errorText } from "./errors.ts";
import { parseRemoved, retentionCommand } from "./jobs/retention.ts";
import type { Log } from "./log.ts";
import type { SessionShells } from "./session-shells.ts";

const AT_MOST_MS = 1800_000;

/** Removes what open sessions keep of jobs that ended long ago. */
export async function cleanUp(
  { site, worker: { retentionDays } }: Pick<MentoConfig, "site" | "worker">,
  sessions: Sessions,
  shells: SessionShells,
  log: Log,
): Promise<void> {
  const { open } = await sessions.open();
  for (const session of open.filter(({ online }) => online !== null)) {
    try {
      const shell = await shells.open(requireOnline(session));
      const command = retentionCommand(jobsDirectory(site, session.roots.core), shell.account, retentionDays);
      // A command that is not done in time costs the whole connection, and this one has many files to remove.
      const end = await shell.run(command, { timeout: AT_MOST_MS });
      const removed = parseRemoved(end.stdout.toString("utf8"));
      if (removed === 0 || (removed === undefined && end.code === 0)) continue;
      if (removed === undefined) throw new Error(end.stderr.trim());
      log.info({ session: session.id, removed, retentionDays }, "old job directories were removed");
    } catch (error) {
      log.info({ session: session.id }, `old job directories were not removed: ${errorText(error)}`);
    }
  }
}
