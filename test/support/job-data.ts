import type { JobEventData } from "../../src/messages/job-event.ts";

/** What is told of a job of Slurm. */
export function jobData(
  state: JobEventData["job"]["state"] = "submitted",
  changes: Partial<JobEventData> = {},
): JobEventData {
  return {
    group: "default",
    correlationId: null,
    job: { id: "k3f7", trigger: "t", method: "remote-sbatch-script", state, name: "t", directory: "/j/k3f7" },
    slurm: { jobId: "4711", reservation: "r", partition: "p", nodes: [] },
    process: null,
    session: { beamline: "p11", id: "11010000", corePath: "/c" },
    cause: { source: "/s", id: "1", type: "mento.data.ready.v1" },
    chain: [],
    message: { detector: null, technique: null, scan: null, sample: null, parameters: {} },
    paths: [],
    times: { ready: null, received: null, submitted: null, started: null, ended: null },
    exit: null,
    cancelledBy: null,
    results: [],
    error: null,
    ...changes,
  };
}
