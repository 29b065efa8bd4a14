import { existsSync, mkdirSync, readdirSync, utimesSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { eventually, TestSite, writeOnCore } from "../support/site.ts";

/** A folder of job directories of its own: nobody else's are to be removed here. */
const site = new TestSite(
  [
    { name: "quick", on: { technique: "quick" }, run: ["/bin/true"] },
    { name: "nap", on: { technique: "nap" }, run: ["/bin/sleep", "8"] },
  ],
  { site: { jobs: `scratch_cc/retention-${Date.now()}` } },
);

beforeAll(async () => {
  await site.startWorker();
});
afterAll(() => site.tearDown());

async function publish(technique: string): Promise<string> {
  const { id } = await publishDataReady(await site.client(), { path: writeOnCore(), technique });
  return id;
}

it("directories of jobs that ended long ago are removed, but of none that still runs", async () => {
  const ago = new Date(Date.now() - 15 * 24 * 3600_000);
  const id = await publish("nap");
  const running = (await site.event("job.started", id)).data.job.directory;
  const jobs = dirname(running);
  const old = join(jobs, "abc234");
  const young = join(jobs, "def567");
  for (const one of [old, young, join(jobs, ".removed.ghi")]) mkdirSync(one);
  for (const one of [old, running]) utimesSync(one, ago, ago);
  const second = await site.startWorker();
  await eventually("it is removed", () => (existsSync(old) ? undefined : true));
  await eventually("all is removed", () => (second.log.includes("were removed") ? true : undefined));
  expect(readdirSync(jobs).sort()).toEqual([".spool", "def567", running.slice(jobs.length + 1)].sort());
  const { data } = await site.event("job.completed", id);
  expect(data.exit?.code).toBe(0);
});
