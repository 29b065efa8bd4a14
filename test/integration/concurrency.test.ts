import { randomUUID } from "node:crypto";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { Ledger } from "../support/ledger.ts";
import { askSlurm } from "../support/servers.ts";
import { beamtime, eventually, facility, TestSite, writeOnCore } from "../support/site.ts";

let site: TestSite | undefined;
afterEach(() => site?.tearDown());

const newLedger = () =>
  new Ledger(join(beamtime.corePath, "scratch_cc", `ledger-${randomUUID().slice(0, 8)}`));
const when = (technique: string) => ({ technique });

async function open(triggers: object[], worker: object = {}): Promise<TestSite> {
  site = new TestSite(triggers, { worker });
  await site.startWorker();
  return site;
}

/** One after the other: their order is that of their times. */
async function publish(one: TestSite, count: number, technique = "t"): Promise<string[]> {
  const client = await one.client();
  const path = writeOnCore();
  const ids: string[] = [];
  for (let number = 0; number < count; number++) {
    ids.push((await publishDataReady(client, { path, technique })).id);
    await sleep(2);
  }
  return ids;
}

const completed = (one: TestSite, trigger: string) =>
  new Set(
    one.events
      .filter(({ type, data }) => type === "mento.job.completed.v1" && data.job.trigger === trigger)
      .map(({ data }) => data.cause.id),
  );

const allHaveRun = (one: TestSite, ids: readonly string[], trigger: string) =>
  eventually(
    "all have run",
    () => {
      const done = completed(one, trigger);
      return ids.every((id) => done.has(id)) ? true : undefined;
    },
    100_000,
  );

/** Counts, as long as `work` takes, the unfinished jobs of a name in Slurm that have not recorded their end. */
async function mostInSlurm(name: string, work: Promise<unknown>): Promise<number> {
  const over = new AbortController();
  void work.finally(() => over.abort()).catch(() => undefined);
  const options = ["--noheader", "--states=PENDING,RUNNING,CONFIGURING", `--name=${name}`, "--format=%A %Z"];
  let most = 0;
  while (!over.signal.aborted) {
    const jobs = askSlurm(facility, "squeue", ...options)
      .trim()
      .split("\n")
      .filter(Boolean);
    const unfinished = jobs.filter((line) => {
      const [id = "", folder = ""] = line.split(" ");
      return !readdirSync(folder).includes(`ended.${id}`);
    });
    most = Math.max(most, unfinished.length);
    await sleep(100);
  }
  return most;
}

/** How a queue stands, and how often something was published to it. */
async function queueOf(one: TestSite, name: string): Promise<{ messages: number; published: number }> {
  const { managementUrl, user, password } = facility.broker;
  const authorization = `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;
  const url = `${managementUrl}/api/queues/%2F/${one.prefix}.default.${name}`;
  const answer = (await (await fetch(url, { headers: { authorization } })).json()) as {
    messages?: number;
    message_stats?: { publish?: number };
  };
  return { messages: answer.messages ?? 0, published: answer.message_stats?.publish ?? 0 };
}

describe("a trigger with concurrency", () => {
  it("has no more unfinished jobs than it may, of all workers, one of which is killed; each message runs once", async () => {
    const ledger = newLedger();
    const name = `two-${randomUUID().slice(0, 8)}`;
    const one = await open([
      { name, concurrency: 2, run: ledger.program(1) },
      { name: "other", run: ["/bin/true"] },
    ]);
    await one.startWorker();
    const ids = await publish(one, 16);
    const work = (async () => {
      await allHaveRun(one, ids, "other");
      console.log(`the other trigger has run 16 times, this one ${ledger.ended.length} times`);
      expect(ledger.ended.length).toBeLessThan(16);
      await eventually("some have run", () => (ledger.ended.length >= 3 ? true : undefined));
      one.workers[0]?.process.kill("SIGKILL");
      await allHaveRun(one, ids, name);
    })();
    const most = await mostInSlurm(name, work);
    await work;
    console.log(`at most ${most} jobs in Slurm, ${ledger.most} programs`);
    expect(most).toBe(2);
    expect(ledger.most).toBe(2);
    expect([...ledger.begun].sort()).toEqual([...ids].sort());
    // Two run at once, and two workers take messages from the intake queue: neighbours may change places.
    const places = ledger.begun.map((id, place) => Math.abs(ids.indexOf(id) - place));
    console.log(`places from their order: ${places.join(" ")}`);
  });

  it("goes on when its jobs are killed without a word", async () => {
    const ledger = newLedger();
    const one = await open([{ name: "long", concurrency: 1, run: ledger.program(600) }]);
    const ids = await publish(one, 2);
    // Both are handled at the same time: which of them comes first is open.
    const first = await eventually("one of them runs", () =>
      one.events.find(({ type, data }) => type === "mento.job.started.v1" && ids.includes(data.cause.id)),
    );
    const second = ids.find((id) => id !== first.data.cause.id) ?? "";
    expect(one.jobEventsOf(second)).toEqual([]);
    const { jobId } = first.data.slurm;
    // A signal that comes before the node says that the job runs is dropped.
    await eventually("they are killed", () => {
      askSlurm(facility, "scancel", "--quiet", "--signal=KILL", "--full", jobId);
      const options = ["--noheader", "--states=all", `--jobs=${jobId}`, "--format=%T"];
      return askSlurm(facility, "squeue", ...options).trim() === "RUNNING" ? undefined : true;
    });
    // Slurm asks a node again that does not say that it is done, but only after a while.
    const next = await one.event("job.started", second, 110_000);
    expect(ledger.begun).toEqual([first.data.cause.id, second]);
    askSlurm(facility, "scancel", next.data.slurm.jobId);
    await eventually("it has ended", () =>
      one.jobEventsOf(second).find(({ type }) => /cancelled|failed/.test(type)),
    );
  });

  it("counts processes on this host just so", async () => {
    const ledger = newLedger();
    const folder = join(facility.dir, `jobs-${randomUUID().slice(0, 8)}`);
    site = new TestSite(
      [{ name: "here", concurrency: 2, method: "local-bash-script", run: ledger.program(1) }],
      {
        site: { localJobs: folder },
      },
    );
    await site.startWorker();
    await site.startWorker();
    const ids = await publish(site, 20);
    await allHaveRun(site, ids, "here");
    expect([...ledger.begun].sort()).toEqual([...ids].sort());
    expect(ledger.most).toBe(2);
  });

  it("keeps neither broker nor node busy with what waits, nor other messages of the session", async () => {
    const ledger = newLedger();
    const one = await open([
      { name: "slow", on: when("slow"), concurrency: 1, run: ledger.program(600) },
      { name: "quick", on: when("quick"), run: ["/bin/true"] },
    ]);
    const ids = await publish(one, 500, "slow");
    // Many are handled at the same time: which of them comes first is open.
    const first = await eventually("one of them runs", () =>
      one.events.find(({ type, data }) => type === "mento.job.started.v1" && ids.includes(data.cause.id)),
    );
    await eventually("all wait in the trigger's queue", async () =>
      (await queueOf(one, "trigger.slow")).messages >= 499 ? true : undefined,
    );
    const names = [
      "trigger.slow",
      "intake",
      "jobs",
      ...[1, 2, 5, 10, 30].map((seconds) => `wait.${seconds}`),
    ];
    const published = async () =>
      (await Promise.all(names.map((name) => queueOf(one, name)))).reduce(
        (sum, queue) => sum + queue.published,
        0,
      );
    await sleep(6_000);
    const before = await published();
    await sleep(20_000);
    expect(before).toBeGreaterThan(500);
    const during = (await published()) - before;
    console.log(`499 messages wait: ${during} publishes in 20 s`);
    expect(during).toBeLessThan(20);
    const since = Date.now();
    const [quick = ""] = await publish(one, 1, "quick");
    await one.event("job.completed", quick);
    console.log(`another message's job has completed after ${Date.now() - since} ms`);
    await one.workers[0]?.stop();
    askSlurm(facility, "scancel", first.data.slurm.jobId);
  });
});

describe("triggers that share what a session may have", () => {
  it("have their turns by priority", async () => {
    const ledger = newLedger();
    const concurrency = { perSession: 1 };
    const one = await open([
      { name: "low", on: when("low"), concurrency, priority: -1, run: ledger.program(1) },
      { name: "high", on: when("high"), concurrency, priority: 5, run: ledger.program(1) },
    ]);
    const low = await publish(one, 6, "low");
    await eventually("the first runs", () => (ledger.begun.length > 0 ? true : undefined));
    const high = await publish(one, 2, "high");
    await allHaveRun(one, low, "low");
    await allHaveRun(one, high, "high");
    expect(ledger.most).toBe(1);
    console.log(ledger.begun.map((id) => (high.includes(id) ? "high" : "low")).join(" "));
    // One of the low ones may just have got its permit.
    expect(Math.max(...high.map((id) => ledger.begun.indexOf(id)))).toBeLessThanOrEqual(3);
    const lowJob = one.events.find(
      ({ type, data }) => type.includes("submitted") && data.job.trigger === "low",
    );
    const nice = askSlurm(facility, "scontrol", "show", "job", lowJob?.data.slurm.jobId ?? "");
    expect(nice).toContain("Nice=1000 ");
  });
});
