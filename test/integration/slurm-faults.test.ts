import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { OwnFacility } from "../support/own-facility.ts";
import { askSlurm, there } from "../support/servers.ts";
import { eventually, TestSite, writeOnCore, type AnyEvent, type TestWorker } from "../support/site.ts";

let own: OwnFacility;
let site: TestSite;
let worker: TestWorker;
/** Runs into its time limit of a minute meanwhile. */
let long: string;

const python = "/usr/bin/python3";
const TRIGGERS = [
  { name: "quick", run: ["/bin/true"] },
  { name: "nap", run: ["/bin/sleep", "4"] },
  { name: "sleep", run: ["/bin/sleep", "300"] },
  { name: "limited", run: ["/bin/sleep", "300"], slurm: { time: 1 } },
  {
    name: "memory",
    run: [python, "-c", "x = bytearray(300_000_000); import time; time.sleep(60)"],
    slurm: { memory: "50M" },
  },
  // The script is killed with it: nothing records its end.
  { name: "silent", run: ["/bin/sh", "-c", "kill -KILL $PPID; kill -KILL $$"] },
  { name: "wide", run: ["/bin/true"], slurm: { nodes: 4, cpusPerTask: 8 } },
  // Its second run ends by itself.
  {
    name: "again",
    run: ["/bin/sh", "-c", "[ ${SLURM_RESTART_COUNT:-0} = 0 ] && exec sleep 300 || exec sleep 1"],
  },
  // Only its first run does not end by itself.
  {
    name: "retried",
    run: [
      "/bin/sh",
      "-c",
      "echo run >> runs; [ $(wc -l < runs) -gt $0 ] || exec sleep 300",
      "{{ parameters.sleeps }}",
    ],
    retries: 1,
  },
].map((trigger) => ({ on: { technique: trigger.name }, ...trigger }));

beforeAll(async () => {
  own = await OwnFacility.start();
  site = new TestSite(TRIGGERS, { worker: { reconcileSeconds: 1 } }, own);
  worker = await site.startWorker();
  long = await publish("limited");
});
afterAll(async () => {
  await site.tearDown();
  await own.tearDown();
});

async function publish(technique: string, parameters: Record<string, number> = {}): Promise<string> {
  const message = { path: writeOnCore("data\n", own), technique, parameters };
  return (await publishDataReady(await site.client(), message, { id: randomUUID() })).id;
}

const slurmEnvironment = () => ({ ...process.env, SLURM_CONF: own.facility.slurm.conf });
const slurm = (program: string, ...args: string[]) => askSlurm(own.facility, program, ...args);

/** Puts a program in front of the real one on every node; `REAL` in it is the real one. */
function standIn(program: string, script: string): void {
  const file = join(own.facility.dir, "bin", program);
  writeFileSync(file, `#!/bin/sh\n${script.replaceAll("REAL", `/usr/bin/${program}`)}\n`);
  chmodSync(file, 0o755);
}
function withoutStandIns(): void {
  const bin = join(own.facility.dir, "bin");
  for (const name of readdirSync(bin)) rmSync(join(bin, name));
}

/** Brings a node back that was taken away. */
async function bringBack(node: string): Promise<void> {
  await eventually(`${node} is back`, () => {
    // Refused if it has come back by itself.
    const resume = ["update", `NodeName=${node}`, "State=RESUME"];
    spawnSync(...there("scontrol", resume), { env: slurmEnvironment() });
    return (
      /^(idle|mixed|allocated|reserved)/.test(
        slurm("sinfo", "--noheader", `--nodes=${node}`, "--format=%T"),
      ) || undefined
    );
  });
}

/** A folder that scripts of the account can write to. */
function scratch(): string {
  const folder = join(own.facility.dir, `scratch-${randomUUID().slice(0, 8)}`);
  mkdirSync(folder);
  chmodSync(folder, 0o777);
  return folder;
}

/** Each kind of end comes once at most, and no two different ones. */
async function endOf(id: string, type: string, milliseconds?: number): Promise<AnyEvent> {
  const end = await site.event(type, id, milliseconds);
  const ends = site.jobEventsOf(id).filter((one) => /completed|failed|cancelled|lost/.test(one.type));
  expect(new Set(ends.map((one) => one.id)).size).toBe(1);
  return end;
}

describe("sbatch", () => {
  afterEach(withoutStandIns);

  it('answers "Socket timed out on send/recv operation" though the job was accepted: exactly one job', async () => {
    standIn(
      "sbatch",
      `REAL "$@" > /dev/null
echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2
exit 1`,
    );
    const id = await publish("quick");
    await site.completesOnce(id);
    const started = site.jobEventsOf(id).find(({ type }) => type.includes("started"));
    expect(started?.data.slurm.jobId).toMatch(/^\d+$/);
  });

  it("dies before it has submitted: the job is submitted again after two looks, once", async () => {
    const folder = scratch();
    standIn("sbatch", `[ -f ${folder}/tried ] && exec REAL "$@"; : > ${folder}/tried; exit 1`);
    const id = await publish("quick");
    await site.completesOnce(id);
    expect(existsSync(join(folder, "tried"))).toBe(true);
  });
});

describe("a job id that has left squeue (MinJobAge)", () => {
  afterEach(withoutStandIns);

  const hide = (markers: string) => standIn("squeue", `REAL "$@" | { grep -v -F "${markers}" || true; }`);
  const recordedYearsAgo = (slurmJobId: string) =>
    `${slurmJobId}|COMPLETED|0:0|max-display001|mento:another|/home/somebody/2017`;

  it("is not taken for ended, nor by accounting's record of years ago with the same id", async () => {
    const id = await publish("nap");
    const { data } = await site.event("job.started", id);
    const asked = join(scratch(), "asked");
    standIn("sacct", `: > ${asked}; echo '${recordedYearsAgo(data.slurm.jobId)}'`);
    hide(data.job.id);
    await eventually("accounting is asked", () => existsSync(asked) || undefined);
    expect(site.jobEventsOf(id).map(({ type }) => type)).not.toContain("mento.job.completed.v1");
    const end = await endOf(id, "job.completed");
    expect(Date.parse(end.data.times.ended ?? "") - Date.parse(end.data.times.started ?? "")).toBeGreaterThan(
      3500,
    );
  });

  it("has its true end reported from accounting, where it left no record", async () => {
    const id = await publish("sleep");
    const { data } = await site.event("job.started", id);
    const { slurm: at, job } = data;
    standIn("sacct", `echo '${at.jobId}|FAILED|0:9|max-p11-001||${job.directory}'`);
    hide(job.id);
    const end = await endOf(id, "job.failed");
    expect(end.data.exit).toEqual({ code: 0, signal: "SIGKILL", reason: "signal" });
    slurm("scancel", at.jobId);
  });

  it.each([
    ["is off", `echo "Slurm accounting storage is disabled" >&2; exit 1`],
    ["is down", `echo "sacct: error: slurm_persist_conn_open_without_init: Connection refused" >&2; exit 1`],
    ["hangs", "exec sleep 100"],
  ])("has its end reported all the same while accounting %s", async (_, script) => {
    standIn("sacct", script);
    const id = await publish("nap");
    const { data } = await site.event("job.started", id);
    hide(data.job.id);
    expect((await endOf(id, "job.completed")).data.exit?.code).toBe(0);
    expect(worker.process.exitCode).toBeNull();
  });
});

describe.concurrent("a job that is ended by", () => {
  it("the memory limit says so", async () => {
    const { data } = await endOf(await publish("memory"), "job.failed");
    expect(data.exit?.reason).toBe("out-of-memory");
    expect(data.error?.message).toContain("more memory");
  });

  it("SIGKILL to its script, which records nothing, has Slurm's signal", async () => {
    const { data } = await endOf(await publish("silent"), "job.failed");
    expect(data.exit).toMatchObject({ signal: "SIGKILL", reason: "signal" });
  });

  it("scancel before it could start is cancelled", async () => {
    const busy = await publish("sleep");
    const running = (await site.event("job.started", busy)).data.slurm.jobId;
    const id = await publish("wide");
    const { data } = await site.event("job.submitted", id);
    slurm("scancel", data.slurm.jobId);
    const end = await endOf(id, "job.cancelled");
    expect(end.data.exit).toEqual({ code: 0, signal: null, reason: null });
    slurm("scancel", running);
  });
});

describe.concurrent("whoever meddles:", () => {
  it("a job that is requeued ends once, by its second run", async () => {
    const id = await publish("again");
    const { data } = await site.event("job.started", id);
    const job = data.slurm.jobId;
    slurm("scontrol", "update", `JobId=${job}`, "Requeue=1");
    slurm("scontrol", "requeue", job);
    // Slurm lets it wait for two minutes, unless it is told otherwise.
    let toldAt = 0;
    let said = "";
    const runsAgain = () => {
      if (Date.now() - toldAt > 5000) {
        toldAt = Date.now();
        const now = ["update", `JobId=${job}`, "StartTime=now"];
        spawnSync(...there("scontrol", now), { env: slurmEnvironment() });
      }
      said = slurm("scontrol", "--oneliner", "show", "job", job);
      return /JobState=(RUNNING|COMPLETED) .* Restarts=1 /.test(said) || undefined;
    };
    await eventually(() => `it runs again; Slurm says ${said}`, runsAgain, 180_000);
    const end = await endOf(id, "job.completed");
    expect(end.data.slurm.jobId).toBe(job);
    expect(Date.parse(end.data.times.started ?? "")).toBeGreaterThan(Date.parse(data.times.started ?? ""));
  }, 300_000);

  it("a job whose script a person submits again in its directory ends once, as itself", async () => {
    const id = await publish("nap");
    const { data } = await site.event("job.started", id);
    const { account, reservation, partition } = own.beamtime;
    const directory = data.job.directory;
    const places = [`--reservation=${reservation}`, `--partition=${partition}`];
    const byHand = ["sbatch", "--parsable", `--chdir=${directory}`, ...places, join(directory, "run.sh")];
    const second = slurm(
      "runuser",
      "-u",
      account,
      "--",
      "env",
      `SLURM_CONF=${own.facility.slurm.conf}`,
      ...byHand,
    );
    const end = await endOf(id, "job.completed");
    expect(end.data.slurm.jobId).toBe(data.slurm.jobId);
    await eventually(
      "the second has ended too",
      () => existsSync(join(directory, `ended.${second.trim()}`)) || undefined,
    );
    expect(readFileSync(join(directory, "submitted"), "utf8").trim()).toBe(data.slurm.jobId);
    expect(site.jobEventsOf(id).filter(({ type }) => type.includes("completed"))).toHaveLength(1);
  });
});

it("a job that runs into its time limit says so", async () => {
  const { data } = await endOf(long, "job.failed", 120_000);
  expect(data.exit?.reason).toBe("timeout");
});

it("a job that ends by the failure of its node says so", async () => {
  const id = await publish("sleep");
  const { data } = await site.event("job.started", id);
  const [node = ""] = data.slurm.nodes;
  slurm("scontrol", "update", `NodeName=${node}`, "State=DOWN", "Reason=test");
  const end = await endOf(id, "job.failed");
  await bringBack(node);
  expect(end.data.exit?.reason).toBe("node-failure");
});

describe("a trigger with retries", () => {
  const failNodeOf = async (id: string, slurmJobId: string | null) => {
    const started = await eventually(`another start of ${id}`, () =>
      site
        .jobEventsOf(id)
        .find(({ type, data }) => type === "mento.job.started.v1" && data.slurm.jobId !== slurmJobId),
    );
    const [node = ""] = started.data.slurm.nodes;
    slurm("scontrol", "update", `NodeName=${node}`, "State=DOWN", "Reason=test");
    return { node, slurmJobId: started.data.slurm.jobId };
  };

  it("has its job submitted again, as the same job, when the node fails", async () => {
    const id = await publish("retried", { sleeps: 1 });
    const first = await failNodeOf(id, null);
    const { data } = await endOf(id, "job.completed", 60_000);
    await bringBack(first.node);
    expect(data.slurm.jobId).not.toBe(first.slurmJobId);
    expect(readFileSync(join(data.job.directory, "runs"), "utf8")).toBe("run\nrun\n");
    const events = site.jobEventsOf(id);
    expect(events.map(({ type }) => type.split(".")[2])).toEqual([
      ...["submitted", "started", "submitted", "started", "completed"],
    ]);
    expect(new Set(events.map((one) => one.id)).size).toBe(5);
    expect(events[2]?.data.error).toMatchObject({ code: "node-failure" });
    expect(new Set(events.map((one) => one.data.job.id)).size).toBe(1);
  });

  it("has it fail when it has been submitted again so often", async () => {
    const id = await publish("retried", { sleeps: 9 });
    const first = await failNodeOf(id, null);
    const second = await failNodeOf(id, first.slurmJobId);
    const { data } = await endOf(id, "job.failed", 60_000);
    await bringBack(first.node);
    await bringBack(second.node);
    expect(data.exit?.reason).toBe("node-failure");
    // Its message comes once more: the job is found, and stays as it is.
    const again = site.events.length;
    const message = { path: data.paths[0] ?? "", technique: "retried", parameters: { sleeps: 9 } };
    await publishDataReady(await site.client(), message, { id });
    await eventually("it is announced again", () => site.events.length > again || undefined);
    const control = await publish("retried", { sleeps: 0 });
    await endOf(control, "job.completed", 60_000);
    expect(readFileSync(join(data.job.directory, "runs"), "utf8")).toBe("run\nrun\n");
  });
});

describe("a job that waited when the controller was killed, which has not written it down", () => {
  const saved = () => join(own.facility.dir, "slurm/ctld");
  const partition = (state: string) =>
    slurm("scontrol", "update", `PartitionName=${own.beamtime.partition}`, `State=${state}`);

  const submit = () =>
    Number(slurm("sbatch", "--parsable", "--chdir=/tmp", "--output=/dev/null", "--wrap=true"));

  afterEach(() => worker.process.kill("SIGCONT"));

  it.each(["itself", "another job"])("runs once, though %s has got its id", async (whose) => {
    const before = `${saved()}.before`;
    await site.event("job.started", long);
    partition("DOWN");
    cpSync(saved(), before, { recursive: true });
    submit();
    const id = await publish("retried", { sleeps: 0 });
    const lost = (await site.event("job.submitted", id)).data.slurm.jobId;
    process.kill(own.pidOf("slurmctld"), "SIGKILL");
    worker.process.kill("SIGSTOP");
    rmSync(saved(), { recursive: true });
    renameSync(before, saved());
    await own.startMissing();
    expect(slurm("squeue", "--noheader", "--states=all", "--format=%i").split("\n")).not.toContain(lost);
    partition("UP");
    // Slurm goes on counting where its state has it.
    const last = Number(lost) - (whose === "itself" ? 1 : 0);
    while (submit() < last);
    worker.process.kill("SIGCONT");
    const { data } = await endOf(id, "job.completed");
    expect(readFileSync(join(data.job.directory, "runs"), "utf8")).toBe("run\n");
    expect(data.slurm.jobId === lost).toBe(whose === "itself");
    // With the same id there is nothing to announce.
    const said = site.jobEventsOf(id).map(({ type, data: { error } }) => [type, error?.code]);
    const again = said.filter(([type, code]) => type === "mento.job.submitted.v1" && code === "slurm-forgot");
    expect(again).toHaveLength(whose === "itself" ? 0 : 1);
  });
});
