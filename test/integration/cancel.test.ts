import { randomUUID } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { hostname, tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { CancelAnswer, CancelOutcome, JOB_CANCEL_TYPE } from "../../src/messages/job-cancel.ts";
import { MessageEventData } from "../../src/messages/job-event.ts";
import { tryMento } from "../support/mento.ts";
import { slurmRestSection } from "../support/submit-host.ts";
import { askSlurm } from "../support/servers.ts";
import { beamtime, eventually, facility, TestSite, writeOnCore, type AnyEvent } from "../support/site.ts";

const ME = `${userInfo().username}@${hostname()}`;
// This host is a submit host too.
process.env["SLURM_CONF"] = facility.slurm.conf;
const localJobs = mkdtempSync(join(tmpdir(), "mento-local-jobs-"));
const slurmJobs = mkdtempSync(join(tmpdir(), "mento-slurm-jobs-"));
const STUBBORN = ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"];
const TRIGGERS = [
  { name: "sleep", run: ["/bin/sleep", "300"] },
  { name: "stubborn", run: STUBBORN },
  { name: "wide", run: ["/bin/true"], slurm: { nodes: 2, cpusPerTask: 8 } },
  { name: "quick", run: ["/bin/true"] },
  { name: "seven", run: ["/bin/sh", "-c", "exit 7"] },
  { name: "short", run: ["/bin/sleep", "1"] },
  { name: "on-node", run: ["/bin/sleep", "300"], method: "remote-command" },
  { name: "stubborn-on-node", run: STUBBORN, method: "remote-command" },
  {
    name: "from-here",
    run: ["/bin/sleep", "300"],
    method: "local-sbatch-script",
    // The reservation is for the beamtime's account alone.
    slurm: { reservation: 99, fallback: { partition: facility.slurm.partition } },
  },
  { name: "by-rest", run: ["/bin/sleep", "300"], method: "slurm-rest-api" },
  {
    name: "wide-by-rest",
    run: ["/bin/true"],
    method: "slurm-rest-api",
    slurm: { nodes: 2, cpusPerTask: 8 },
  },
  { name: "here", run: ["/bin/sleep", "300"], method: "local-bash-script" },
  { name: "seven-on-node", run: ["/bin/sh", "-c", "exit 7"], method: "remote-command" },
  { name: "quick-here", run: ["/bin/true"], method: "local-bash-script" },
].map((trigger) => ({ on: { technique: trigger.name }, ...trigger }));

const slurmRest = slurmRestSection();
const site = new TestSite(TRIGGERS, {
  worker: { mayCancel: [facility.broker.user] },
  site: { localJobs, slurmJobs },
  slurmRest,
});
const strict = new TestSite(TRIGGERS, { site: { localJobs, slurmJobs }, slurmRest });

beforeAll(() => Promise.all([site.startWorker(), strict.startWorker()]));
afterAll(async () => {
  await site.tearDown();
  await strict.tearDown();
  for (const folder of [localJobs, slurmJobs]) rmSync(folder, { recursive: true, force: true });
});

async function publish(technique: string, where = site): Promise<string> {
  const message = { path: writeOnCore(), technique };
  return (await publishDataReady(await where.client(), message, { id: randomUUID() })).id;
}

async function startedJob(technique: string, where = site): Promise<{ id: string; start: AnyEvent }> {
  const id = await publish(technique, where);
  return { id, start: await where.event("job.started", id) };
}

/** What `mento cancel --json` prints. */
async function cancel(...args: string[]) {
  return cancelWith(site, ...args);
}
async function cancelWith(where: TestSite, ...args: string[]) {
  const { code, stdout, stderr } = await tryMento(["cancel", "-c", where.configFile, "--json", ...args]);
  const lines = stdout.split("\n").filter((line) => line !== "");
  return { code, stderr, outcomes: lines.map((line) => CancelOutcome.parse(JSON.parse(line))) };
}

const slurm = (program: string, ...args: string[]) => askSlurm(facility, program, ...args);

/** It ends once, as cancelled. */
async function endsCancelled(id: string, cancelledBy: object | null): Promise<AnyEvent> {
  const end = await site.event("job.cancelled", id);
  const ends = site.jobEventsOf(id).filter(({ type }) => /completed|failed|cancelled|lost/.test(type));
  expect(new Set(ends.map((one) => one.id)).size).toBe(1);
  expect(end.data.cancelledBy).toEqual(cancelledBy);
  return end;
}

describe.concurrent("mento cancel", () => {
  it("ends a running job, and its event says who asked and why", async () => {
    const { id, start } = await startedJob("sleep");
    const { code, outcomes } = await cancel(start.data.job.id, "--reason", "wrong 'geometry' ü");
    expect({ code, outcomes }).toMatchObject({
      code: 0,
      outcomes: [{ id: start.data.job.id, outcome: "cancelled", error: null }],
    });
    const end = await endsCancelled(id, { who: ME, reason: "wrong 'geometry' ü" });
    expect(end.data.exit).toMatchObject({ signal: "SIGTERM", reason: null });
  });

  it("ends a program that ignores SIGTERM", async () => {
    const { id, start } = await startedJob("stubborn");
    expect((await cancel(start.data.job.id)).outcomes).toMatchObject([{ outcome: "cancelled" }]);
    await endsCancelled(id, { who: ME, reason: null });
  });

  it("takes a job that waits out of Slurm, and it never runs", async () => {
    const busy = await startedJob("sleep");
    const id = await publish("wide");
    const { data } = await site.event("job.submitted", id);
    expect((await cancel(data.job.id)).outcomes).toMatchObject([{ outcome: "cancelled" }]);
    await endsCancelled(id, { who: ME, reason: null });
    expect(site.jobEventsOf(id).map(({ type }) => type)).not.toContain("mento.job.started.v1");
    await cancel(busy.start.data.job.id);
  });

  it("does the same for jobs of Slurm's REST API: one that runs, and one that waits", async () => {
    const busy = await startedJob("by-rest");
    const id = await publish("wide-by-rest");
    const { data } = await site.event("job.submitted", id);
    expect((await cancel(data.slurm.jobId)).outcomes).toMatchObject([
      { id: data.job.id, outcome: "cancelled" },
    ]);
    await endsCancelled(id, { who: ME, reason: null });
    expect((await cancel(busy.start.data.job.id)).outcomes).toMatchObject([{ outcome: "cancelled" }]);
    await endsCancelled(busy.id, { who: ME, reason: null });
    expect((await cancel(data.job.id)).outcomes).toMatchObject([
      { outcome: "gone", end: { state: "cancelled" }, cancelledBy: { who: ME } },
    ]);
  });

  it("takes Slurm's id for one of ours", async () => {
    const { id, start } = await startedJob("sleep");
    const { slurm: at, job } = start.data;
    expect((await cancel(at.jobId)).outcomes).toMatchObject([
      { job: at.jobId, id: job.id, outcome: "cancelled" },
    ]);
    await endsCancelled(id, { who: ME, reason: null });
  });

  it("leaves somebody else's job of Slurm alone, also one of the beamtime's account", async () => {
    const { account, reservation, partition } = beamtime;
    const where = [`--reservation=${reservation}`, `--partition=${partition}`, "--output=/dev/null"];
    const sbatch = ["sbatch", "--parsable", ...where, "--comment=mento is fine", "--wrap=sleep 300"];
    const env = ["env", `SLURM_CONF=${facility.slurm.conf}`];
    const job = slurm("runuser", "-u", account, "--", ...env, ...sbatch).trim();
    const { code, outcomes } = await cancel(job);
    expect({ code, outcomes }).toMatchObject({
      code: 1,
      outcomes: [{ job, outcome: "unknown", error: { code: "job-unknown" } }],
    });
    expect(slurm("squeue", "--noheader", `--jobs=${job}`, "--format=%T").trim()).toMatch(/PENDING|RUNNING/);
    slurm("scancel", job);
  });

  it("tells how a job that has ended has ended, once for a job that is named twice", async () => {
    const [done, broken] = await Promise.all([publish("quick"), publish("seven")]);
    const completed = (await site.event("job.completed", done)).data;
    const failed = (await site.event("job.failed", broken)).data;
    const { code, outcomes } = await cancel(completed.job.id, failed.job.id, completed.job.id);
    expect(code).toBe(0);
    expect(outcomes).toMatchObject([
      { outcome: "gone", end: { state: "completed", code: 0, at: completed.times.ended }, cancelledBy: null },
      { outcome: "gone", end: { state: "failed", code: 7, reason: "exit-code" }, cancelledBy: null },
    ]);
    expect(existsSync(join(completed.job.directory, ".cancelled"))).toBe(false);
  });

  it("knows the end of a job whose directory is gone, from its events", async () => {
    const id = await publish("seven-on-node");
    const { job } = (await site.event("job.failed", id)).data;
    rmSync(job.directory, { recursive: true });
    expect((await cancel(job.id)).outcomes).toMatchObject([
      { outcome: "gone", end: { state: "failed", code: 7, reason: "exit-code" } },
    ]);
  });

  it("says that it knows nothing of an id, and what is no id harms nothing", async () => {
    const names = ["nosuchjob", "4000000000", "../../raw", "$(id)", "-"];
    const { code, outcomes } = await cancel("--", ...names);
    expect(code).toBe(1);
    expect(outcomes.map(({ job, outcome }) => [job, outcome])).toEqual(names.map((one) => [one, "unknown"]));
  });

  it("does the same for a process on a node", async () => {
    const { id, start } = await startedJob("on-node");
    expect(start.data.process?.host).toMatch(/^max-/);
    expect((await cancel(start.data.job.id)).outcomes).toMatchObject([{ outcome: "cancelled" }]);
    await endsCancelled(id, { who: ME, reason: null });
    expect((await cancel(start.data.job.id)).outcomes).toMatchObject([
      { outcome: "gone", end: { state: "cancelled" }, cancelledBy: { who: ME } },
    ]);
  });

  it("kills a process on a node that ignores SIGTERM, and all of its group", async () => {
    const { id, start } = await startedJob("stubborn-on-node");
    expect((await cancel(start.data.job.id)).outcomes).toMatchObject([{ outcome: "cancelled" }]);
    await endsCancelled(id, { who: ME, reason: null });
    const group = -(start.data.process?.pid ?? 0);
    await eventually("all of its group has ended", () => {
      try {
        process.kill(group, 0);
        return undefined;
      } catch {
        return true;
      }
    });
  });

  it("does the same for a process on this host", async () => {
    const { id, start } = await startedJob("here");
    const { job, process: at } = start.data;
    expect(at?.host).toBe(hostname());
    const twice = await Promise.all([cancel(job.id), cancel(job.id)]);
    const outcomes = twice.flatMap((one) => one.outcomes.map(({ outcome }) => outcome));
    expect(outcomes).toContain("cancelled");
    expect(outcomes.every((one) => one === "cancelled" || one === "gone")).toBe(true);
    await endsCancelled(id, { who: ME, reason: null });
    const quick = (await site.event("job.completed", await publish("quick-here"))).data;
    expect((await cancel(quick.job.id)).outcomes).toMatchObject([
      { outcome: "gone", end: { state: "completed", code: 0 } },
    ]);
  });

  it("does the same for a job that was submitted from this host, also by Slurm's id", async () => {
    const jobs = await Promise.all([startedJob("from-here"), startedJob("from-here")]);
    const [one, other] = jobs.map(({ start }) => start.data);
    const { outcomes } = await cancel(one?.job.id ?? "", other?.slurm.jobId ?? "");
    expect(outcomes).toMatchObject([
      { id: one?.job.id, outcome: "cancelled" },
      { id: other?.job.id, outcome: "cancelled" },
    ]);
    for (const { id } of jobs) await endsCancelled(id, { who: ME, reason: null });
  });

  it("has another account's process cancelled by its worker, over the broker", async () => {
    const { id, start } = await startedJob("here");
    // As whoever has another home sees it.
    process.env["MENTO_SITE_LOCAL_JOBS"] = "/nonexistent";
    const cancelling = cancel(start.data.job.id, "--reason", "from elsewhere");
    delete process.env["MENTO_SITE_LOCAL_JOBS"];
    expect((await cancelling).outcomes).toMatchObject([{ id: start.data.job.id, outcome: "cancelled" }]);
    await endsCancelled(id, { who: ME, reason: "from elsewhere" });
  });

  it("believes no folder that a beamtime's account has made for a job of another place", async () => {
    const forge = (job: string) => {
      const folder = join(beamtime.corePath, "scratch_cc/mento", job);
      mkdirSync(folder);
      chmodSync(folder, 0o777);
    };
    const [ended, sbatch, here] = await Promise.all([
      publish("quick-here").then((id) => site.event("job.completed", id)),
      startedJob("from-here"),
      startedJob("here"),
    ]);
    const jobs = [ended, sbatch.start, here.start].map(({ data }) => data.job.id);
    jobs.forEach(forge);
    // As on another host: its worker alone reaches the process.
    process.env["MENTO_SITE_LOCAL_JOBS"] = "/nonexistent";
    const cancelling = cancel(...jobs);
    delete process.env["MENTO_SITE_LOCAL_JOBS"];
    expect((await cancelling).outcomes).toMatchObject([
      { outcome: "gone", end: { state: "completed", code: 0 }, cancelledBy: null },
      { outcome: "cancelled", cancelledBy: { who: ME } },
      { outcome: "cancelled", cancelledBy: { who: ME } },
    ]);
    for (const { id } of [sbatch, here]) await endsCancelled(id, { who: ME, reason: null });
  });

  it("twice at once cancels once, and names one of both", async () => {
    const { id, start } = await startedJob("sleep");
    const both = ["one", "two"].map((reason) => cancel(start.data.job.id, "--reason", reason));
    const outcomes = (await Promise.all(both)).flatMap((one) => one.outcomes);
    expect(outcomes.map(({ outcome }) => outcome)).toContain("cancelled");
    expect(outcomes.every(({ outcome }) => outcome === "cancelled" || outcome === "gone")).toBe(true);
    const end = await site.event("job.cancelled", id);
    expect(end.data.cancelledBy).toMatchObject({ who: ME });
    expect(new Set(outcomes.map(({ cancelledBy }) => cancelledBy?.reason))).toEqual(
      new Set([end.data.cancelledBy?.reason]),
    );
  });

  it("at the moment of its end: what is announced is what happened, and nothing else is said", async () => {
    const jobs = await Promise.all(Array.from({ length: 4 }, () => startedJob("short")));
    await new Promise((resolve) => setTimeout(resolve, 300));
    const { code, outcomes } = await cancel(...jobs.map(({ start }) => start.data.job.id));
    expect(code).toBe(0);
    for (const [index, { id }] of jobs.entries()) {
      const end = await eventually("it has ended", () =>
        site.jobEventsOf(id).find(({ type }) => /completed|failed|cancelled/.test(type)),
      );
      const { outcome, end: told } = outcomes[index] ?? {};
      if (outcome === "gone") expect(told?.state).toBe(end.data.job.state);
      expect(["completed", "cancelled"]).toContain(end.data.job.state);
      expect(end.data.cancelledBy === null).toBe(end.data.job.state === "completed");
    }
  });

  it("leaves who did it open if somebody used scancel by hand", async () => {
    const { id, start } = await startedJob("sleep");
    slurm("scancel", start.data.slurm.jobId);
    await endsCancelled(id, null);
  });

  it("prints a line a job for a person", async () => {
    const { start } = await startedJob("sleep");
    const { id } = start.data.job;
    const args = ["cancel", "-c", site.configFile];
    expect((await tryMento([...args, id, "--reason", "no beam"])).stdout).toBe(`${id}  cancelled\n`);
    const again = await tryMento([...args, id]);
    expect(again.stdout).toContain(`cancelled by ${ME}: no beam`);
    expect((await tryMento(args)).code).toBe(2);
    const unknown = await tryMento([...args, "nosuchjob"]);
    expect({ code: unknown.code, stdout: unknown.stdout }).toEqual({
      code: 1,
      stdout: expect.stringMatching(/^nosuchjob {2}unknown: There is no job nosuchjob/) as string,
    });
  });

  it("needs no broker for a job of the open beamtime, and says so of one that it cannot find", async () => {
    const { id, start } = await startedJob("sleep");
    process.env["MENTO_BROKER_URL"] = "amqp://127.0.0.1:1";
    const cancelling = cancel(start.data.job.id, "nosuchjob");
    delete process.env["MENTO_BROKER_URL"];
    const { code, outcomes } = await cancelling;
    expect(code).toBe(3);
    expect(outcomes).toMatchObject([
      { outcome: "cancelled" },
      { outcome: "failed", error: { code: "broker-unreachable" } },
    ]);
    await endsCancelled(id, { who: ME, reason: null });
  });
});

describe("a job whose worker is away", () => {
  it("is cancelled all the same, and announced by the next worker, with who asked", async () => {
    const other = new TestSite(TRIGGERS, {
      site: { localJobs: mkdtempSync(join(localJobs, "other-")) },
      slurmRest,
    });
    const worker = await other.startWorker();
    const slurmJob = await startedJob("sleep", other);
    const process = await startedJob("here", other);
    await worker.stop();
    const ids = [slurmJob.start.data.job.id, process.start.data.job.id];
    const { outcomes } = await cancelWith(other, ...ids, "--reason", "night");
    expect(outcomes).toMatchObject([{ outcome: "cancelled" }, { outcome: "cancelled" }]);
    await other.startWorker();
    for (const { id } of [slurmJob, process]) {
      const end = await other.event("job.cancelled", id);
      expect(end.data.cancelledBy).toEqual({ who: ME, reason: "night" });
    }
    await other.tearDown();
  });
});

describe.concurrent("a message that cancels", () => {
  /** Publishes one, and waits for its answer. */
  async function ask(where: TestSite, data: object, userId: string | undefined) {
    const { link, publisher, topology } = await where.client();
    const channel = await link.consuming.createChannel();
    const { queue } = await channel.assertQueue("", { exclusive: true });
    const answer = new Promise<unknown>((resolve) => {
      void channel.consume(
        queue,
        (message) => resolve(JSON.parse(message?.content.toString("utf8") ?? "null")),
        {
          noAck: true,
        },
      );
    });
    const id = randomUUID();
    await publisher.publish({
      exchange: topology.dataExchange,
      routingKey: "p11.-.job.cancel",
      body: Buffer.from(JSON.stringify(data)),
      properties: { messageId: id, type: JOB_CANCEL_TYPE, replyTo: queue, ...(userId && { userId }) },
    });
    const data_ = await answer;
    await channel.close();
    return { id, answer: data_ };
  }
  const { user } = facility.broker;

  it("from a user who may is done and answered; who it was is in the event", async () => {
    const { id, start } = await startedJob("sleep");
    const job = start.data.job.id;
    const { answer } = await ask(site, { job: [job, "nosuchjob"], reason: "beam is off" }, user);
    expect(CancelAnswer.parse(answer).outcomes).toMatchObject([
      { job, outcome: "cancelled" },
      { job: "nosuchjob", outcome: "unknown" },
    ]);
    await endsCancelled(id, { who: user, reason: "beam is off" });
  });

  it("from a user who may not is rejected, answered, and does nothing", async () => {
    const { start } = await startedJob("sleep", strict);
    const { id, job } = { id: start.data.cause.id, job: start.data.job.id };
    const message = await ask(strict, { job }, user);
    expect(MessageEventData.parse(message.answer).error?.code).toBe("cancel-not-allowed");
    const rejected = await strict.event("message.rejected", message.id);
    expect(rejected.data.error?.message).toContain(user);
    const deadLetters = await tryMento(["dead", "list", "-c", strict.configFile, "--json"]);
    expect(deadLetters.stdout).toContain("cancel-not-allowed");
    expect(strict.jobEventsOf(id).map(({ type }) => type)).not.toContain("mento.job.cancelled.v1");
    await cancelWith(strict, job);
  });

  it("that does not say who sent it is rejected, and RabbitMQ lets nobody lie", async () => {
    const { answer } = await ask(site, { job: "nosuchjob" }, undefined);
    expect(MessageEventData.parse(answer).error?.code).toBe("cancel-not-allowed");
    const liar = new TestSite(TRIGGERS, { slurmRest });
    try {
      const worker = await liar.startWorker();
      await expect(ask(liar, { job: "nosuchjob" }, "somebody-else")).rejects.toThrow(/user_id/);
      await worker.stop();
    } finally {
      await liar.tearDown();
    }
  });

  it("that cannot be read is rejected", async () => {
    const { answer } = await ask(site, { job: "../../raw" }, user);
    expect(MessageEventData.parse(answer).error?.code).toBe("wrong-schema");
  });
});
