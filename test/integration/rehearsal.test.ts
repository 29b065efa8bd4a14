import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, inject, it } from "vitest";
import { connectBroker, publishDataReady, type BrokerClient } from "../../src/broker/client.ts";
import { stringify } from "yaml";
import { hearEvents } from "../support/hear-events.ts";
import { mento, tryMento } from "../support/mento.ts";
import { askSlurm } from "../support/servers.ts";
import { eventually, TestWorker, type AnyEvent } from "../support/site.ts";

/**
 * One beamtime from its pre-start to the next one, on a facility of its own, with one worker that is never restarted.
 * The tests are the steps, in order.
 */
interface Facility {
  slurm: { conf: string; partition: string; nodes: { name: string; features: string[] }[] };
  ssh: { address: string; port: number; knownHosts: string };
  roots: { gpfs: string; beamline: string; core: string };
}
interface Started {
  id: string;
  account: string;
  corePath: string;
  metadataFile: string;
  reservations: { name: string; partition: string; nodes: string[] }[];
}

const ID = "11020000";
const NEXT = "11020001";
const dir = mkdtempSync(join(tmpdir(), "mento-rehearsal-"));
const DEDICATED = ["--resources", "dedicated", "--nodes", "1:2", "--feature", "AP:AC"];

let facility: Facility;
let client: BrokerClient;
let worker: TestWorker;
let preStarted: Started;
let started: Started;
const events: AnyEvent[] = [];

const inFacility = async (command: string, ...args: string[]) =>
  (await mento("facility", command, "--dir", dir, ...args)).stdout;
const start = async (id: string, ...args: string[]) => {
  const names = ["--beamtimeId", id, "--beamline", "p11", "--json"];
  return JSON.parse(await inFacility("start-beamtime", ...names, ...args)) as Started;
};
const slurm = (program: string, ...args: string[]) => askSlurm(facility, program, ...args);

const setPartition = (name: string, state: "UP" | "DOWN") =>
  slurm("scontrol", "update", `PartitionName=${name}`, `State=${state}`);

/** A file that was written a while ago. */
function write(path: string, content = "data"): string {
  writeFileSync(path, content);
  const before = Date.now() / 1000 - 60;
  utimesSync(path, before, before);
  return path;
}

async function publish(path: string, more: object = {}) {
  return (await publishDataReady(client, { path, bytes: 4, ...more })).id;
}

const eventsOf = (id: string) => events.filter(({ data }) => data.cause.id === id);
const event = (type: string, id: string, milliseconds = 60_000) =>
  eventually(
    `${type} of ${id}; the worker's log:\n${worker.log.slice(-3000)}`,
    () => eventsOf(id).find((one) => one.type === `mento.${type}.v1`),
    milliseconds,
  );
const typesOf = (id: string) => eventsOf(id).map(({ type }) => type.replace(/^mento\.|\.v1$/g, ""));
const nodesOf = (of: Started) => of.reservations.flatMap(({ nodes }) => nodes);

beforeAll(async () => {
  chmodSync(dir, 0o755);
  facility = JSON.parse(await inFacility("up", "--no-broker", "--json")) as Facility;
  const broker = { url: inject("facility").broker.url, prefix: "rehearsal" };
  const { address, port, knownHosts } = facility.ssh;
  const hosts = Object.fromEntries(facility.slurm.nodes.map(({ name }) => [name, { address, port }]));
  const cat = ["/bin/cat", "{{ path }}"];
  const config = {
    broker,
    worker: { reconcileSeconds: 2 },
    site: facility.roots,
    ssh: { acceptNewHostKeys: true, hosts },
    triggers: [
      { name: "any", on: { detector: "any" }, run: cat, slurm: { time: 5 } },
      { name: "first", on: { detector: "first" }, run: cat, slurm: { time: 5, reservation: 0 } },
      { name: "gpu", on: { detector: "gpu" }, run: cat, slurm: { time: 5, constraint: "gpu" } },
    ],
  };
  expect(knownHosts).not.toBe("");
  const file = join(dir, "mento.yaml");
  writeFileSync(file, stringify(config));
  mkdirSync(join(dir, "run"), { mode: 0o700 });
  worker = new TestWorker(file, { env: { XDG_RUNTIME_DIR: join(dir, "run") } });
  await worker.ready();
  client = await connectBroker(broker);
  await hearEvents(client, events);
});

afterAll(async () => {
  await client.close();
  await worker.stop();
  await tryMento(["facility", "down", "--dir", dir]);
  rmSync(dir, { recursive: true, force: true });
});

let early = "";
it("before anything is open, a message waits", async () => {
  early = await publish(join(facility.roots.gpfs, "current/raw/early.dat"), { detector: "any" });
  expect((await event("message.deferred", early)).data.error).toMatchObject({ code: "no-session-open" });
});

it("pre-start: jobs run on the shared node, for messages that name the beamtime", async () => {
  preStarted = await start(ID, "--pre-start", ...DEDICATED);
  expect(readdirSync(facility.roots.gpfs)).not.toContain("current");
  const path = write(join(preStarted.corePath, "raw/first.dat"));
  // Somebody else has made the folder of the job directories: Mento makes what is missing in it.
  mkdirSync(join(preStarted.corePath, "scratch_cc/mento"));
  chmodSync(join(preStarted.corePath, "scratch_cc/mento"), 0o777);
  const id = await publish(path, { detector: "any", beamtimeId: ID });
  const { data } = await event("job.completed", id);
  expect(readFileSync(join(data.job.directory, "job.log"), "utf8")).toBe("data");
  expect(data.slurm).toMatchObject({
    reservation: preStarted.reservations[0]?.name,
    nodes: nodesOf(preStarted),
  });
  expect(typesOf(early)).toEqual(["message.deferred"]);
});

let left = "";
it("a job still waits for its node when the beamtime is started", async () => {
  setPartition(facility.slurm.partition, "DOWN");
  left = await publish(write(join(preStarted.corePath, "raw/left.dat")), { detector: "any", beamtimeId: ID });
  const { data } = await event("job.submitted", left);
  expect(data.slurm.reservation).toBe(preStarted.reservations[0]?.name);
});

it("start: reservation and nodes have other names, and jobs follow", async () => {
  started = await start(ID, ...DEDICATED);
  expect(started.account).toBe(preStarted.account);
  const names = started.reservations.map(({ name }) => name);
  expect(names).toEqual([ID, `${ID}_1`]);
  expect(names).not.toContain(preStarted.reservations[0]?.name);
  write(join(facility.roots.gpfs, "current/raw/early.dat"));
  const { data } = await event("job.completed", early);
  expect(names).toContain(data.slurm.reservation);
  expect(nodesOf(started)).toEqual(expect.arrayContaining(data.slurm.nodes));
  expect(data.session.id).toBe(ID);
  expect(typesOf(early).slice(-3)).toEqual(["job.submitted", "job.started", "job.completed"]);
});

it("a job that needs a feature runs in the reservation that has it", async () => {
  const path = write(join(facility.roots.gpfs, "current/raw/gpu.dat"));
  const { data } = await event("job.completed", await publish(path, { detector: "gpu" }));
  expect(data.slurm.reservation).toBe(`${ID}_1`);
  expect(started.reservations[1]?.nodes).toEqual(expect.arrayContaining(data.slurm.nodes));
  const other = write(join(facility.roots.gpfs, "current/raw/other.dat"));
  const first = await event("job.completed", await publish(other, { detector: "first" }));
  expect(first.data.slurm).toMatchObject({ reservation: ID, nodes: started.reservations[0]?.nodes });
});

let run: Started;
it("a commissioning run beside it gets its own data, and what could be either's is rejected", async () => {
  const names = ["--tag", "rehearse", "--beamline", "p11", "--online", "--resources", "dedicated", "--json"];
  run = JSON.parse(await inFacility("start-commissioning", ...names)) as Started;
  const path = write(join(facility.roots.gpfs, "commissioning/raw/a.dat"));
  const { data } = await event("job.completed", await publish(path, { detector: "any" }));
  expect(data.session).toMatchObject({ id: run.id, corePath: run.corePath, beamline: "p11" });
  expect(data.slurm.reservation).toBe(run.reservations[0]?.name);
  const unclear = await event("message.rejected", await publish("/elsewhere/a.dat", { detector: "any" }));
  expect(unclear.data.error?.code).toBe("session-unclear");
  expect(unclear.data.error?.message).toContain(`${ID} and ${run.id}`);
});

it("the metadata file is replaced by garbage: the last facts hold, with one warning; and back", async () => {
  const file = join(facility.roots.gpfs, "current", `beamtime-metadata-${ID}.json`);
  const good = readFileSync(file);
  writeFileSync(file, "Something{ wrong");
  for (const name of ["g1.dat", "g2.dat"]) {
    const path = write(join(facility.roots.gpfs, "current/raw", name));
    await event("job.completed", await publish(path, { detector: "any" }));
  }
  const warnings = worker.log
    .split("\n")
    .filter((line) => line.includes("The facts read before go on being used"));
  expect(warnings).toHaveLength(1);
  writeFileSync(`${file}.new`, good);
  renameSync(`${file}.new`, file);
  const path = write(join(facility.roots.gpfs, "current/raw/g3.dat"));
  await event("job.completed", await publish(path, { detector: "any" }));
});

let delayed = "";
it("the copy to core is 20 s late: the message waits for its data, and others pass", async () => {
  await inFacility("up", "--sync-delay", "20");
  delayed = await publish(write(join(facility.roots.gpfs, "current/raw/late.dat")), { detector: "any" });
  expect((await event("message.deferred", delayed)).data.error).toMatchObject({ code: "data-not-there" });
  const path = write(join(started.corePath, "raw/there.dat"));
  await event("job.completed", await publish(path, { detector: "any" }));
  expect(typesOf(delayed)).toEqual(["message.deferred"]);
});

it("a reservation is deleted under pending jobs: they run in the other, as the same jobs", async () => {
  const [first, second] = started.reservations;
  setPartition(first?.partition ?? "", "DOWN");
  const id = await publish(write(join(started.corePath, "raw/held.dat")), { detector: "any" });
  const before = await event("job.submitted", id);
  const gone = before.data.slurm.reservation ?? "";
  slurm("scontrol", "update", `ReservationName=${gone}`, "EndTime=now+3seconds");
  const moved = await eventually("submitted again", () =>
    eventsOf(id).find((one) => one.id.endsWith(`/${one.data.slurm.jobId}`)),
  );
  setPartition(first?.partition ?? "", "UP");
  // Slurm looks at jobs that its partition did not let run once a minute only.
  const { data } = await event("job.completed", id, 150_000);
  expect(data.job.id).toBe(before.data.job.id);
  expect([first?.name, second?.name].filter((name) => name !== gone)).toEqual([data.slurm.reservation]);
  expect(moved.data.error?.code).toBe("reservation-deleted");
  expect(typesOf(id)).toEqual(["job.submitted", "job.submitted", "job.started", "job.completed"]);
}, 240_000);

it("the job that waited at the start was held with the old reservation, and has followed into a new one", async () => {
  const { data } = await event("job.completed", left);
  expect(data.slurm.reservation).not.toBe(preStarted.reservations[0]?.name);
  expect(data.slurm.partition).toBe(started.reservations[0]?.partition);
  expect(typesOf(left)).toEqual(["job.submitted", "job.submitted", "job.started", "job.completed"]);
  setPartition(facility.slurm.partition, "UP");
});

it("the data that was late has arrived meanwhile, and its job has run", async () => {
  const { data } = await event("job.completed", delayed, 90_000);
  const received = Date.parse(data.times.received ?? "");
  expect(Date.parse(data.times.submitted ?? "") - received).toBeGreaterThan(10_000);
  await inFacility("up", "--sync-delay", "0");
});

let waiting = "";
it("stop: messages wait, and one for the beamtime that is over is rejected", async () => {
  await inFacility("stop-commissioning", "--beamline", "p11");
  await inFacility("stop-beamtime", "--beamtimeId", ID, "--beamline", "p11");
  waiting = await publish(join(facility.roots.gpfs, "current/raw/next.dat"), { detector: "any" });
  expect((await event("message.deferred", waiting)).data.error).toMatchObject({ code: "no-session-open" });
  const old = await publish(write(join(started.corePath, "raw/over.dat")), {
    detector: "any",
    beamtimeId: ID,
  });
  expect((await event("message.rejected", old)).data.error).toMatchObject({ code: "beamtime-ended" });
});

it("the next beamtime takes the messages that waited, and one by an unknown id is rejected", async () => {
  const next = await start(NEXT, "--online");
  write(join(facility.roots.gpfs, "current/raw/next.dat"));
  const { data } = await event("job.completed", waiting);
  expect(data.session.id).toBe(NEXT);
  expect(data.slurm).toMatchObject({ reservation: NEXT, nodes: next.reservations[0]?.nodes });
  const unknown = await publish("/gpfs/current/raw/a.dat", { detector: "any", beamtimeId: "99999999" });
  expect((await event("message.rejected", unknown)).data.error).toMatchObject({ code: "unknown-beamtime" });
});

it("all of it was one worker, which stops when asked and leaves no key behind", async () => {
  expect(worker.process.exitCode).toBeNull();
  expect(await worker.stop()).toBe(0);
  const left = readdirSync(join(dir, "run/mento"));
  expect(left).not.toContain(`process-${worker.process.pid ?? 0}`);
});
