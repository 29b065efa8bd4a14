import { randomBytes, randomUUID } from "node:crypto";
import { posix } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, type ChannelModel, type ConfirmChannel } from "amqplib";
import { afterAll, beforeAll, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { MAX_HELD } from "../../src/tracking/held-records.ts";
import { writeTrackingRecord } from "../../src/tracking/tracking-record.ts";
import { WrittenNumber } from "../../src/messages/json.ts";
import { OwnFacility } from "../support/own-facility.ts";
import { askSlurm } from "../support/servers.ts";
import { eventually, TestSite, writeOnCore, type AnyEvent } from "../support/site.ts";

const TASKS = 1000;
const ARRAYS = MAX_HELD / TASKS + 1;

let own: OwnFacility;
const sites: TestSite[] = [];
let broker: ChannelModel;

beforeAll(async () => {
  own = await OwnFacility.start({ broker: "own" });
  broker = await connect(own.facility.broker.url);
});
afterAll(async () => {
  await broker.close();
  for (const site of sites) await site.tearDown();
  await own.tearDown();
});

function newSite(): TestSite {
  const site = new TestSite(
    [{ name: "quick", on: { technique: "quick" }, run: ["/bin/true"] }],
    { worker: { maxPending: 100_000 } },
    own,
  );
  sites.push(site);
  return site;
}

async function publish(site: TestSite): Promise<string> {
  const message = { path: writeOnCore("data\n", own), technique: "quick" };
  return (await publishDataReady(await site.client(), message, { id: randomUUID() })).id;
}

/** An array that Slurm holds, and the tracking records of its tasks. */
function heldArray({ data }: AnyEvent, tasks = TASKS, parameters = {}): Buffer[] {
  const arrayId = randomBytes(8).toString("hex");
  const options = [`--uid=${own.beamtime.account}`, "--hold", `--array=0-${tasks - 1}`];
  const marked = ["--parsable", `--comment=mento:array:${arrayId}`, "--chdir=/", "--output=/dev/null"];
  const array = askSlurm(own.facility, "sbatch", ...options, ...marked, "--wrap=true").trim();
  const jobsDirectory = posix.dirname(data.job.directory);
  return Array.from({ length: tasks }, (_, task) => {
    const deadLetters = `${arrayId}x${task}x`.replaceAll(/\d/g, (digit) => "ghijklmnop"[Number(digit)] ?? "");
    const id = deadLetters.padEnd(26, "a");
    const job = { ...data.job, id, directory: `${jobsDirectory}/${id}` };
    const slurm = { ...data.slurm, jobId: `${array}_${task}` };
    const message = { ...data.message, parameters };
    return writeTrackingRecord({
      version: 1,
      arrayId,
      data: { ...data, job, slurm, message },
      jobsDirectory,
    });
  });
}

/** Puts the records of jobs that Slurm holds on a site's queue, before its worker watches them. */
async function hold(
  site: TestSite,
  records: (event: AnyEvent) => Buffer[],
): Promise<{ channel: ConfirmChannel; queue: string; count: number }> {
  const worker = await site.startWorker();
  const first = await publish(site);
  const submitted = await site.event("job.submitted", first);
  await site.event("job.completed", first);
  await worker.stop();
  const queue = `${site.prefix}.default.jobs`;
  const channel = await broker.createConfirmChannel();
  const held = records(submitted);
  for (const record of held) channel.sendToQueue(queue, record, { persistent: true });
  await channel.waitForConfirms();
  return { channel, queue, count: held.length };
}

async function newJobsEnd(site: TestSite): Promise<void> {
  const ids = await Promise.all(Array.from({ length: 20 }, () => publish(site)));
  await Promise.all(ids.map((id) => site.event("job.completed", id, 150_000)));
  expect(site.events.filter(({ type }) => type.includes("lost"))).toEqual([]);
}

async function noneIsGone({ channel, queue, count }: Awaited<ReturnType<typeof hold>>): Promise<void> {
  let left = 0;
  await eventually(
    () => `none of the others' records is gone; there are ${left}`,
    async () => {
      left = (await channel.checkQueue(queue)).messageCount;
      return left >= count || undefined;
    },
  );
}

it("jobs that Slurm holds, more than a worker watches at once, keep no new job's end from being announced", async () => {
  const site = newSite();
  const held = await hold(site, (event) => Array.from({ length: ARRAYS }, () => heldArray(event)).flat());
  const worker = await site.startWorker();
  await eventually(
    "the worker holds as many as it may",
    async () => (await held.channel.checkQueue(held.queue)).messageCount <= TASKS || undefined,
  );
  await newJobsEnd(site);
  await worker.stop();
  await noneIsGone(held);
}, 400_000);

it("jobs whose messages are large do not fill a worker's memory, and keep no new job's end from being announced, also after an alarm of the broker's", async () => {
  const site = newSite();
  // As objects they would take ten times as much as their text.
  const parameters = {
    odd: new Array(9_900).fill(new WrittenNumber(`1.${"0".repeat(60)}`)) as WrittenNumber[],
  };
  const held = await hold(site, (event) => heldArray(event, 300, parameters));
  const worker = await site.startWorker({ env: { NODE_OPTIONS: "--max-old-space-size=200" } });
  await newJobsEnd(site);
  expect((await held.channel.checkQueue(held.queue)).messageCount).toBeGreaterThan(0);
  const from = worker.log.length;
  await own.rabbitmqctl("set_vm_memory_high_watermark", "0.0001");
  // Longer than an answer of the broker's is waited for.
  await sleep(70_000);
  await own.rabbitmqctl("set_vm_memory_high_watermark", "0.4");
  await newJobsEnd(site);
  expect(worker.log.slice(from)).not.toMatch(/"msg":"ready"/);
  expect(await worker.stop()).toBe(0);
  await noneIsGone(held);
}, 400_000);
