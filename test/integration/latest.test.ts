import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { Ledger } from "../support/ledger.ts";
import { beamtime, eventually, facility, TestSite, writeOnCore } from "../support/site.ts";

let site: TestSite | undefined;
afterEach(() => site?.tearDown());

const ledgerFile = () => join(beamtime.corePath, "scratch_cc", `ledger-${randomUUID().slice(0, 8)}`);

async function open(triggers: object[]): Promise<TestSite> {
  const folder = join(facility.dir, `jobs-${randomUUID().slice(0, 8)}`);
  site = new TestSite(triggers, { site: { localJobs: folder } });
  await site.startWorker();
  return site;
}

/** Publishes one after the other, the last one later than all others by its time. */
async function publish(one: TestSite, count: number, everyMs = 0, more: object = {}): Promise<string[]> {
  const client = await one.client();
  const path = writeOnCore();
  const ids: string[] = [];
  for (let number = 0; number < count; number++) {
    await sleep(Math.max(2, everyMs));
    ids.push((await publishDataReady(client, { path, ...more })).id);
  }
  return ids;
}

const superseded = (one: TestSite, trigger: string) =>
  one.events.filter(
    ({ type, data }) =>
      type === "mento.message.ignored.v1" &&
      data.reasons.some((reason) => reason.trigger === trigger && reason.reason.startsWith("superseded by ")),
  );

/** Each message has either run, once, and its job completed, or was announced as superseded. */
async function allAreDoneWith(one: TestSite, ids: readonly string[], trigger: string, ledger: Ledger) {
  const last = ids.at(-1) ?? "";
  await eventually("the newest has run", () => (ledger.ended.includes(last) ? true : undefined), 90_000);
  await eventually(
    "each has completed or was superseded",
    () => {
      const done = new Set([
        ...superseded(one, trigger).map(({ data }) => data.cause.id),
        ...one.events
          .filter(({ type, data }) => type === "mento.job.completed.v1" && data.job.trigger === trigger)
          .map(({ data }) => data.cause.id),
      ]);
      return ids.every((id) => done.has(id)) ? true : undefined;
    },
    90_000,
  );
  const { begun } = ledger;
  const passed = new Set(superseded(one, trigger).map(({ data }) => data.cause.id));
  expect(new Set(begun).size, "none ran twice").toBe(begun.length);
  expect(
    begun.filter((id) => passed.has(id)),
    "none was superseded and ran",
  ).toEqual([]);
  expect(begun.length + passed.size).toBe(ids.length);
  expect(begun.at(-1)).toBe(last);
  // None ran after a newer one.
  expect(begun).toEqual([...begun].sort((first, second) => ids.indexOf(first) - ids.indexOf(second)));
  expect(ledger.most).toBe(1);
  const events = new Map<string, Set<string>>();
  for (const { id, data } of superseded(one, trigger)) {
    events.set(data.cause.id, (events.get(data.cause.id) ?? new Set()).add(id));
  }
  for (const derived of events.values()) expect(derived.size).toBe(1);
  return { ran: begun.length, superseded: passed.size };
}

describe("a trigger that shows the latest", () => {
  it("runs few of a burst on this host, and the last one; the others are announced as superseded", async () => {
    const ledger = new Ledger(ledgerFile());
    const show = { name: "show", method: "local-bash-script", latest: true, run: ledger.program(1) };
    const one = await open([show]);
    const ids = await publish(one, 200);
    const tally = await allAreDoneWith(one, ids, "show", ledger);
    console.log(`of 200, ${tally.ran} ran`);
    expect(tally.ran).toBeLessThan(20);
  });

  it("does so in Slurm, at 10 a second, while other triggers of the messages run for each", async () => {
    const ledger = new Ledger(ledgerFile());
    const one = await open([
      { name: "show", latest: true, run: ledger.program(2) },
      { name: "each", run: ["/bin/true"] },
    ]);
    const ids = await publish(one, 40, 100);
    const tally = await allAreDoneWith(one, ids, "show", ledger);
    console.log(`of 40 at 10 a second, ${tally.ran} ran`);
    const completed = await eventually("the other trigger has run for each", () => {
      const done = one.events.filter(
        ({ type, data }) => type === "mento.job.completed.v1" && data.job.trigger === "each",
      );
      const causes = new Set(done.map(({ data }) => data.cause.id));
      return ids.every((id) => causes.has(id)) ? causes : undefined;
    });
    expect(completed.size).toBe(40);
  });

  it("goes on in another worker when the one that has its queue is killed", async () => {
    const ledger = new Ledger(ledgerFile());
    const one = await open([{ name: "show", latest: true, run: ledger.program(1) }]);
    const [first] = one.workers;
    await one.startWorker();
    const publishing = publish(one, 60, 100);
    await eventually("some have run", () => (ledger.begun.length >= 2 ? true : undefined));
    first?.process.kill("SIGKILL");
    const ids = await publishing;
    const tally = await allAreDoneWith(one, ids, "show", ledger);
    console.log(`of 60 with a worker killed, ${tally.ran} ran`);
  });

  it("shows the latest of each key", async () => {
    const ledger = new Ledger(ledgerFile());
    const one = await open([
      {
        name: "show",
        latest: true,
        key: "{{ detector }}",
        run: ledger.program(1),
        method: "local-bash-script",
      },
    ]);
    const [eiger, lambda] = await Promise.all([
      publish(one, 20, 0, { detector: "eiger" }),
      publish(one, 20, 0, { detector: "lambda" }),
    ]);
    for (const ids of [eiger, lambda]) {
      await eventually("its newest has run", () =>
        ledger.ended.includes(ids.at(-1) ?? "") ? true : undefined,
      );
    }
    expect(ledger.most).toBe(2);
  });

  it("does not show a message whose data came late after a newer one", async () => {
    const ledger = new Ledger(ledgerFile());
    const one = await open([{ name: "show", latest: true, run: ledger.program(0) }]);
    const client = await one.client();
    const late = await publishDataReady(client, {
      path: join(beamtime.corePath, "raw", `${randomUUID()}.dat`),
    });
    await one.event("message.deferred", late.id);
    const [newer = ""] = await publish(one, 1);
    await one.event("job.completed", newer);
    writeOnCore("data\n", undefined, (late.data as { path: string }).path);
    const { data } = await one.event("message.ignored", late.id);
    expect(data.reasons).toEqual([{ trigger: "show", reason: `superseded by message ${newer}` }]);
    expect(ledger.begun).toEqual([newer]);
  });
});
