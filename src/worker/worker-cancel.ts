import type { BrokerLink } from "../broker/connection.ts";
import type { Delivery } from "../broker/consumer.ts";
import { lastJobEvents } from "../cancel/job-history.ts";
import type { Publisher } from "../broker/publisher.ts";
import { topologyFor } from "../broker/topology.ts";
import { CancelQueue } from "../cancel/cancel-queue.ts";
import { cancelJobs } from "../cancel/cancel-jobs.ts";
import { askHost, cancelHere } from "../cancel/cancel-on-host.ts";
import { destinationsOf } from "../config/config.ts";
import { localJobsDirectory } from "../jobs/site-folders.ts";
import { handleCancel } from "../cancel/handle-cancel.ts";
import { ComeBack } from "../intake/come-back.ts";
import { LeftWaiting } from "../intake/intake.ts";
import type { ReceivedMessage } from "../intake/message.ts";
import type { CancelAnswer } from "../messages/job-cancel.ts";
import type { WorkerDeps } from "./worker-deps.ts";

interface CancelDeps extends Pick<
  WorkerDeps,
  "config" | "topology" | "sessions" | "shells" | "here" | "rest" | "log"
> {
  link: BrokerLink;
  publisher: Publisher;
}

/** A quarter of the messages that a worker holds. */
const HELD_PER_SLOT = 4;
/** So many of those that wait on the broker come back. */
const REQUESTS_PER_SECOND = 10;

/** What a worker does with requests to cancel: as messages, and from other hosts. */
export function cancelling(parts: CancelDeps) {
  const { config, sessions, shells, here, rest, link, publisher, log } = parts;
  const deps = {
    ...{ site: config.site, sessions, shells, here, rest },
    destinations: destinationsOf(config),
    lastEvents: (names: readonly string[]) => lastJobEvents(parts, names),
    askHost: (...[host, group, job, request]: Parameters<Parameters<typeof cancelJobs>[2]["askHost"]>) => {
      const queue = topologyFor(config.broker.prefix, group, host).hostJobsQueue;
      return askHost({ link, publisher, queue }, job, request);
    },
  };
  const away = new ComeBack(REQUESTS_PER_SECOND);
  const requests = new CancelQueue(
    (jobs, request, told) => cancelJobs(jobs, request, deps, told),
    config.worker.concurrency * HELD_PER_SLOT,
    () => away.secondsForOneMore(),
  );
  // The broker has those that wait.
  const stop = () => requests.refuseWaiting(new LeftWaiting());
  void link.lost.then(stop);
  return {
    stop,
    message: (received: ReceivedMessage): Promise<CancelAnswer> =>
      handleCancel(received, {
        mayCancel: config.worker.mayCancel,
        cancel: (jobs, request) => requests.run(jobs, request),
        log,
        now: () => new Date(),
      }),
    /** @throws whatever is wrong with the request, or with the broker */
    fromHost: (message: Delivery["message"]): Promise<void> =>
      cancelHere(message, { here, jobsDirectory: localJobsDirectory(config.site), publisher }),
  };
}
