import { randomBytes, randomUUID } from "node:crypto";
import { posix } from "node:path";
import { connect, type ChannelModel } from "amqplib";
import { afterAll, beforeAll, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { MAX_HELD } from "../../src/held-records.ts";
import { writeTrackingRecord } from "../../src/jobs/tracking-record.ts";
import { OwnFacility } from "../support/own-facility.ts";
import { askSlurm } from "../support/servers.ts";
import { eventually, TestSite, writeOnCore, type AnyEvent } from "../support/site.ts";

const TASKS = 1000;
const ARRAYS = MAX_HELD / TASKS + 1;

let own: OwnFacility;
let site: TestSite;
let broker: ChannelModel;

beforeAll(async () => {
  own = await OwnFacility.start();
  site = new TestSite(
    [{ name: "quick", on: { technique: "quick" }, run: ["/bin/true"] }],
    { worker: { maxPending: 100_000 } },
    own,
  );
  broker = await connect(own.facility.broker.url);
});
afterAll(async () => {
  await broker.close();
  await site.tearDown();
  await own.tearDown();
});

async function publish(): Promise<string> {
  const message = { path: writeOnCore("data\n", own), technique: "quick" };
  return (await publishDataReady(await site.client(), message, { id: randomUUID() })).id;
}

/** An array that Slurm holds, and the tracking records of its tasks. */
function heldArray({ data }: AnyEvent): Buffer[] {
  const arrayId = randomBytes(8).toString("hex");
  const options = [`--uid=${own.beamtime.account}`, "--hold", `--array=0-${TASKS - 1}`];
  const marked = ["--parsable", `--comment=mento:array:${arrayId}`, "--chdir=/", "--output=/dev/null"];
  const array = askSlurm(own.facility, "sbatch", ...options, ...marked, "--wrap=true").trim();
  const jobsDirectory = posix.dirname(data.job.directory);
  return Array.from({ length: TASKS }, (_, task) => {
    const letters = `${arrayId}x${task}x`.replaceAll(/\d/g, (digit) => "ghijklmnop"[Number(digit)] ?? "");
    const id = letters.padEnd(26, "a");
    const job = { ...data.job, id, directory: `${jobsDirectory}/${id}` };
    const slurm = { ...data.slurm, jobId: `${array}_${task}` };
    return writeTrackingRecord({ version: 1, arrayId, data: { ...data, job, slurm }, jobsDirectory });
  });
}

it("jobs that Slurm holds, more than a worker watches at once, keep no new job's end from being announced", async () => {
  const worker = await site.startWorker();
  const first = await publish();
  const submitted = await site.event("job.submitted", first);
  await site.event("job.completed", first);
  await worker.stop();
  const queue = `${site.prefix}.default.jobs`;
  const channel = await broker.createConfirmChannel();
  for (let count = 0; count < ARRAYS; count++) {
    for (const record of heldArray(submitted)) channel.sendToQueue(queue, record, { persistent: true });
  }
  await channel.waitForConfirms();
  await site.startWorker();
  await eventually(
    "the worker holds as many as it may",
    async () => (await channel.checkQueue(queue)).messageCount <= TASKS || undefined,
  );
  const ids = await Promise.all(Array.from({ length: 20 }, publish));
  await Promise.all(ids.map((id) => site.event("job.completed", id, 150_000)));
  expect(site.events.filter(({ type }) => type.includes("lost"))).toEqual([]);
  await site.workers[1]?.stop();
  let left = 0;
  await eventually(
    () => `none of the others' records is gone; there are ${left}`,
    async () => {
      left = (await channel.checkQueue(queue)).messageCount;
      return left >= ARRAYS * TASKS || undefined;
    },
  );
}, 400_000);
