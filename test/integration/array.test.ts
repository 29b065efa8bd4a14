import { randomUUID } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { OwnFacility } from "../support/own-facility.ts";
import { mento } from "../support/mento.ts";
import { askSlurm } from "../support/servers.ts";
import { eventually, TestSite, writeOnCore, type AnyEvent, type TestWorker } from "../support/site.ts";

/** Leaves a line for each run, and fails if it is asked to, or if its sleep is ended before itself. */
const PROGRAM = 'echo ran >> "$1/ran"; echo "I am $2"; sleep "$4" || exit; exit "$3"';
const run = ["/bin/sh", "-c", PROGRAM, "sh", "{{ results }}", "{{ message.id }}", "{{ parameters.exit }}"];
const trigger = (name: string, array: object) => ({
  ...{ name, array, on: { technique: name }, results: ["ran"] },
  run: [...run, "{{ parameters.nap }}"],
});

let own: OwnFacility;
let site: TestSite;
/** A line for each `sbatch` on a node. */
let calls: string;

beforeAll(async () => {
  own = await OwnFacility.start();
  mkdirSync(join(own.facility.dir, "bin"), { recursive: true });
  calls = join(own.facility.dir, "bin", "calls");
});
afterAll(() => own.tearDown());

beforeEach(() => {
  writeFileSync(calls, "");
  chmodSync(calls, 0o666);
  sbatchDoes('exec REAL "$@"');
  const triggers = [
    trigger("many", { size: 100, window: 2, limit: 8 }),
    trigger("few", { size: 10, window: 2 }),
    trigger("capped", { size: 10, window: 2, limit: 1 }),
    trigger("slow", { size: 10, window: 60 }),
  ];
  site = new TestSite(triggers, { worker: { maxPending: 1000, concurrency: 4, reconcileSeconds: 2 } }, own);
});
afterEach(() => site.tearDown());

/** What `sbatch` is on the nodes; `REAL` is the real one. */
function sbatchDoes(script: string): void {
  const file = join(own.facility.dir, "bin", "sbatch");
  writeFileSync(file, `#!/bin/sh\necho "$*" >> ${calls}\n${script.replaceAll("REAL", "/usr/bin/sbatch")}\n`);
  chmodSync(file, 0o755);
}
const sbatchCalls = () => readFileSync(calls, "utf8").split("\n").filter(Boolean);

const slurm = (program: string, ...args: string[]) => askSlurm(own.facility, program, ...args);

interface Wish {
  technique: string;
  id?: string;
  path?: string;
  exit?: number;
  nap?: number;
}

async function publish({ technique, id = randomUUID(), path, exit = 0, nap = 0 }: Wish): Promise<string> {
  const data = path === undefined ? { path: writeOnCore("data\n", own), bytes: 5 } : { path };
  const message = { ...data, technique, parameters: { exit, nap } };
  await publishDataReady(await site.client(), message, { id, source: "/test" });
  return id;
}

const publishAll = (count: number, requirements: Wish) =>
  Promise.all(Array.from({ length: count }, () => publish(requirements)));

/** The end of a message's job, which has run once, as its own directory and results say, and Slurm. */
async function endOf(id: string, type = "job.completed"): Promise<AnyEvent> {
  const end = await site.event(type, id, 100_000);
  const { data } = end;
  const events = site.jobEventsOf(id);
  expect(new Set(events.map((one) => one.id)).size).toBe(3);
  expect(new Set(events.map((one) => one.data.slurm.jobId)).size).toBe(1);
  expect(readFileSync(join(data.job.directory, "job.log"), "utf8")).toBe(`I am ${id}\n`);
  expect(data.results).toHaveLength(1);
  expect(readFileSync(data.results[0]?.path ?? "", "utf8")).toBe("ran\n");
  return end;
}

/** Tasks and jobs that Slurm has had since. */
const tasks = () =>
  slurm("squeue", "--array", "--noheader", "--states=all", "--format=%i %k")
    .split("\n")
    .filter((line) => line.includes("mento:"));

async function kill(worker: TestWorker): Promise<void> {
  worker.process.kill("SIGKILL");
  await worker.ended;
}

it("300 messages through two workers become a few arrays, each message one job; one that fails, fails alone", async () => {
  const before = tasks().length;
  await site.startWorker();
  await site.startWorker();
  const ids = await publishAll(299, { technique: "many" });
  const bad = await publish({ technique: "many", exit: 7 });
  const { data } = await endOf(bad, "job.failed");
  expect(data.exit).toEqual({ code: 7, signal: null, reason: "exit-code" });
  const ends = await Promise.all(ids.map((id) => endOf(id)));
  expect(new Set([data, ...ends.map((end) => end.data)].map(({ slurm: { jobId } }) => jobId)).size).toBe(300);
  expect(tasks().length - before).toBe(300);
  expect(data.slurm.jobId).toMatch(/^\d+_\d+$/);
  expect(sbatchCalls().length).toBeLessThanOrEqual(20);
  expect(site.events.filter(({ type }) => /rejected|deferred|lost/.test(type))).toEqual([]);
}, 200_000);

describe("a worker killed", () => {
  it("while it collects: its messages are delivered again, and none is lost", async () => {
    const first = await site.startWorker();
    const ids = await publishAll(6, { technique: "slow" });
    await eventually("all are taken", () => site.isQuiet());
    await kill(first);
    expect(sbatchCalls()).toEqual([]);
    const second = await site.startWorker();
    ids.push(...(await publishAll(4, { technique: "slow" })));
    await Promise.all(ids.map((id) => endOf(id)));
    expect(sbatchCalls()).toHaveLength(1);
    await second.stop();
  });

  it.each([
    ["right before sbatch", 'touch CALLS.reached; sleep 2; exec REAL "$@"'],
    ["right after it", 'REAL "$@" || exit; touch CALLS.reached; sleep 2'],
  ])("%s: the call goes on, and the next worker finds each job", async (_, script) => {
    rmSync(`${calls}.reached`, { force: true });
    writeFileSync(`${calls}.reached`, "");
    chmodSync(join(own.facility.dir, "bin"), 0o777);
    rmSync(`${calls}.reached`);
    sbatchDoes(script.replace("CALLS", calls));
    const before = tasks().length;
    const first = await site.startWorker();
    const ids = await publishAll(5, { technique: "few" });
    await eventually("sbatch is reached", () => existsSync(`${calls}.reached`) || undefined);
    await kill(first);
    await site.startWorker();
    await Promise.all(ids.map((id) => endOf(id)));
    expect(tasks().length - before).toBe(5);
    expect(sbatchCalls()).toHaveLength(1);
  });

  it("while the array runs: the next one sees each end", async () => {
    const first = await site.startWorker();
    const ids = await publishAll(5, { technique: "few", nap: 4 });
    await site.event("job.started", ids[0] ?? "");
    await kill(first);
    await site.startWorker();
    await Promise.all(ids.map((id) => endOf(id)));
    expect(sbatchCalls()).toHaveLength(1);
  });
});

it("a worker that stops submits at once what has come together", async () => {
  const first = await site.startWorker();
  const ids = await publishAll(3, { technique: "slow" });
  await eventually("all are taken", () => site.isQuiet());
  await sleep(500);
  expect(await first.stop()).toBe(0);
  expect(sbatchCalls()).toHaveLength(1);
  await site.startWorker();
  await Promise.all(ids.map((id) => endOf(id)));
});

it("a message published twice is one job, in one array or in two", async () => {
  const before = tasks().length;
  await site.startWorker();
  const path = writeOnCore("data\n", own);
  const id = await publish({ technique: "few", path });
  await publish({ technique: "few", path, id });
  const others = await publishAll(2, { technique: "few" });
  await Promise.all([id, ...others].map((one) => endOf(one)));
  await publish({ technique: "few", path, id });
  const last = await publishAll(2, { technique: "few" });
  await Promise.all([id, ...last].map((one) => endOf(one)));
  expect(tasks().length - before).toBe(5);
});

it("a message whose data is not there yet, or that lacks a value, does not hold up the others", async () => {
  await site.startWorker();
  const late = join(own.beamtime.corePath, "raw", `late_${randomUUID()}.dat`);
  const waiting = await publish({ technique: "few", path: late });
  const client = await site.client();
  const message = { path: writeOnCore("data\n", own), technique: "few" };
  const { id: lacking } = await publishDataReady(client, message);
  const ids = await publishAll(3, { technique: "few" });
  await Promise.all(ids.map((id) => endOf(id)));
  expect((await site.event("message.deferred", waiting)).data.error?.code).toBe("data-not-there");
  expect((await site.event("message.rejected", lacking)).data.error?.code).toBe("template-value-missing");
  writeFileSync(late, "late\n");
  await endOf(waiting);
});

it("fresh data of unknown size is looked at twice, and still comes together", async () => {
  await site.startWorker();
  const raw = join(own.beamtime.corePath, "raw");
  const ids = await Promise.all(
    Array.from({ length: 5 }, () => {
      const path = join(raw, `fresh_${randomUUID()}.dat`);
      writeFileSync(path, "fresh\n");
      return publish({ technique: "few", path });
    }),
  );
  await Promise.all(ids.map((id) => endOf(id)));
  expect(sbatchCalls().length).toBeLessThan(4);
});

it("a task that a person cancels while it runs is cancelled alone", async () => {
  await site.startWorker();
  const ids = await publishAll(3, { technique: "few", nap: 6 });
  const [first = "", ...others] = ids;
  const { data } = await site.event("job.started", first);
  slurm("scancel", data.slurm.jobId);
  const end = await site.event("job.cancelled", first);
  expect(end.data.slurm.jobId).toBe(data.slurm.jobId);
  await Promise.all(others.map((id) => endOf(id)));
});

it("what Slurm refuses is said of each message, and nothing is left of it", async () => {
  sbatchDoes('echo "sbatch: error: Batch job submission failed: Invalid feature specification" >&2; exit 1');
  await site.startWorker();
  const ids = await publishAll(3, { technique: "few" });
  const ends = await Promise.all(ids.map((id) => site.event("message.rejected", id)));
  expect(ends.map(({ data }) => data.error?.code)).toEqual(ids.map(() => "submit-refused"));
  expect(sbatchCalls()).toHaveLength(1);
});

it("one of its jobs can be cancelled, whether it waits or runs, and the others are not", async () => {
  await site.startWorker();
  const ids = await publishAll(4, { technique: "capped", nap: 15 });
  const jobs = await Promise.all(ids.map(async (id) => (await site.event("job.submitted", id)).data));
  const states = () =>
    new Map(
      slurm("squeue", "--array", "--noheader", "--format=%i %T")
        .split("\n")
        .map((line) => line.split(" "))
        .map(([id = "", state = ""]) => [id, state]),
    );
  const inState = (state: string) => jobs.filter(({ slurm: { jobId } }) => states().get(jobId) === state);
  const running = await eventually("one of the array runs", () => inState("RUNNING")[0]);
  const [waiting] = inState("PENDING");
  const chosen = [running, waiting].map((one) => one?.job.id ?? "");
  expect(await mento("cancel", "-c", site.configFile, ...chosen)).toMatchObject({
    stdout: expect.stringContaining("cancelled") as string,
  });
  const ends = await Promise.all(
    ids.map((id, at) =>
      site.event(chosen.includes(jobs[at]?.job.id ?? "") ? "job.cancelled" : "job.completed", id, 60_000),
    ),
  );
  expect(ends.filter(({ data }) => data.cancelledBy != null)).toHaveLength(2);
});
