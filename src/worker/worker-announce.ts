import { brokerLost, type BrokerLink } from "../broker/connection.ts";
import type { Publisher } from "../broker/publisher.ts";
import type { Topology } from "../broker/topology.ts";
import type { MentoConfig } from "../config/config.ts";
import { MentoError } from "../errors.ts";
import type { Log } from "../log.ts";
import { eventBytes } from "../messages/event-bytes.ts";
import { toCloudEvent, type JobEventData, type OutgoingEvent } from "../messages/job-event.ts";

interface AnnounceDeps {
  link: BrokerLink;
  publisher: Publisher;
  topology: Topology;
  worker: Pick<MentoConfig["worker"], "group" | "maxEventBytes">;
  log: Log;
}

/** Publishes events as this worker's group, over one link. */
export function announcing({ link, publisher, topology, worker, log }: AnnounceDeps) {
  const source = `/mento/${worker.group}`;
  return async (event: OutgoingEvent): Promise<void> => {
    const published = publisher.publish({
      exchange: topology.eventsExchange,
      routingKey: event.routingKey,
      // What the broker has refused for its size is cut to what it takes, never sent again as it is.
      body: eventBytes(toCloudEvent(event, source), Math.min(worker.maxEventBytes, publisher.maxBytes)),
      properties: {
        messageId: event.id,
        type: event.type,
        appId: source,
        timestamp: Math.max(0, Math.floor(Date.parse(event.time) / 1000)),
        contentType: "application/cloudevents+json",
        ...(event.data.correlationId !== null && { correlationId: event.data.correlationId }),
      },
    });
    await published.catch((error: unknown) => {
      const { code } = error instanceof MentoError ? error : {};
      // Somebody has deleted the history: a new link declares it again.
      if (code === "nobody-listens") link.fail(brokerLost(`no queue takes ${event.type}`, error));
      if (code !== "publish-refused" || !(error instanceof MentoError)) throw error;
      // One client's full queue must not stop the beamline; the others have the event.
      log.error({ event: event.id, code: error.code, hint: error.hint }, error.message);
    });
    tell(event, log);
  };
}

/** A job or a message that came to nothing is a warning, with its reason. */
function tell({ id: event, type, data }: OutgoingEvent, log: Log): void {
  const { cause, paths, group, error } = data;
  const about = "job" in data ? aboutJob(data) : { beamtimeId: data.beamtimeId };
  const why = error === null ? {} : { code: error.code, why: error.message };
  const isTrouble = /\.(failed|lost|rejected)\./.test(type);
  const path = paths[0] ?? null;
  log[isTrouble ? "warn" : "info"]({ event, cause, group, path, ...about, ...why }, type);
}

function aboutJob({ job, slurm, session }: JobEventData) {
  const { id, trigger } = job;
  return { job: id, trigger, slurmJob: slurm.jobId, session: session.id };
}
