import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { connect } from "amqplib";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { EventSource } from "../support/event-source.ts";
import { eventually } from "../support/eventually.ts";
import { fakeTime } from "../support/fake-time.ts";
import { MAIN } from "../support/mento.ts";
import { OwnFacility } from "../support/own-facility.ts";
import { askSlurm, nodeThere, there } from "../support/servers.ts";
import { publishDataReady } from "../../src/broker/client.ts";
import { placesOf } from "../../src/facility/state.ts";
import { TestSite, facility, writeOnCore } from "../support/site.ts";

const source = new EventSource(facility.broker.url);
const closing: (() => unknown)[] = [];

beforeAll(() => source.declare());
afterAll(() => source.close());
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

const newName = () => randomUUID().slice(0, 8);
const ago = (seconds: number) => new Date(Date.now() - seconds * 1000);

/** `mento watch`, with what it has printed. */
function watch(config: string, args: string[], env: NodeJS.ProcessEnv) {
  const command = there(nodeThere(), [MAIN, "watch", "-c", config, "--json", ...args]);
  const child = spawn(...command, { stdio: "pipe", env: { ...process.env, ...env } });
  const seen = { stdout: "", stderr: "" };
  child.stdout.on("data", (chunk: Buffer) => (seen.stdout += chunk.toString("utf8")));
  child.stderr.on("data", (chunk: Buffer) => (seen.stderr += chunk.toString("utf8")));
  closing.push(() => child.kill());
  return seen;
}
const isWatching = ({ stderr }: { stderr: string }) => stderr.includes("watching") || undefined;

it.each([
  ["10 min ahead", "+10m", 0],
  ["right, and the worker's 10 min behind", "+0", 600],
  ["10 min behind, and the worker's 10 min ahead", "-10m", -600],
])("watch --since shows what is new, though its host's clock is %s", async (_, offset, workerBehind) => {
  const site = new TestSite([], {}, undefined, source.prefix);
  closing.push(() => site.tearDown());
  const name = newName();
  const seen = watch(site.configFile, ["--since", "2m"], fakeTime(offset));
  await eventually("it watches", () => isWatching(seen));
  await source.announce(name, { time: ago(workerBehind) });
  await eventually(
    () => `${name} is shown: ${seen.stderr}`,
    () => seen.stdout.includes(name) || undefined,
  );
});

it("a job's times are its cluster's, in their order, though worker and viewer have other clocks", async () => {
  const site = new TestSite([{ name: "t", run: ["sleep", "2"] }]);
  closing.push(() => site.tearDown());
  const from = Date.now();
  await site.startWorker({ env: fakeTime("-10m") });
  const seen = watch(site.configFile, ["--since", "2m", "--type", "job.completed"], fakeTime("+10m"));
  await eventually("it watches", () => isWatching(seen));
  const { id } = await publishDataReady(await site.client(), { path: writeOnCore() });
  const { data, time } = await site.event("job.completed", id);
  const until = Date.now();
  await eventually("it is shown", () => seen.stdout.includes(data.job.id) || undefined);
  const [submitted, started, ended] = [data.times.submitted, data.times.started, data.times.ended].map(
    (one) => Date.parse(one ?? ""),
  ) as [number, number, number];
  expect(submitted).toBeGreaterThanOrEqual(from);
  expect(started).toBeGreaterThanOrEqual(submitted);
  expect(ended - started).toBeGreaterThanOrEqual(1900);
  expect(ended).toBeLessThanOrEqual(until);
  expect(Date.parse(time ?? "")).toBe(ended);
  // The worker's own.
  expect(Date.parse(data.times.received ?? "")).toBeLessThan(from);
});

it("jobs run and end, with times in their order, though broker, controller and nodes each have another time", async () => {
  const own = await OwnFacility.start({ broker: "own", nodes: 1 });
  closing.push(() => own.tearDown());
  await own.setClock("rabbitmq", "-10m");
  await eventually(
    "the broker takes clients",
    async () => {
      const broker = await connect(own.facility.broker.url).catch(() => undefined);
      await broker?.close();
      return broker && true;
    },
    100_000,
  );
  await own.setClock("slurmctld", "+10m");
  await own.setClock("slurmd-max-p11-001", "-10m");
  // What the account runs there, for the submit and in jobs, has the node's time.
  const home = join(placesOf(own.facility.dir).homes, own.beamtime.account);
  const exports = Object.entries(fakeTime("-10m")).map(([name, value]) => `export ${name}='${value ?? ""}'`);
  writeFileSync(join(home, ".bashrc"), exports.join("\n"));
  const on = (technique: string, ...program: string[]) => ({
    name: technique,
    on: { technique },
    run: program,
  });
  const site = new TestSite(
    [
      on("quick", "sh", "-c", 'sleep 1; date +%s > "$MENTO_RESULTS_DIR/now"'),
      // Slurm alone can say that it ended.
      on("killed", "sh", "-c", "sleep 1; kill -9 $PPID; sleep 60"),
      on("cancelled", "sleep", "300"),
    ],
    {},
    own,
  );
  closing.push(() => site.tearDown());
  await eventually("the controller has its node", () => {
    const state = askSlurm(own.facility, "sinfo", "-h", "-N", "-n", "max-p11-001", "-o", "%T");
    return state.trim() === "reserved" || undefined;
  });
  await site.startWorker();
  const seen = watch(site.configFile, ["--since", "2m"], fakeTime("+10m"));
  await eventually("it watches", () => isWatching(seen));
  const publish = async (technique: string) =>
    (await publishDataReady(await site.client(), { path: writeOnCore("x", own), technique })).id;
  const ids = [await publish("quick"), await publish("killed"), await publish("cancelled")];
  const [quick = "", killed = "", cancelled = ""] = ids;
  const { data } = await site.event("job.started", cancelled);
  askSlurm(own.facility, "scancel", data.slurm.jobId);
  const ends = [
    await site.event("job.completed", quick),
    await site.event("job.failed", killed, 60_000),
    await site.event("job.cancelled", cancelled, 60_000),
  ];
  const nodesTime = Number(readFileSync(ends[0]?.data.results[0]?.path ?? "", "utf8"));
  expect(Date.now() / 1000 - nodesTime).toBeGreaterThan(590);
  for (const { data, time } of ends) {
    const times = [data.times.submitted, data.times.started, data.times.ended].map((one) =>
      Date.parse(one ?? ""),
    );
    expect(times, JSON.stringify(data.times)).toEqual(times.toSorted((left, right) => left - right));
    expect(Date.parse(time ?? "")).toBe(times[2]);
    await eventually("it is shown", () => seen.stdout.includes(data.job.id) || undefined);
  }
}, 240_000);
