import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { jobIdFor } from "../../src/triggers/plan.ts";
import { askSlurm } from "../support/servers.ts";
import { beamtime, eventually, facility, TestSite, writeOnCore, type TestWorker } from "../support/site.ts";

/** The beamline's view of the beamtime for this file alone: it breaks the metadata. */
function ownGpfs(): string {
  const gpfs = mkdtempSync(join(tmpdir(), "mento-gpfs-"));
  mkdirSync(join(gpfs, "current/shared"), { recursive: true });
  for (const file of [`beamtime-metadata-${beamtime.beamtimeId}.json`, "shared/id_rsa"]) {
    copyFileSync(join(facility.roots.gpfs, "current", file), join(gpfs, "current", file));
  }
  return gpfs;
}

const gpfs = ownGpfs();
/** Its connections are told by it from those of other workers at the same broker. */
const GROUP = "resilience";
const site = new TestSite(
  [
    { name: "quick", on: { technique: "quick" }, run: ["/bin/true"] },
    { name: "nap", on: { technique: "nap" }, run: ["/bin/sleep", "4"] },
  ],
  { site: { gpfs }, worker: { group: GROUP, readyFile: join(gpfs, "ready") } },
);
let worker: TestWorker;

beforeAll(async () => {
  worker = await site.startWorker();
});
afterAll(async () => {
  await site.tearDown();
  rmSync(gpfs, { recursive: true });
});

async function publish(technique: string, id = `id-${Math.random()}`) {
  const message = { path: writeOnCore(), technique };
  await publishDataReady(await site.client(), message, { id, source: "/test" });
  return id;
}

/** RabbitMQ's management, as an operator uses it. */
async function management(method: string, path: string): Promise<unknown> {
  const { managementUrl, user, password } = facility.broker;
  const authorization = `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;
  const response = await fetch(`${managementUrl}/api${path}`, { method, headers: { authorization } });
  return method === "GET" ? response.json() : undefined;
}

const slurm = (program: string, ...args: string[]) => askSlurm(facility, program, ...args);

function endsOf(id: string) {
  return site.eventsOf(id).filter(({ type }) => /job\.(completed|failed|cancelled)/.test(type));
}

describe("a worker", () => {
  it("goes on after the operator has closed all its connections, and its jobs end once", async () => {
    const id = await publish("nap");
    await site.event("job.started", id);
    const mine = await eventually("connections", async () => {
      const all = (await management("GET", "/connections")) as {
        name: string;
        client_properties: { connection_name?: string };
      }[];
      const fitting = all.filter((one) =>
        one.client_properties.connection_name?.startsWith(`mento worker ${GROUP} `),
      );
      return fitting.length >= 2 ? fitting : undefined;
    });
    for (const { name } of mine) await management("DELETE", `/connections/${encodeURIComponent(name)}`);
    const { data } = await site.event("job.completed", id);
    expect(data.exit?.code).toBe(0);
    await site.event("job.completed", await publish("quick"));
    expect(worker.process.exitCode).toBeNull();
    expect(new Set(endsOf(id).map((event) => event.id)).size).toBe(1);
  });

  it("killed at work leaves its jobs and messages to another", async () => {
    const dying = await site.startWorker();
    await worker.stop();
    const id = await publish("nap");
    await site.event("job.started", id);
    dying.process.kill("SIGKILL");
    const unhandled = await publish("quick");
    worker = await site.startWorker();
    await site.event("job.completed", id);
    await site.event("job.completed", unhandled);
    expect(new Set(site.eventsOf(id).map(({ data }) => data.slurm.jobId)).size).toBe(1);
  });

  it("stops on SIGTERM with exit 0 while its job runs on", async () => {
    const id = await publish("nap");
    await site.event("job.submitted", id);
    expect(existsSync(join(gpfs, "ready"))).toBe(true);
    expect(await worker.stop()).toBe(0);
    expect(existsSync(join(gpfs, "ready"))).toBe(false);
    worker = await site.startWorker();
    await site.event("job.completed", id);
  });
});

describe("the metadata file", () => {
  const file = join(gpfs, "current", `beamtime-metadata-${beamtime.beamtimeId}.json`);

  it("half written leaves the last good facts standing, with a warning", async () => {
    const good = readFileSync(file, "utf8");
    writeFileSync(file, good.slice(0, 100));
    await site.event("job.completed", await publish("quick"));
    writeFileSync(file, good);
    expect(worker.log).toContain("The facts read before go on being used");
  });

  it("gone at the beamline: a message without an id waits, and runs when it is back", async () => {
    renameSync(file, `${file}.away`);
    const path = join(gpfs, "current/raw", basename(writeOnCore()));
    const { id } = await publishDataReady(await site.client(), { path, technique: "quick" });
    const deferred = await site.event("message.deferred", id);
    expect(deferred.data.error?.code).toBe("no-session-open");
    renameSync(`${file}.away`, file);
    await site.event("job.completed", id);
  });
});

describe("a submit that was cut off", () => {
  const longAgo = new Date(Date.now() - 3600_000);
  const jobs = join(beamtime.corePath, "scratch_cc/mento");
  const makeCutOff = (id: string) => {
    const directory = join(jobs, jobIdFor({ source: "/test", id }, GROUP, "quick"));
    mkdirSync(directory, { recursive: true, mode: 0o777 });
    const { uid, gid } = statSync(dirname(directory));
    execFileSync("chown", [`${uid}:${gid}`, directory]);
    return directory;
  };

  const jobsWithMarker = (jobId: string) =>
    slurm("squeue", "--noheader", "--states=all", "--format=%k")
      .split("\n")
      .filter((comment) => comment.trim() === `mento:${jobId}`);

  it("before sbatch is submitted again, once, however many find it", async () => {
    const id = `cut-off-${Date.now()}`;
    const path = writeOnCore();
    const directory = makeCutOff(id);
    utimesSync(directory, longAgo, longAgo);
    const client = await site.client();
    const again = () => publishDataReady(client, { path, technique: "quick" }, { id, source: "/test" });
    await Promise.all(Array.from({ length: 6 }, again));
    const { data } = await site.event("job.completed", id);
    expect(jobsWithMarker(data.job.id)).toHaveLength(1);
  });

  it("after sbatch is adopted by its marker: one job", async () => {
    const id = `adopted-${Date.now()}`;
    const message = { path: writeOnCore(), technique: "quick" };
    const again = async () => publishDataReady(await site.client(), message, { id, source: "/test" });
    await again();
    const { data } = await site.event("job.completed", id);
    rmSync(join(data.job.directory, "submitted"));
    utimesSync(join(data.job.directory, "run.sh"), longAgo, longAgo);
    const before = site.events.length;
    await again();
    await eventually("announced again", () =>
      site.events
        .slice(before)
        .find(({ type, data: one }) => type.includes("submitted") && one.cause.id === id),
    );
    expect(readFileSync(join(data.job.directory, "submitted"), "utf8")).toContain(data.slurm.jobId);
    expect(jobsWithMarker(data.job.id)).toHaveLength(1);
  });

  it("a moment ago is left to the call that is doing it, and the message waits", async () => {
    const id = `in-flight-${Date.now()}`;
    const directory = makeCutOff(id);
    await publish("quick", id);
    const deferred = await site.event("message.deferred", id);
    expect(deferred.data.error?.code).toBe("submit-in-flight");
    utimesSync(directory, longAgo, longAgo);
    await site.event("job.completed", id);
  });
});

it("a job that a person cancels by hand is announced as cancelled", async () => {
  const id = await publish("nap");
  const { data } = await site.event("job.started", id);
  slurm("scancel", data.slurm.jobId);
  const end = await site.event("job.cancelled", id);
  expect(end.data).toMatchObject({ job: { state: "cancelled" }, exit: { reason: null }, error: null });
});
