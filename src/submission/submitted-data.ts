import type { EventError, JobEventData } from "../messages/job-event.ts";
import type { JobPlan } from "../triggers/plan.ts";
import type { SubmittedJob } from "./method.ts";

/** When a message came, and what is to be said of the place that its job got. */
export interface Submit {
  ready: string | null;
  received: Date;
  notice: EventError | null;
}

/** What is told of a job that was submitted. */
export function submittedData(plan: JobPlan, job: SubmittedJob, submit: Submit): JobEventData {
  return {
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
    chain: [...plan.chain],
    message: plan.facts,
    paths: plan.announcedPaths,
    times: {
      ready: submit.ready,
      received: submit.received.toISOString(),
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
