import type { ConfirmedOfLate } from "../broker/confirmed-of-late.ts";
import type { BrokerLink } from "../broker/connection.ts";
import type { LinkCare } from "../broker/link-care.ts";
import { Publisher } from "../broker/publisher.ts";
import { leaveCommand } from "../jobs/permits.ts";
import { jobsDirectoryOf } from "../jobs/site-folders.ts";
import { careNameOfJob, JobsQueue } from "../tracking/jobs-queue.ts";
import { METHODS_HERE } from "../tracking/observer.ts";
import { resubmitAt } from "../tracking/resubmit.ts";
import { Tracker } from "../tracking/tracker.ts";
import { requireOwnFolder, type TrackingRecord } from "../tracking/tracking-record.ts";
import type { TrackerDeps } from "../tracking/tracker-deps.ts";
import { announcing } from "./worker-announce.ts";
import { cancelling } from "./worker-cancel.ts";
import type { WorkerDeps } from "./worker-deps.ts";

/** Over one link: watches jobs to their end. */
export async function openTracking(
  parts: WorkerDeps,
  link: BrokerLink,
  care: LinkCare,
  confirmed: ConfirmedOfLate,
): Promise<{ stop(): Promise<void> }> {
  const { config, topology, sessions, observers, targets, log } = parts;
  const { worker } = config;
  await parts.declare(link);
  const publisher = await Publisher.open(link, { confirmed });
  parts.heartbeats.over(link, publisher, topology.workersStream);
  const cancels = cancelling({ ...parts, link, publisher });
  const announce = announcing({ link, publisher, topology, worker, log });
  const jobsQueue = new JobsQueue({ link, care, publisher, topology, log });
  const deps: TrackerDeps = {
    observerOf: async (record) => {
      requireOwnFolder(record, await foldersOf(parts, record));
      return observers.of(record);
    },
    putAside: (record, why) => jobsQueue.putAside(record, why),
    leavePermits: async (record) => {
      const { data, jobsDirectory, semaphores = [] } = record;
      if (semaphores.length === 0) return;
      const { shell } = await observers.of(record);
      await shell.run(leaveCommand(jobsDirectory, data.job.id, semaphores));
      parts.wakeTriggerQueues();
    },
    resubmit: resubmitAt(sessions, targets),
    announce: (event) =>
      care.handle(careNameOfJob("job" in event.data ? event.data.job.id : event.id), () => announce(event)),
    track: (record) => jobsQueue.track(record),
    reconcileSeconds: worker.reconcileSeconds,
    lostAfterHours: worker.lostAfterHours,
    log,
    now: () => new Date(),
  };
  const tracker = new Tracker(parts.between("job", deps));
  // Its deliveries are void with the link; a tracker that went on would take the notifications of the next one.
  void link.lost.then(() => tracker.stop());
  const consumers = await jobsQueue.open({
    take: (record, ack) => tracker.take(record, ack),
    handOn: (count, isOfQueue) => tracker.handOn(count, isOfQueue),
    cancel: (message) => cancels.fromHost(message),
  });
  return {
    stop: async () => {
      await Promise.all(consumers.map((consumer) => consumer.pause()));
      await tracker.stop();
      await publisher.caughtUp;
      await parts.heartbeats.stop(publisher, topology.workersStream);
    },
  };
}

/** Where the configuration has the job's folder, and its session's data. */
async function foldersOf(
  { config: { site }, sessions }: Pick<WorkerDeps, "config" | "sessions">,
  { data: { job, session } }: TrackingRecord,
): Promise<{ jobsDirectory: string; corePath: string | null }> {
  const { id, corePath } = session;
  const isHere = METHODS_HERE.includes(job.method);
  // Of a session that nobody knew, a job here is of none.
  if (id === null || (corePath === null && isHere))
    return { jobsDirectory: jobsDirectoryOf(site, job.method, null), corePath: null };
  const found = await sessions.find(id).catch((error: unknown) => {
    // What is seen from this host goes on being watched when the session's metadata is gone.
    if (!isHere || corePath === null) throw error;
    return undefined;
  });
  const core = found?.roots.core ?? corePath ?? "";
  return { jobsDirectory: jobsDirectoryOf(site, job.method, { id, corePath: core }), corePath: core };
}
