import { run, runChecked, waitUntil } from "./processes.ts";
import { slurmEnvironment } from "./slurm.ts";

/** A job that has not ended. */
export interface QueuedJob {
  id: string;
  /** As squeue's %t: PD, R, CG, … */
  state: string;
  /** One of these, if it waits for several. */
  reservations: string[];
}

export async function queuedJobs(dir: string): Promise<QueuedJob[]> {
  const args = ["--noheader", "--format=%A %t %v"];
  const listing = await runChecked("squeue", args, { timeoutSeconds: 15, env: slurmEnvironment(dir) });
  const lines = listing.split("\n").filter((line) => line !== "");
  return lines.map((line) => {
    const [id = "", state = "", reservations = ""] = line.split(" ");
    return { id, state, reservations: reservations.split(",") };
  });
}

/** Cancels these jobs and waits until they are gone, or five seconds. */
export async function cancelJobs(dir: string, isWanted: (job: QueuedJob) => boolean): Promise<void> {
  const env = slurmEnvironment(dir);
  const wanted = async () => (await queuedJobs(dir)).filter(isWanted).map(({ id }) => id);
  const ids = [...new Set(await wanted())];
  // In portions, for a command line has an end.
  for (let from = 0; from < ids.length; from += 1000) {
    await run("scancel", ids.slice(from, from + 1000), { timeoutSeconds: 30, env });
  }
  await waitUntil(async () => (await wanted()).length === 0, { seconds: 5 });
}
