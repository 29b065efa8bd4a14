import type { EventError, JobEventData } from "../messages/job-event.ts";
import type { JobPlan } from "../triggers/plan.ts";
import type { SubmittedJob } from "./method.ts";

/** What is to be said of a message, and of the place that its job got. */
export interface Submit {
  ready: string | null;
  notice: EventError | null;
}

/** What is told of a job that was submitted. */
export function submittedData(plan: JobPlan, job: SubmittedJob, submit: Submit): JobEventData {
  return {
    group: plan.group,
    job: {
      id: plan.jobId,
      trigger: plan.trigger.name,
      method: plan.trigger.method,
      state: "submitted",
      name: job.name,
      directory: job.directory,
    },
    slurm: {
      jobId: job.slurmJobId,
      reservation: job.allocation?.reservation ?? null,
      partition: job.allocation?.partition ?? null,
      nodes: [],
    },
    process: job.process,
    session: {
      beamline: plan.beamline,
      id: plan.sessionId,
      corePath: plan.session?.roots.core ?? null,
    },
    cause: plan.cause,
    correlationId: plan.correlationId,
    chain: [...plan.chain],
    message: plan.facts,
    paths: plan.announcedPaths,
    times: {
      ready: submit.ready,
      received: job.receivedAt,
      submitted: job.submittedAt,
      started: null,
      ended: null,
    },
    exit: null,
    cancelledBy: null,
    results: [],
    error: submit.notice,
  };
}
