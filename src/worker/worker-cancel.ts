import type { Sessions } from "../beamtime/session.ts";
import type { BrokerLink } from "../broker/connection.ts";
import type { Delivery } from "../broker/consumer.ts";
import { lastJobEvents } from "../cancel/job-history.ts";
import type { Publisher } from "../broker/publisher.ts";
import { topologyFor, type Topology } from "../broker/topology.ts";
import { cancelJobs } from "../cancel/cancel-jobs.ts";
import { askHost, cancelHere } from "../cancel/cancel-on-host.ts";
import { destinationsOf, type MentoConfig } from "../config/config.ts";
import { localJobsDirectory } from "../jobs/site-folders.ts";
import { handleCancel } from "../cancel/handle-cancel.ts";
import type { ReceivedMessage } from "../intake/handle-message.ts";
import type { Log } from "../log.ts";
import type { CancelAnswer } from "../messages/job-cancel.ts";
import type { SessionShells } from "../submission/session-shells.ts";
import type { SlurmRest } from "../slurm/rest/slurm-rest.ts";
import type { Shell } from "../shells/shell.ts";

/** The ways on which a worker reaches jobs. */
export interface Reach {
  sessions: Sessions;
  shells: SessionShells;
  here: Shell;
  rest: SlurmRest | null;
}

export interface CancelParts extends Reach {
  config: MentoConfig;
  link: BrokerLink;
  publisher: Publisher;
  topology: Topology;
  log: Log;
}

/** What a worker does with requests to cancel: as messages, and from other hosts. */
export function cancelling(parts: CancelParts) {
  const { config, here, link, publisher, log } = parts;
  const deps = {
    ...{ site: config.site, sessions: parts.sessions, shells: parts.shells, here, rest: parts.rest },
    destinations: destinationsOf(config),
    lastEvents: (names: readonly string[]) => lastJobEvents(parts, names),
    askHost: (...[host, group, job, request]: Parameters<Parameters<typeof cancelJobs>[2]["askHost"]>) => {
      const queue = topologyFor(config.broker.prefix, group, host).hostJobsQueue;
      return askHost({ link, publisher, queue }, job, request);
    },
  };
  return {
    message: (received: ReceivedMessage): Promise<CancelAnswer> =>
      handleCancel(received, {
        mayCancel: config.worker.mayCancel,
        cancel: (jobs, request) => cancelJobs(jobs, request, deps),
        log,
        now: () => new Date(),
      }),
    /** @throws whatever is wrong with the request, or with the broker */
    fromHost: (message: Delivery["message"]): Promise<void> =>
      cancelHere(message, { here, jobsDirectory: localJobsDirectory(config.site), publisher }),
  };
}
