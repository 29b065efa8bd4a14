import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { Sessions } from "../src/beamtime/session.ts";
import type { LastJobEvent } from "../src/broker/job-history.ts";
import { cancelJobs, cancelKnown, type CancelEffects } from "../src/cancel-jobs.ts";
import { MentoConfig } from "../src/config-schema.ts";
import { REQUEST_PREFIX } from "../src/jobs/run-script.ts";
import type { CancelOutcome } from "../src/messages/job-cancel.ts";
import { LocalShell } from "../src/shells/local.ts";
import { jobData } from "./support/job-data.ts";

const top = mkdtempSync(join(tmpdir(), "mento-cancel-"));
afterAll(() => rmSync(top, { recursive: true }));

const request = { who: "me", reason: null, at: new Date().toISOString() };
const { site } = MentoConfig.parse({ site: { gpfs: top, core: top, localJobs: join(top, "jobs") } });

/** The directory of a process of this account, on a host that has the same home folder. */
function processOn(host: string, records: Record<string, Record<string, string>> = {}) {
  const id = `job-${Math.random().toString(36).slice(2)}`;
  const directory = join(top, "jobs", id);
  mkdirSync(directory, { recursive: true });
  const asked = JSON.stringify({ method: "local-bash-script", submittedAt: request.at });
  writeFileSync(join(directory, "run.sh"), `#!/bin/sh\n${REQUEST_PREFIX}${asked}\n`);
  writeFileSync(join(directory, "submitted"), `999999;${host}\n`);
  for (const [name, fields] of Object.entries(records)) {
    const text = Object.entries(fields).map(([key, value]) => `${key}=${value}\0`);
    writeFileSync(join(directory, `${name}.999999`), text.join(""));
  }
  return { id, directory };
}

function effects(lastEvents: LastJobEvent[] = []) {
  const asked: string[] = [];
  const all: CancelEffects = {
    site,
    sessions: new Sessions(site, () => undefined),
    shells: undefined as never,
    here: new LocalShell(30_000),
    rest: null,
    lastEvents: () => Promise.resolve(new Map(lastEvents.map((one) => [one.data.job.id, one]))),
    askHost: (host, group, id): Promise<CancelOutcome> => {
      asked.push(`${group} on ${host}`);
      const none = { end: null, cancelledBy: null, error: null };
      return Promise.resolve({ job: id, id, outcome: "cancelled", ...none });
    },
  };
  return { all, asked };
}

const eventOf = ({ id, directory }: { id: string; directory: string }, host: string): LastJobEvent => {
  const { job, ...data } = jobData("started", { process: { host, pid: 999999 } });
  return { group: "saxs", data: { ...data, job: { ...job, id, directory, method: "local-bash-script" } } };
};

describe("cancelling a process of another host, whose folder is this host's too", () => {
  const start = { at: request.at, node: "visu-2", restart: "0", boot: "another" };

  it("asks that host's worker, which alone knows whether it lives", async () => {
    const job = processOn("visu-2", { started: start });
    const { all, asked } = effects([eventOf(job, "visu-2")]);
    expect(await cancelJobs([job.id], request, all)).toMatchObject([{ outcome: "cancelled" }]);
    expect(asked).toEqual(["saxs on visu-2"]);
  });

  it("says where it can be cancelled if no worker has announced it", async () => {
    const job = processOn("visu-2", { started: start });
    const [outcome] = await cancelJobs([job.id], request, effects().all);
    expect(outcome).toMatchObject({ outcome: "failed", id: job.id, error: { code: "worker-silent" } });
    expect(outcome?.error?.message).toMatch(/visu-2/);
  });

  it("needs nobody if it has recorded its end", async () => {
    const job = processOn("visu-2", { started: start, ended: { at: request.at, code: "7", stoppedBy: "" } });
    const { all, asked } = effects([eventOf(job, "visu-2")]);
    expect(await cancelJobs([job.id], request, all)).toMatchObject([{ outcome: "gone", end: { code: 7 } }]);
    expect(asked).toEqual([]);
  });

  it("says of a process of this host itself that it is gone", async () => {
    const job = processOn(hostname(), { started: start });
    expect(await cancelJobs([job.id], request, effects().all)).toMatchObject([{ outcome: "gone" }]);
  });
});

describe("cancelling a job that one has started oneself", () => {
  it("asks nobody if it has ended", async () => {
    const { all } = effects();
    const ended = jobData("failed", { exit: { code: 3, signal: null, reason: "exit-code" } });
    expect(await cancelKnown(ended, request, all)).toMatchObject({ outcome: "gone", end: { code: 3 } });
  });

  it("looks into its own directory", async () => {
    const job = processOn(hostname());
    const { data } = eventOf(job, hostname());
    expect(await cancelKnown(data, request, effects().all)).toMatchObject({ outcome: "gone", id: job.id });
    rmSync(job.directory, { recursive: true });
    expect(await cancelKnown(data, request, effects().all)).toMatchObject({ outcome: "unknown" });
  });

  it("says why if its place is out of reach", async () => {
    const outcome = await cancelKnown(jobData("started"), request, effects().all);
    expect(outcome).toMatchObject({ outcome: "failed", id: "k3f7", error: { code: "unknown-beamtime" } });
  });
});
