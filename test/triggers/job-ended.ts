import type { JobEventData } from "../../src/messages/job-event.ts";
import { readTriggerInput, type TriggerInput } from "../../src/messages/trigger-input.ts";

interface Ended {
  type: "job.completed" | "job.failed" | "job.cancelled" | "job.lost";
  trigger?: string;
  group?: string;
  exit?: JobEventData["exit"];
  chain?: JobEventData["chain"];
  results?: JobEventData["results"];
}

export const CORE = "/asap3/petra3/gpfs/p11/2026/data/11010000";

/** The end of a job, as a trigger sees it. */
export function jobEnded(ended: Ended): TriggerInput {
  return readTriggerInput(jobEndedEvent(ended));
}

export function jobEndedEvent({ type, trigger = "azimuthal", group = "default", ...more }: Ended) {
  const time = "2026-11-22T12:00:00.000Z";
  const data: JobEventData = {
    group,
    correlationId: null,
    job: {
      id: "k3f7",
      trigger,
      method: "remote-sbatch-script",
      state: type.replace("job.", "") as JobEventData["job"]["state"],
      name: trigger,
      directory: `${CORE}/scratch_cc/mento/k3f7`,
    },
    slurm: { jobId: "4711", reservation: "11010000", partition: "ponline", nodes: ["max-p11-001"] },
    process: null,
    session: { beamline: "p11", id: "11010000", corePath: CORE },
    cause: { source: "/det", id: "1", type: "mento.data.ready.v1" },
    chain: [],
    message: { detector: "eiger", technique: "saxs", scan: 7, sample: null, parameters: {} },
    paths: [`${CORE}/raw/s1/a.h5`],
    times: { ready: time, received: time, submitted: time, started: time, ended: time },
    exit: { code: 0, signal: null, reason: null },
    results: [],
    cancelledBy: null,
    error: null,
    ...more,
  };
  return {
    specversion: "1.0" as const,
    id: "k3f7/end",
    source: `/mento/${group}`,
    type: `mento.${type}.v1`,
    data,
  };
}
