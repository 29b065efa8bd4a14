import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { CancelOutcome } from "../../src/messages/job-cancel.ts";
import { jobIdFor } from "../../src/triggers/plan.ts";
import { mento, tryMento } from "../support/mento.ts";
import { OwnFacility } from "../support/own-facility.ts";
import { askSlurm, there } from "../support/servers.ts";
import { eventually, TestSite, writeOnCore, type AnyEvent, type TestWorker } from "../support/site.ts";

let own: OwnFacility;
let site: TestSite;
let worker: TestWorker;

const TRIGGERS = [
  { name: "sleep", run: ["/bin/sleep", "300"] },
  { name: "retried", run: ["/bin/sleep", "300"], retries: 1 },
  { name: "wide", run: ["/bin/true"], slurm: { nodes: 4, cpusPerTask: 8 } },
  // The script is killed with it: nothing records its end.
  { name: "silent", run: ["/bin/sh", "-c", "sleep 2; kill -KILL $PPID; kill -KILL $$"] },
  { name: "here", run: ["/bin/sleep", "300"], method: "local-bash-script" },
].map((trigger) => ({ on: { technique: trigger.name }, ...trigger }));
const localJobs = mkdtempSync(join(tmpdir(), "mento-local-jobs-"));

beforeAll(async () => {
  own = await OwnFacility.start({ broker: "own" });
  site = new TestSite(TRIGGERS, { worker: { reconcileSeconds: 1 }, site: { localJobs } }, own);
  worker = await site.startWorker();
});
afterAll(async () => {
  await site.tearDown();
  await own.tearDown();
  rmSync(localJobs, { recursive: true, force: true });
});

async function publish(technique: string, id = randomUUID()): Promise<string> {
  const message = { path: writeOnCore("data\n", own), technique };
  return (await publishDataReady(await site.client(), message, { id, source: "/test" })).id;
}
const idOf = (id: string, trigger: string) => jobIdFor({ source: "/test", id }, "default", trigger);
const directoryOf = (job: string) => join(own.beamtime.corePath, "scratch_cc/mento", job);

const slurm = (program: string, ...args: string[]) => askSlurm(own.facility, program, ...args);
const stateOf = (job: string) =>
  slurm("squeue", "--noheader", "--states=all", `--jobs=${job}`, "--format=%T").trim();

/** Puts a program in front of the real one on every node; `REAL` in it is the real one. */
function standIn(program: string, script: string): void {
  const file = join(own.facility.dir, "bin", program);
  writeFileSync(file, `#!/bin/sh\n${script.replaceAll("REAL", `/usr/bin/${program}`)}\n`);
  chmodSync(file, 0o755);
}
afterEach(() => {
  const bin = join(own.facility.dir, "bin");
  for (const name of readdirSync(bin)) rmSync(join(bin, name));
});

/** Slurm's controller has forgotten these jobs. */
const hide = (...jobs: string[]) =>
  standIn("squeue", `REAL "$@" | grep -v -F ${jobs.map((one) => `-e ${one}`).join(" ")} || :`);

async function cancel(...args: string[]) {
  const { code, stdout } = await tryMento(["cancel", "-c", site.configFile, "--json", ...args]);
  const lines = stdout.split("\n").filter((line) => line !== "");
  const [outcome] = lines.map((line) => CancelOutcome.parse(JSON.parse(line)));
  return { code, outcome };
}

async function endsCancelled(id: string, reason: string | null): Promise<AnyEvent> {
  const end = await site.event("job.cancelled", id);
  expect(end.data.cancelledBy).toMatchObject({ reason });
  const ends = site.jobEventsOf(id).filter(({ type }) => /completed|failed|cancelled|lost/.test(type));
  expect(new Set(ends.map((one) => one.id)).size).toBe(1);
  return end;
}

describe("while slurmctld", () => {
  it.each(["hangs", "is down"])("%s nothing is cancelled, and the command says so", async (how) => {
    const id = await publish("sleep");
    const { data } = await site.event("job.started", id);
    const controller = own.pidOf("slurmctld");
    process.kill(controller, how === "hangs" ? "SIGSTOP" : "SIGTERM");
    const { code, outcome } = await cancel(data.job.id);
    if (how === "hangs") process.kill(controller, "SIGCONT");
    else await own.startMissing();
    expect({ code, outcome }).toMatchObject({
      code: 3,
      outcome: { outcome: "failed", error: { code: "slurm-unavailable" } },
    });
    await eventually("Slurm is back", () => {
      try {
        return stateOf(data.slurm.jobId) === "RUNNING" || undefined;
      } catch {
        return undefined;
      }
    });
    expect((await cancel(data.job.id, "--reason", how)).outcome).toMatchObject({ outcome: "cancelled" });
    await endsCancelled(id, how);
  });
});

describe("an account whose squeue takes its time", () => {
  it("holds up no answer about a job that is not its own, nor the command's end", async () => {
    const id = await publish("here");
    const { data } = await site.event("job.started", id);
    standIn("squeue", "sleep 100");
    const before = Date.now();
    expect(await cancel(data.job.id)).toMatchObject({ code: 0, outcome: { outcome: "cancelled" } });
    // What is not answered within 20 s, `timeout` ends.
    expect(Date.now() - before).toBeLessThan(15_000);
    await endsCancelled(id, null);
  });
});

describe("while RabbitMQ takes no messages", () => {
  it("a job of the open beamtime is cancelled all the same, without its history", async () => {
    const id = await publish("sleep");
    const { data } = await site.event("job.started", id);
    await own.rabbitmqctl("set_vm_memory_high_watermark", "0.0001");
    try {
      expect(await cancel(data.job.id)).toMatchObject({ code: 0, outcome: { outcome: "cancelled" } });
      expect(await cancel("nosuchjob")).toMatchObject({
        code: 3,
        outcome: { outcome: "failed", error: { code: "publish-unconfirmed" } },
      });
      const status = await tryMento(["status", "-c", site.configFile]);
      expect([status.code, status.stdout]).toEqual([
        1,
        expect.stringMatching(
          /▲ Nothing is taken at the moment\.[^]*RabbitMQ blocks whoever publishes \(low on/,
        ),
      ]);
      const doctor = await tryMento(["doctor", "-c", site.configFile, "--json"]);
      expect([doctor.code, doctor.stdout]).toEqual([
        1,
        expect.stringMatching(
          /"check":"broker","state":"failed",.*"message":"RabbitMQ at \S+ takes no messages \(low on/,
        ),
      ]);
    } finally {
      await own.rabbitmqctl("set_vm_memory_high_watermark", "0.4");
    }
    await endsCancelled(id, null);
  });
});

describe("scancel", () => {
  it("refuses: the job lives, and its words are told", async () => {
    const id = await publish("sleep");
    const { data } = await site.event("job.started", id);
    standIn("scancel", `echo "scancel: error: Kill job error: Access/permission denied" >&2; exit 1`);
    const { code, outcome } = await cancel(data.job.id);
    expect(code).toBe(1);
    expect(outcome).toMatchObject({ outcome: "failed", error: { code: "cancel-refused" } });
    expect(outcome?.error?.message).toContain("Access/permission denied");
    expect(stateOf(data.slurm.jobId)).toBe("RUNNING");
    rmSync(join(own.facility.dir, "bin", "scancel"));
    await cancel(data.job.id);
    await endsCancelled(id, null);
  });
});

describe("a job that is just being submitted", () => {
  it("is cancelled as soon as Slurm has it", async () => {
    standIn("sbatch", `sleep 4; exec REAL "$@"`);
    const id = randomUUID();
    const job = idOf(id, "sleep");
    await publish("sleep", id);
    await eventually("its directory is there", () => existsSync(directoryOf(job)) || undefined);
    expect((await cancel(job, "--reason", "early")).outcome).toMatchObject({ outcome: "cancelled" });
    await site.event("job.submitted", id);
    await endsCancelled(id, "early");
  });

  it("by a worker that dies meanwhile is cancelled by the one that finds it", async () => {
    standIn("sbatch", `REAL "$@" > /dev/null; kill -KILL $PPID`);
    const id = randomUUID();
    const job = idOf(id, "sleep");
    await publish("sleep", id);
    await eventually("its directory is there", () => existsSync(directoryOf(job)) || undefined);
    await eventually("Slurm has it", () =>
      slurm("squeue", "--noheader", "--format=%k").includes(job) ? true : undefined,
    );
    expect((await cancel(job, "--reason", "cut off")).outcome).toMatchObject({ outcome: "cancelled" });
    rmSync(join(own.facility.dir, "bin", "sbatch"));
    await site.event("job.submitted", id, 200_000);
    await endsCancelled(id, "cut off");
  }, 300_000);
});

describe("a job that Slurm has forgotten", () => {
  it("has its end told by accounting; without accounting, by its events", async () => {
    const id = await publish("silent");
    const { data } = await site.event("job.failed", id);
    hide(data.job.id);
    standIn("sacct", `echo '${data.slurm.jobId}|FAILED|0:9|max-p11-001||${data.job.directory}'`);
    const told = { outcome: "gone", end: { state: "failed", signal: "SIGKILL" } };
    expect((await cancel(data.job.id)).outcome).toMatchObject(told);
    standIn("sacct", "exit 1");
    expect((await cancel(data.job.id)).outcome).toMatchObject({
      ...told,
      end: { ...told.end, at: data.times.ended },
    });
  });
});

describe("a job that is cancelled while its worker is away for so long that Slurm forgets it", () => {
  it("is announced as cancelled all the same, whether it ran or not, without accounting", async () => {
    const ran = await publish("sleep");
    const running = (await site.event("job.started", ran)).data;
    const waited = await publish("wide");
    const waiting = (await site.event("job.submitted", waited)).data;
    await worker.stop();
    // In this order: else the one that waits would run.
    await cancel(waiting.job.id, "--reason", "night");
    await cancel(running.job.id, "--reason", "night");
    hide(running.job.id, waiting.job.id);
    standIn("sacct", `echo "Slurm accounting storage is disabled" >&2; exit 1`);
    worker = await site.startWorker();
    for (const id of [ran, waited]) {
      const end = await site.event("job.cancelled", id, 150_000);
      expect(end.data.cancelledBy).toMatchObject({ reason: "night" });
    }
    expect((await cancel(waiting.job.id)).outcome).toMatchObject({
      outcome: "gone",
      end: { state: "cancelled" },
      cancelledBy: { reason: "night" },
    });
  }, 300_000);
});

describe("a job that would be retried because its node has failed", () => {
  it("is not, once it is cancelled; how it has ended is told", async () => {
    const id = await publish("retried");
    const { data } = await site.event("job.started", id);
    const [node = ""] = data.slurm.nodes;
    await worker.stop();
    slurm("scontrol", "update", `NodeName=${node}`, "State=DOWN", "Reason=test");
    await eventually("Slurm says so", () => stateOf(data.slurm.jobId) === "NODE_FAIL" || undefined);
    expect((await cancel(data.job.id, "--reason", "enough")).outcome).toMatchObject({
      outcome: "gone",
      end: { state: "failed", reason: "node-failure" },
    });
    worker = await site.startWorker();
    const end = await site.event("job.failed", id);
    expect(end.data).toMatchObject({ exit: { reason: "node-failure" }, cancelledBy: null });
    const ours = slurm("squeue", "--noheader", "--states=all", "--format=%k").split("\n");
    expect(ours.filter((one) => one.includes(data.job.id))).toHaveLength(1);
    const env = { ...process.env, SLURM_CONF: own.facility.slurm.conf };
    // Refused if it has come back by itself.
    spawnSync(...there("scontrol", ["update", `NodeName=${node}`, "State=RESUME"]), { env });
  });
});

describe("while no beamtime is open", () => {
  it("a job's end is told from its events, and an id that is none is unknown", async () => {
    const id = await publish("silent");
    const { data } = await site.event("job.failed", id);
    const { beamtimeId, beamline } = own.beamtime;
    const which = ["--beamtimeId", beamtimeId, "--beamline", beamline];
    await mento("facility", "stop-beamtime", "--dir", own.facility.dir, ...which);
    expect(await cancel(data.slurm.jobId)).toMatchObject({
      code: 0,
      outcome: { id: data.job.id, outcome: "gone", end: { state: "failed" } },
    });
    expect(await cancel("nosuchjob")).toMatchObject({ code: 1, outcome: { outcome: "unknown" } });
  });
});
