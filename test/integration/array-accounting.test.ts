import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { AccountingDatabase } from "../support/accounting-database.ts";
import { OwnFacility } from "../support/own-facility.ts";
import { askSlurm } from "../support/servers.ts";
import { eventually, TestSite, writeOnCore } from "../support/site.ts";

let own: OwnFacility;
let database: AccountingDatabase;
let site: TestSite;

beforeAll(async () => {
  own = await OwnFacility.start();
  database = await AccountingDatabase.start(own);
  const trigger = {
    ...{ name: "sleep", on: { technique: "sleep" }, run: ["/bin/sleep", "300"] },
    array: { size: 5, window: 60, limit: 1 },
  };
  site = new TestSite([trigger], { worker: { reconcileSeconds: 1 } }, own);
}, 300_000);
afterAll(async () => {
  await site.tearDown();
  await database.stop();
  await own.tearDown();
}, 120_000);

const slurm = (program: string, ...args: string[]) => askSlurm(own.facility, program, ...args);

/** What accounting has of an array; it may be too busy to say. */
function tellsOf(array: string): string {
  try {
    return slurm("sacct", "-n", "-P", "-X", "-j", array, "-o", "JobID,State");
  } catch (error) {
    return String(error);
  }
}

it("tasks of an array that somebody has cancelled while no worker looked are announced, each once", async () => {
  const worker = await site.startWorker();
  const publish = async () => {
    const message = { path: writeOnCore("data\n", own), technique: "sleep" };
    return (await publishDataReady(await site.client(), message, { id: randomUUID() })).id;
  };
  const ids = await Promise.all(Array.from({ length: 5 }, publish));
  const submitted = await Promise.all(ids.map((id) => site.event("job.submitted", id, 60_000)));
  const arrays = new Set(submitted.map(({ data }) => data.slurm.jobId.split("_")[0]));
  expect(arrays.size).toBe(1);
  const [array = ""] = arrays;
  await eventually(
    "one of them runs",
    () => site.events.some(({ type }) => type.includes("started")) || undefined,
  );
  await worker.stop();
  slurm("scancel", "--state=PENDING", array);
  await eventually(
    "accounting has them together",
    () => /^\d+(_\[.*\])?\|CANCELLED/m.test(tellsOf(array)) || undefined,
    60_000,
  ).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${tellsOf(array)}`);
  });
  await eventually(
    "Slurm's controller has forgotten them",
    () => {
      const known = slurm("squeue", "--array", "--noheader", "--states=all", "--format=%i");
      return known.split("\n").filter((id) => id.startsWith(`${array}_`)).length <= 1 || undefined;
    },
    100_000,
  );
  await site.startWorker();
  slurm("scancel", array);
  await Promise.all(ids.map((id) => site.event("job.cancelled", id, 100_000)));
  for (const id of ids) {
    const ends = site.jobEventsOf(id).filter(({ type }) => /completed|failed|cancelled|lost/.test(type));
    expect(new Set(ends.map((end) => end.id)).size).toBe(1);
  }
}, 400_000);
