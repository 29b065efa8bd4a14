import { expect, it } from "vitest";
import { command } from "../../src/submission/command.ts";
import type { SubmitTarget } from "../../src/submission/method.ts";
import type { Shell } from "../../src/shells/shell.ts";
import type { JobPlan } from "../../src/triggers/plan.ts";
import { Trigger } from "../../src/triggers/trigger-config.ts";

const plan: JobPlan = {
  jobId: "k3f7",
  group: "default",
  correlationId: null,
  trigger: Trigger.parse({ name: "t", run: ["/bin/true"], method: "remote-command" }),
  cause: { source: "/s", id: "1", type: "mento.data.ready.v1" },
  chain: [],
  facts: { detector: null, technique: null, scan: null, sample: null, parameters: {} },
  traceparent: "00-0-0-01",
  ...{ session: null, beamline: null, sessionId: null, env: {}, workdir: null, stdin: null, key: null },
  ...{
    logFile: null,
    givenBytes: 0,
    paths: [],
    announcedPaths: [],
    bytes: undefined,
    causeResults: [],
    causeDirectory: null,
  },
  argv: ["/bin/true"],
  resultsDirectory: null,
};

/** What a directory says that somebody else has made. */
async function submitWhere(said: string, hosts: readonly string[]) {
  const shell: Shell = {
    host: "max-p11-001",
    account: "bttest",
    run: () =>
      Promise.resolve({
        code: 0,
        signal: null,
        stdout: Buffer.from(`mento:submitted ${said}\n`),
        stderr: "",
      }),
  };
  const target: SubmitTarget = {
    ...{
      shell,
      corePath: null,
      jobsDirectory: "/c/scratch_cc/mento",
      maxPending: null,
      allocation: null,
      hosts,
    },
    slurm: { time: "01:00:00", fallback: "wait" },
    ...{ rest: null, userScript: null, notice: null },
  };
  const options = { dataTimeout: 600, dataCheck: undefined, received: new Date(0) };
  return (await command.submit(plan, target, options)).process;
}

it("a process is only where its session has hosts, whatever its directory says", async () => {
  const hosts = ["max-p11-001", "max-p11-002"];
  expect(await submitWhere("4711;max-p11-002", hosts)).toEqual({ host: "max-p11-002", pid: 4711 });
  for (const host of ["elsewhere.example", "127.0.0.1"]) {
    expect(await submitWhere(`4711;${host}`, hosts)).toEqual({ host: "", pid: 4711 });
  }
});
