import { describe, expect, it } from "vitest";
import { Unavailable } from "../../src/errors.ts";
import { submitArray } from "../../src/submission/sbatch-array.ts";
import type { Shell } from "../../src/shells/shell.ts";
import type { JobPlan } from "../../src/triggers/plan.ts";
import { Trigger } from "../../src/triggers/trigger-config.ts";

const MIB = 1024 * 1024;

function planOf(jobId: string, argumentBytes: number): JobPlan {
  return {
    jobId,
    group: "default",
    correlationId: null,
    trigger: Trigger.parse({ name: "t", run: ["/bin/true"], array: {} }),
    cause: { source: "/s", id: jobId, type: "mento.data.ready.v1" },
    chain: [],
    facts: { detector: null, technique: null, scan: null, sample: null, parameters: {} },
    traceparent: "00-0-0-01",
    ...{
      session: null,
      beamline: null,
      sessionId: null,
      workdir: null,
      stdin: null,
      key: null,
      logFile: null,
      givenBytes: 0,
    },
    ...{
      env: {},
      paths: [],
      announcedPaths: [],
      bytes: undefined,
      causeResults: [],
      causeDirectory: null,
      resultsDirectory: null,
    },
    argv: ["/bin/true", "x".repeat(argumentBytes)],
  };
}

/** The jobs of each remote call, of which the `broken`th does not end. */
async function submit(plans: JobPlan[], broken?: number) {
  const calls: string[][] = [];
  const sizes: number[] = [];
  const shell: Shell = {
    host: "max-p11-001",
    account: "bttest",
    run: (script) => {
      const ids = plans.map(({ jobId }) => jobId).filter((id) => script.includes(`jobs/${id}'`));
      if (calls.push(ids) - 1 === broken) {
        return Promise.reject(new Unavailable({ code: "ssh-lost", message: "", hint: "" }));
      }
      sizes.push(script.length);
      const made = ids.map((_, at) => `mento-task ${at}\nmento-task made ${at}\n`).join("");
      const stdout = `${made}mento-array submitted 47${calls.length}\n`;
      return Promise.resolve({ code: 0, signal: null, stdout: Buffer.from(stdout), stderr: "" });
    },
  };
  const target = {
    ...{ shell, corePath: null, jobsDirectory: "/c/jobs", maxPending: null, rest: null },
    allocation: { reservation: "r", partition: "p", time: "01:00:00" },
    slurm: { time: "01:00:00", fallback: "wait" as const },
    ...{ userScript: null, notice: null },
  };
  const options = { dataTimeout: 600, dataCheck: undefined, received: new Date(0) };
  const ends = await submitArray(
    plans.map((plan) => ({ plan, options })),
    target,
  );
  const said = ends.map((end) => (end.status === "fulfilled" ? end.value.slurmJobId : "rejected"));
  return { calls, sizes, said };
}

describe("jobs that are submitted together", () => {
  it("are one array", async () => {
    const { calls, said } = await submit(["a", "b", "c"].map((id) => planOf(id, 100)));
    expect(calls).toEqual([["a", "b", "c"]]);
    expect(said).toEqual(["471_0", "471_1", "471_2"]);
  });

  it("are several if their scripts are more than one call can have, in their order", async () => {
    // An argument is in its script twice: as such, and in the request.
    const { calls, sizes, said } = await submit(["a", "b", "c", "d"].map((id) => planOf(id, 1.5 * MIB)));
    expect(calls).toEqual([
      ["a", "b"],
      ["c", "d"],
    ]);
    expect(said).toEqual(["471_0", "471_1", "472_0", "472_1"]);
    for (const size of sizes) expect(size).toBeLessThan(9 * MIB);
  });

  it("of which one array is not submitted are each told what became of their own", async () => {
    const { said } = await submit(
      ["a", "b", "c", "d"].map((id) => planOf(id, 1.5 * MIB)),
      1,
    );
    expect(said).toEqual(["471_0", "471_1", "rejected", "rejected"]);
  });
});
