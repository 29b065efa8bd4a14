import { afterEach, describe, expect, it } from "vitest";
import { Deferred, type MentoError } from "../../src/errors.ts";
import { NOT_RUN } from "../../src/jobs/run-script.ts";
import type { SubmitTarget } from "../../src/submission/method.ts";
import { slurmRest } from "../../src/submission/slurm-rest.ts";
import type { Shell } from "../../src/shells/shell.ts";
import { SlurmRest } from "../../src/slurm/rest/slurm-rest.ts";
import type { JobPlan } from "../../src/triggers/plan.ts";
import { Trigger } from "../../src/triggers/trigger-config.ts";
import { asRecorded, recordedOf, startServer, tokenOf, USER } from "../slurm/rest/recorded.ts";

const closings: (() => void)[] = [];
afterEach(() => {
  for (const close of closings.splice(0)) close();
});

const version = "v0.0.42" as const;
const allocation = { reservation: "11010000", partition: "ponline_p11", time: "00:20:00" };
const noAllocation = new Deferred({
  code: "no-reservation-fits",
  message: "None fits.",
  hint: "Wait.",
  giveUpAfterSeconds: 60,
});

/** The account's job folders are not where the worker runs. */
const shell = shellThatSays(() => "\nmento:none\n");

function shellThatSays(answer: (script: string) => string): Shell {
  return {
    host: "worker",
    account: "mento",
    run: (script) =>
      Promise.resolve({ code: 0, signal: null, stdout: Buffer.from(answer(script)), stderr: "" }),
  };
}

/** Slurm has the recorded jobs, all of `mento:0123456789abcdef`; one of them waits. */
async function submit(
  jobId: string,
  target: Partial<SubmitTarget> = {},
  slurm: object = {},
  priority = 0,
  recorded = recordedOf(version),
) {
  const server = await startServer(asRecorded(recorded));
  closings.push(server.close);
  const token = tokenOf({ exp: 4e9, sun: USER });
  const rest = new SlurmRest({
    url: server.url,
    token: () => Promise.resolve(token),
    timeoutMs: 5000,
    version,
  });
  const trigger = Trigger.parse({ name: "t", run: ["/bin/true"], method: "slurm-rest-api", slurm, priority });
  const plan: JobPlan = {
    ...{ group: "default", correlationId: null },
    ...{ jobId, trigger, cause: { source: "/s", id: "1", type: "mento.data.ready.v1" }, chain: [] },
    facts: { detector: null, technique: null, scan: null, sample: null, parameters: {} },
    ...{ traceparent: "00-0-0-01", session: null, beamline: null, sessionId: null, env: {}, workdir: null },
    ...{
      stdin: null,
      key: null,
      logFile: null,
      givenBytes: 0,
      paths: [],
      announcedPaths: [],
      bytes: undefined,
      causeResults: [],
      causeDirectory: null,
      argv: ["/bin/true"],
    },
    resultsDirectory: "/c/processed/a",
  };
  const at: SubmitTarget = {
    ...{ shell, rest, allocation, corePath: "/c", jobsDirectory: "/c/scratch_cc/mento" },
    ...{ slurm: { ...trigger.slurm, time: "00:20:00" }, userScript: null, maxPending: null, notice: null },
    ...target,
  };
  const options = { dataTimeout: 600, dataCheck: undefined, received: new Date(0) };
  const result: unknown = await slurmRest.submit(plan, at, options).catch((error: unknown) => error);
  const sent = server.asked.find(({ method }) => method === "POST");
  const job = sent && (JSON.parse(sent.body) as { job: Record<string, unknown> }).job;
  const cancelled = server.asked.filter(({ method }) => method === "DELETE").map(({ path }) => path);
  return { result, job, cancelled };
}

describe("a job over the REST API", () => {
  it("is told all that its trigger says of Slurm", async () => {
    const { job } = await submit(
      "k3f7",
      {},
      {
        ...{ nodes: 2, tasks: 4, cpusPerTask: 8, memory: "4G", constraint: "gpu", gres: "gpu:1,nvme" },
        ...{ account: "a", qos: "q", exclusive: true, dependency: "singleton" },
      },
      -2,
    );
    expect(job).toMatchObject({
      ...{
        nodes: "2",
        tasks: 4,
        cpus_per_task: 8,
        constraints: "gpu",
        tres_per_node: "gres/gpu:1,gres/nvme",
      },
      ...{ account: "a", qos: "q", shared: ["none"], dependency: "singleton", nice: 2000 },
      ...{ reservation: "11010000", partition: "ponline_p11", comment: "mento:k3f7" },
      memory_per_node: { number: 4096 },
      time_limit: { number: 20 },
    });
  });

  it("that Slurm has already is not submitted again, whether a reservation fits now or not", async () => {
    for (const one of [allocation, noAllocation]) {
      const { result, job } = await submit("0123456789abcdef", { allocation: one });
      expect(result).toMatchObject({ allocation: { reservation: null, partition: "ponline" } });
      expect(job).toBeUndefined();
    }
  });

  it("without a reservation that fits is not submitted", async () => {
    const { result, job } = await submit("k3f7", { allocation: noAllocation });
    expect(result).toBe(noAllocation);
    expect(job).toBeUndefined();
  });

  it("waits on the broker while too many wait in Slurm, and keeps no other message from its way", async () => {
    const { result, job } = await submit("k3f7", { maxPending: 1 });
    expect(result).toBeInstanceOf(Deferred);
    expect(result).toMatchObject({ code: "too-many-pending", giveUpAfterSeconds: Infinity });
    expect((result as MentoError).message).toContain(USER);
    expect(job).toBeUndefined();
    expect((await submit("k3f7", { maxPending: 2 })).job).toBeDefined();
  });

  it("that was cancelled before Slurm had it is cancelled at once, found or submitted", async () => {
    const asked = shellThatSays((script) =>
      script.includes(".cancelled ]") ? "cancelled\n" : "\nmento:none\n",
    );
    const recorded = recordedOf(version);
    const made = (recorded.answers["submit"]?.body as { job_id: number }).job_id;
    expect((await submit("k3f7", { shell: asked }, {}, 0, recorded)).cancelled).toEqual([
      `/slurm/${version}/job/${made}`,
    ]);
    const running = recorded.answers.list.body.jobs.find(({ job_id }) => job_id === recorded.jobs.running);
    Object.assign(running ?? {}, { comment: "mento:other" });
    const known = await submit("other", { shell: asked }, {}, 0, recorded);
    expect(known.job).toBeUndefined();
    expect(known.cancelled).toEqual([`/slurm/${version}/job/${recorded.jobs.running}`]);
    expect((await submit("k3f7")).cancelled).toEqual([]);
  });

  it("waits while Slurm lists what may be it and cannot be read; one that is listed is found", async () => {
    const recorded = structuredClone(recordedOf(version));
    recorded.answers.list.body.jobs.unshift({ job_id: 4711.5 });
    const { result, job } = await submit("k3f7", {}, {}, 0, recorded);
    expect(result).toMatchObject({ name: "Deferred", code: "slurm-unavailable" });
    expect(job).toBeUndefined();
    expect((await submit("0123456789abcdef", {}, {}, 0, recorded)).result).toMatchObject({ name: "t" });
  });

  it("of which Slurm has two is the one that runs it", async () => {
    const recorded = structuredClone(recordedOf(version));
    const [first, second] = recorded.answers.list.body.jobs;
    const exit_code = {
      return_code: { set: true, infinite: false, number: NOT_RUN.another },
      signal: { id: { set: false, infinite: false, number: 0 } },
    };
    Object.assign(first ?? {}, { comment: "mento:k3f7", job_state: ["FAILED"], exit_code });
    Object.assign(second ?? {}, { comment: "mento:k3f7" });
    const { result, job } = await submit("k3f7", {}, {}, 0, recorded);
    expect(job).toBeUndefined();
    expect(result).toMatchObject({ slurmJobId: String(second?.job_id) });
  });
});
