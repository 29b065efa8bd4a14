import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { Trigger, TriggerMethod } from "../../src/library/trigger.ts";
import { OwnFacility } from "../support/own-facility.ts";
import { askSlurm } from "../support/servers.ts";
import { tokenCommand } from "../support/submit-host.ts";
import { eventually, TestSite, writeOnCore } from "../support/site.ts";

/** In a reservation of its own; the one with an A100. */
const GPU_NODE = "max-p11-003";
const BUSY_NODE = "max-p11-004";

let own: OwnFacility;
let site: TestSite;
/** Hands on to slurmrestd, and counts. */
let counter: Server;
const asked: string[] = [];

const slurm = (program: string, ...args: string[]) => askSlurm(own.facility, program, ...args);
const shown = (slurmJobId: string) => slurm("scontrol", "--oneliner", "show", "job", slurmJobId);

async function startCounter(): Promise<string> {
  counter = createServer((request, response) => {
    asked.push(`${request.method ?? ""} ${request.url ?? ""}`);
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const { method = "GET", url = "", headers } = request;
      const kept = ["x-slurm-user-name", "x-slurm-user-token", "content-type"];
      const sent = Object.entries(headers).filter(([name]) => kept.includes(name)) as [string, string][];
      fetch(own.facility.slurm.restUrl + url, {
        ...{ method, headers: sent },
        ...(chunks.length > 0 && { body: Buffer.concat(chunks) }),
      })
        .then(async (answer) => response.writeHead(answer.status).end(await answer.text()))
        .catch(() => request.socket.destroy());
    });
  });
  await new Promise<void>((resolve) => counter.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(counter.address() as AddressInfo).port}`;
}

beforeAll(async () => {
  own = await OwnFacility.start();
  const { account, partition, reservation, corePath } = own.beamtime;
  slurm("scontrol", "update", `ReservationName=${reservation}`, "Nodes=max-p11-[001-002]");
  slurm(
    "scontrol",
    ...["create", "reservation", `ReservationName=${reservation}_1`, "StartTime=now", "Duration=1:00:00"],
    ...[`Nodes=${GPU_NODE}`, `PartitionName=${partition}`, `Users=${account}`],
  );
  const script = join(corePath, "shared", "own.sbatch");
  writeFileSync(script, "#!/bin/sh\n#SBATCH --time=5\ntrue\n");
  chmodSync(script, 0o755);
  const triggers = [
    { name: "quick", slurm: { time: 5 } },
    { name: "gpu", slurm: { constraint: "A100", time: 20 } },
    { name: "long", slurm: { time: "30-00:00:00", fallback: "fail" } },
    { name: "fitted", slurm: { time: "30-00:00:00", timeMin: 10, constraint: "A100" } },
    { name: "elsewhere", slurm: { reservation: 99, fallback: { partition: own.facility.slurm.partition } } },
    { name: "last", slurm: { tasks: 2, cpusPerTask: 2, memory: "1G", exclusive: true }, priority: -3 },
    { name: "own", run: [script] },
    { name: "held", slurm: { reservation: 2, time: 5 } },
  ].map((trigger) => ({
    ...{ on: { technique: trigger.name }, method: "slurm-rest-api", run: ["/bin/true"] },
    ...trigger,
  }));
  const slurmRest = {
    url: await startCounter(),
    tokenCommand: tokenCommand(own.facility, account, 3000),
  };
  site = new TestSite(triggers, { worker: { reconcileSeconds: 1 }, slurmRest }, own);
  await site.startWorker();
});
afterAll(async () => {
  await site.tearDown();
  counter.close();
  await own.tearDown();
});

const trigger = (): Trigger => new Trigger(TriggerMethod.SLURM_REST_API, { config: site.configFile });

async function publish(technique: string): Promise<string> {
  const { id } = await publishDataReady(await site.client(), { path: writeOnCore("data\n", own), technique });
  return id;
}

it("runs in the reservation that has what the job asks for", async () => {
  const { data } = await site.event("job.completed", await publish("gpu"));
  expect(data.slurm).toMatchObject({ reservation: `${own.beamtime.reservation}_1`, nodes: [GPU_NODE] });
});

it("is not submitted where no reservation lasts so long, and says for each why", async () => {
  const id = await publish("long");
  const { data } = await site.event("message.rejected", id);
  expect(data.error?.code).toBe("no-reservation-fits");
  expect(data.error?.message).toMatch(/11010099 ends in \d+ h.*11010099_1 ends in \d+ min/);
  expect(slurm("squeue", "--noheader", "--states=all", "--format=%j")).not.toContain("long");
});

it("has its time fitted into what is left of the reservation", async () => {
  const { data } = await site.event("job.submitted", await publish("fitted"));
  expect(data.slurm.reservation).toBe(`${own.beamtime.reservation}_1`);
  expect(shown(data.slurm.jobId)).toMatch(/TimeLimit=00:5\d:00 /);
});

it("runs in the partition that the trigger names where no reservation fits, and says so", async () => {
  const { data } = await site.event("job.submitted", await publish("elsewhere"));
  expect(data.slurm).toMatchObject({ reservation: null, partition: own.facility.slurm.partition });
  expect(data.error?.code).toBe("no-reservation-fits");
});

it("waits while the token is of another account than the session's, and nothing is submitted", async () => {
  const on = { technique: "others" };
  const slurmRest = {
    url: own.facility.slurm.restUrl,
    tokenCommand: tokenCommand(own.facility, "nobody", 3000),
  };
  const others = new TestSite(
    [{ name: "others", on, method: "slurm-rest-api", run: ["/bin/true"] }],
    { slurmRest },
    own,
  );
  try {
    await others.startWorker();
    const { id } = await publishDataReady(await others.client(), { path: writeOnCore("data\n", own), ...on });
    const { data } = await others.event("message.deferred", id);
    expect(data.error).toMatchObject({ code: "slurm-rest-token" });
    expect(data.error?.message).toBe(
      `The token for Slurm's REST server is of nobody, and the session's account is ${own.beamtime.account}.`,
    );
    expect(slurm("squeue", "--noheader", "--states=all", "--format=%j")).not.toContain("others");
  } finally {
    await others.tearDown();
  }
});

it("is told what sbatch would be", async () => {
  const { data } = await site.event("job.submitted", await publish("last"));
  const job = shown(data.slurm.jobId);
  for (const one of ["Nice=3000 ", "NumTasks=2 ", "CPUs/Task=2 ", "MinMemoryNode=1G ", "OverSubscribe=NO "]) {
    expect(job).toContain(one);
  }
});

it("refuses a program that is an sbatch script, whose lines nobody would read", async () => {
  const { data } = await site.event("message.rejected", await publish("own"));
  expect(data.error).toMatchObject({ code: "submit-refused" });
  expect(data.error?.message).toContain("#SBATCH");
});

it("from the library has its log where it was asked for, waits for its dependency, and fits its default time", async () => {
  const library = trigger();
  const first = await library.run(["/bin/sleep", "3"]);
  const log = join(own.beamtime.corePath, "processed", "a folder", "said.log");
  const second = await library.run(["/bin/echo", "ran"], {
    ...{ jobDependency: `afterok:${first.slurmJobId ?? ""}`, logFile: log },
  });
  const job = shown(second.slurmJobId ?? "");
  expect(job).toContain(`Dependency=afterok:${first.slurmJobId ?? ""}`);
  expect(job).not.toContain("TimeLimit=1-00:00:00 ");
  expect((await second.ended()).state).toBe("completed");
  expect(readFileSync(log, "utf8")).toBe("ran\n");
  expect(readFileSync(join(second.directory, "job.log"), "utf8")).toBe("ran\n");
  await library.close();
});

it("whose reservation is gone before it ran has failed, and Slurm does not keep it", async () => {
  const { account, partition, reservation } = own.beamtime;
  const name = `${reservation}_2`;
  const occupant = ["--parsable", "--exclusive", `--nodelist=${BUSY_NODE}`, `--partition=${partition}`];
  const busy = slurm("sbatch", ...occupant, "--output=/dev/null", "--wrap=sleep 600").trim();
  await eventually("the node is busy", () => (shown(busy).includes("JobState=RUNNING") ? true : undefined));
  slurm(
    "scontrol",
    ...["create", "reservation", `ReservationName=${name}`, "StartTime=now", "Duration=1:00:00"],
    ...[`Nodes=${BUSY_NODE}`, `PartitionName=${partition}`, `Users=${account}`, "Flags=IGNORE_JOBS"],
  );
  const id = await publish("held");
  const { data: before } = await site.event("job.submitted", id);
  expect(before.slurm.reservation).toBe(name);
  slurm("scontrol", "update", `ReservationName=${name}`, "EndTime=now+3seconds");
  const { data } = await site.event("job.failed", id);
  expect(data.error).toMatchObject({ code: "reservation-deleted" });
  expect(data.slurm.jobId).toBe(before.slurm.jobId);
  expect(shown(before.slurm.jobId)).toContain("JobState=CANCELLED");
  slurm("scancel", busy);
}, 120_000);

it("while slurmrestd is away asks for it every three seconds, and then runs each message's job once", async () => {
  const messages = 20;
  const restd = own.pidOf("slurmrestd");
  process.kill(restd, "SIGTERM");
  await eventually("slurmrestd has ended", () => (existsSync(`/proc/${restd}`) ? undefined : true));
  const from = asked.length;
  const since = Date.now();
  const ids = await Promise.all(Array.from({ length: messages }, () => publish("quick")));
  for (const id of ids) {
    const { data } = await site.event("message.deferred", id);
    expect(data.error?.code).toBe("slurm-unavailable");
  }
  await sleep(10_000);
  const seconds = (Date.now() - since) / 1000;
  const looks = asked.slice(from);
  const perKind = looks.filter((one) => one.endsWith("/reservations")).length;
  console.error(`${messages} messages, ${seconds} s without slurmrestd: ${looks.length} requests`);
  expect(perKind).toBeLessThanOrEqual(seconds / 3 + 2);
  expect(looks.length).toBeLessThanOrEqual(3 * (seconds / 3 + 2));
  await own.startMissing();
  for (const id of ids) await site.completesOnce(id);
}, 200_000);
