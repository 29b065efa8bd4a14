import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { chmodSync, copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { placesOf } from "../../src/facility/state.ts";
import { TcpProxy } from "../../src/facility/tcp-proxy.ts";
import type { TestBeamtime } from "../support/shared-facility.ts";
import { mento } from "../support/mento.ts";
import { OwnFacility } from "../support/own-facility.ts";
import { askSlurm } from "../support/servers.ts";
import {
  eventually,
  TestSite,
  writeOnCore,
  type FacilityBeamtime,
  type TestWorker,
} from "../support/site.ts";

let own: OwnFacility;
/** The beamtime's nodes are reached through a wire of their own. */
let wire: TcpProxy;
let beamtime: FacilityBeamtime;
let commissioning: FacilityBeamtime;
/** Every count of waiting jobs that a node was asked for: each look at Slurm begins with one. */
let looks: string;
let site: TestSite | undefined;

const triggers = [
  { name: "quick", on: { technique: "quick" }, run: ["/bin/true"] },
  { name: "nap", on: { technique: "nap" }, run: ["/bin/sleep", "8"] },
  { name: "poison", on: { technique: "poison" }, run: ["/bin/true"] },
];

beforeAll(async () => {
  own = await OwnFacility.start();
  beamtime = own;
  commissioning = { facility: own.facility, beamtime: await startCommissioning() };
  wire = await TcpProxy.to(own.facility.ssh.port);
  const bin = join(own.facility.dir, "bin");
  mkdirSync(bin, { recursive: true });
  looks = join(bin, "looks");
  writeFileSync(looks, "");
  chmodSync(looks, 0o666);
  standIn("squeue", `case "$*" in *--me*--states=PENDING*) echo x >> ${looks} ;; esac`);
});

afterEach(async () => {
  await site?.tearDown();
  site = undefined;
});

afterAll(async () => {
  await wire.close();
  await own.tearDown();
});

async function startCommissioning(): Promise<TestBeamtime> {
  const { dir } = own.facility;
  const options = ["--tag", "floods", "--beamline", "p11", "--online", "--json"];
  const { stdout } = await mento("facility", "start-commissioning", "--dir", dir, ...options);
  return JSON.parse(stdout) as TestBeamtime;
}

async function stopCommissioning(): Promise<void> {
  await mento("facility", "stop-commissioning", "--dir", own.facility.dir, "--beamline", "p11");
}

/** Does this on every node before it calls the system's own program. */
function standIn(program: string, first: string): void {
  const file = join(own.facility.dir, "bin", program);
  writeFileSync(file, `#!/bin/sh\n${first}\nexec /usr/bin/${program} "$@"\n`);
  chmodSync(file, 0o755);
}

/** A site of its own for one test, with one worker. */
async function startSite(
  worker: object = {},
  isWired = true,
  more: object[] = [],
  {
    connectTimeoutMs = 1000,
    hosts: others = {},
  }: { connectTimeoutMs?: number; hosts?: Record<string, { port: number }> } = {},
): Promise<{ site: TestSite; worker: TestWorker }> {
  const { address, port, hostKeyFingerprint } = own.facility.ssh;
  const hosts = own.facility.slurm.nodes.map(({ name }): [string, object] => {
    return [name, { address, port: isWired && beamtime.beamtime.nodes.includes(name) ? wire.port : port }];
  });
  for (const [name, { port: itsPort }] of Object.entries(others))
    hosts.push([name, { address, port: itsPort }]);
  const ssh = {
    hosts: Object.fromEntries(hosts),
    hostKeys: Object.fromEntries(hosts.map(([name]) => [name, [hostKeyFingerprint]])),
    ...{ connectTimeoutMs, commandTimeoutMs: 3000 },
  };
  site = new TestSite([...triggers, ...more], { worker, ssh }, own);
  return { site, worker: await site.startWorker() };
}

/** Messages about one file: each is a job. */
async function publish(count: number, place: FacilityBeamtime, technique = "quick"): Promise<string[]> {
  if (site === undefined) throw new Error("there is no site");
  const client = await site.client();
  const path = writeOnCore("data\n", place);
  const publishOne = async () => (await publishDataReady(client, { path, technique })).id;
  return Promise.all(Array.from({ length: count }, publishOne));
}

const slurm = (program: string, ...args: string[]) => askSlurm(own.facility, program, ...args);

/** The markers of our jobs in Slurm. */
function markers(...options: string[]): string[] {
  const lines = slurm("squeue", "--noheader", "--format=%k", ...options).split("\n");
  return lines.map((line) => line.trim()).filter((line) => line.startsWith("mento:"));
}

/** Each message's job completes; Slurm has had it once; and no message was given up. */
async function allRanOnce(ids: readonly string[], { events }: TestSite): Promise<void> {
  const jobs = await eventually(
    "all jobs have completed",
    () => {
      const completed = events.filter(({ type }) => type === "mento.job.completed.v1");
      const found = new Map(completed.map(({ data }) => [data.cause.id, data.job.id]));
      return ids.every((id) => found.has(id)) ? ids.map((id) => found.get(id)) : undefined;
    },
    60_000,
  ).catch((error: unknown) => {
    const types = events.map(({ type, data }) => `${data.cause.id} ${type} ${data.error?.code ?? ""}`);
    throw new Error(types.slice(-60).join("\n"), { cause: error });
  });
  const all = markers("--states=all");
  expect(jobs.map((job) => all.filter((one) => one === `mento:${job ?? ""}`).length)).toEqual(
    jobs.map(() => 1),
  );
  expect(events.filter(({ type }) => /rejected|failed|lost/.test(type))).toEqual([]);
  expect(await look("dead")).toMatchObject({ messages: 0 });
}

/** How a queue stands now. */
async function look(queue: string): Promise<{ messages: number; consumers: number }> {
  if (site === undefined) throw new Error("there is no site");
  const { link } = await site.client();
  const channel = await link.consuming.createChannel();
  const { messageCount, consumerCount } = await channel.checkQueue(`${site.prefix}.${queue}`);
  await channel.close();
  return { messages: messageCount, consumers: consumerCount };
}

/** Messages that wait on the broker, and that no worker holds. */
async function waiting(): Promise<number> {
  const names = ["intake", ...[1, 2, 5, 10, 30].map((seconds) => `wait.${seconds}`)];
  const counts = await Promise.all(names.map((name) => look(`default.${name}`)));
  return counts.reduce((sum, { messages }) => sum + messages, 0);
}

/** What the messages in the intake queue say of the attempts they have used up. */
async function attempts(): Promise<unknown[]> {
  if (site === undefined) throw new Error("there is no site");
  const { link, topology } = await site.client();
  const channel = await link.consuming.createChannel();
  const found: unknown[] = [];
  for (;;) {
    const message = await channel.get(topology.intakeQueue);
    if (message === false) break;
    found.push(message.properties.headers?.["mento-attempts"] ?? 0);
  }
  // They go back.
  await channel.close();
  return found;
}

const nobodyConsumes = () =>
  eventually("nobody consumes", async () =>
    (await look("default.intake")).consumers === 0 ? true : undefined,
  );

const countLooks = () => readFileSync(looks, "utf8").length / 2;

describe("with two sessions open", () => {
  it("no more jobs of one wait in Slurm than may; its other messages wait on the broker, the other's pass", async () => {
    const concurrency = 2;
    const maxPending = 5;
    const started = await startSite({ concurrency, maxPending });
    await started.site.startWorker();
    const { partition } = beamtime.beamtime;
    slurm("scontrol", "update", `PartitionName=${partition}`, "State=DOWN");
    const flood = await publish(12, beamtime);
    let most = 0;
    const counting = new AbortController();
    const counted = (async () => {
      while (!counting.signal.aborted) {
        most = Math.max(most, markers("--states=PENDING").length);
        await sleep(100);
      }
    })();
    await eventually("the queue is full", () => (most >= maxPending ? true : undefined));
    const [other = ""] = await publish(1, commissioning);
    await started.site.event("job.completed", other);
    expect(
      started.site.events.some(({ type, data }) => /completed/.test(type) && flood.includes(data.cause.id)),
    ).toBe(false);
    await sleep(2000);
    // Now and then each is in the hands of a worker that tries it again.
    await eventually("messages wait on the broker", async () => ((await waiting()) > 0 ? true : undefined));
    slurm("scontrol", "update", `PartitionName=${partition}`, "State=UP");
    await allRanOnce([...flood, other], started.site);
    counting.abort();
    await counted;
    console.log(`maxPending ${maxPending}: at most ${most} jobs were waiting`);
    // Those that look at the same moment see the same room.
    expect(most).toBeLessThan(maxPending + 2 * concurrency);
  });

  it("a flood of one does not hold up the other's message", async () => {
    // At a rate of its own, so that it is no race between the machine's speeds of reading and of submitting.
    const started = await startSite({ maxSubmitRate: 1 });
    await started.worker.stop();
    const flood = new Set(await publish(600, beamtime));
    const [other = ""] = await publish(1, commissioning);
    const published = Date.now();
    await started.site.startWorker();
    await started.site.event("job.submitted", other);
    const before = started.site.events.filter(
      ({ type, data }) => type === "mento.job.submitted.v1" && flood.has(data.cause.id),
    );
    console.log(
      `of 600, ${before.length} were submitted before the other's, after ${Date.now() - published} ms`,
    );
    expect(before.length).toBeLessThan(100);
  });

  it.each([
    [
      "180 messages of one, each as large as may be",
      { messages: 180, paths: 1000, remark: 2 ** 20 - 300_000 },
    ],
    ["800 messages of one, each of 200 paths", { messages: 800, paths: 200, remark: 0 }],
  ])("%s, whose data is not there, do not hold up the other's", async (_, { messages, paths, remark }) => {
    const absent = (name: string) => ({
      name,
      on: { technique: "absent" },
      run: ["/bin/true", "{{ path }}"],
    });
    const started = await startSite({}, true, ["one", "two", "three"].map(absent));
    const folder = dirname(writeOnCore("data\n", beamtime));
    const name = "w".repeat(remark === 0 ? 1 : 250 - folder.length);
    const parameters = { remark: "x".repeat(remark) };
    const client = await started.site.client();
    for (let nth = 0; nth < messages; nth++) {
      const path = Array.from({ length: paths }, (_, file) => `${folder}/${name}${nth}-${file}`);
      await publishDataReady(client, { path, technique: "absent", parameters });
    }
    const count = () => started.site.events.filter(({ type }) => type === "mento.message.deferred.v1").length;
    for (let nth = 0; nth < 2; nth++) {
      const before = count();
      const [other = ""] = await publish(1, commissioning);
      const published = Date.now();
      await started.site.event("job.submitted", other, 60_000);
      const looked = count() - before;
      console.log(
        `the other's was submitted after ${Date.now() - published} ms, and ${looked} were looked for meanwhile`,
      );
      expect(looked).toBeLessThan(messages / 2);
      await sleep(3000);
    }
  });

  it("400 messages of 20 sessions that are over, whose node never answers, do not hold up the other's", async () => {
    const silent = createServer(() => undefined).listen(0, "127.0.0.1");
    await once(silent, "listening");
    const { port } = silent.address() as AddressInfo;
    const metadata = JSON.parse(readFileSync(beamtime.beamtime.metadataFile, "utf8")) as {
      onlineAnalysis: object;
    };
    const folders = Array.from({ length: 20 }, (_, nth) => {
      const id = String(11010100 + nth);
      const corePath = join(dirname(beamtime.beamtime.corePath), id);
      const onlineAnalysis = { ...metadata.onlineAnalysis, reservedNodes: ["max-dead001"] };
      for (const folder of ["raw", "shared"]) mkdirSync(join(corePath, folder), { recursive: true });
      copyFileSync(beamtime.beamtime.privateKey, join(corePath, "shared/id_rsa"));
      writeFileSync(
        join(corePath, `beamtime-metadata-${id}.json`),
        JSON.stringify({ ...metadata, beamtimeId: id, corePath, onlineAnalysis }),
      );
      return corePath;
    });
    const connectTimeoutMs = 5000;
    const started = await startSite({}, true, [], { connectTimeoutMs, hosts: { "max-dead001": { port } } });
    const client = await started.site.client();
    for (const folder of folders)
      for (let nth = 0; nth < 20; nth++)
        await publishDataReady(client, { path: join(folder, "raw/a.h5"), technique: "quick" });
    for (let nth = 0; nth < 3; nth++) {
      const [other = ""] = await publish(1, commissioning);
      const published = Date.now();
      await started.site.event("job.submitted", other, 60_000);
      const refused = started.site.events.filter(({ data }) => data.error?.code === "ssh-unreachable");
      console.log(
        `the other's was submitted after ${Date.now() - published} ms, when ${refused.length} had been looked for`,
      );
      expect(refused.length).toBeLessThan(100);
      await sleep(2000);
    }
    await eventually("one of them was looked for", () =>
      started.site.events.find(({ data }) => data.error?.code === "ssh-unreachable"),
    );
    silent.close();
    for (const folder of folders) rmSync(folder, { recursive: true });
  });

  it("300 requests to cancel jobs do not hold up the other's message, and each is answered", async () => {
    const { user } = own.facility.broker;
    const started = await startSite({ mayCancel: [user] });
    const { link, publisher, topology } = await started.site.client();
    const channel = await link.consuming.createChannel();
    const { queue } = await channel.assertQueue("", { exclusive: true });
    const answers = new Map<string, unknown>();
    await channel.consume(
      queue,
      (answer) =>
        answer &&
        answers.set(
          String(answer.properties.correlationId),
          JSON.parse(answer.content.toString()) as unknown,
        ),
      { noAck: true },
    );
    for (let nth = 0; nth < 300; nth++)
      await publisher.publish({
        ...{ exchange: topology.dataExchange, routingKey: "-.-.job.cancel" },
        body: Buffer.from(JSON.stringify({ job: `nosuchjob${nth}` })),
        properties: { messageId: `c${nth}`, type: "mento.job.cancel.v1", userId: user, replyTo: queue },
      });
    const [other = ""] = await publish(1, commissioning);
    await started.site.event("job.submitted", other, 60_000);
    console.log(`the other's was submitted when ${answers.size} of 300 had been answered`);
    expect(answers.size).toBeLessThan(200);
    await eventually("all are answered", () => (answers.size === 300 ? true : undefined), 240_000);
    for (const answer of answers.values())
      expect(answer).toMatchObject({ outcomes: [{ outcome: "unknown", error: { code: "job-unknown" } }] });
    expect(started.worker.log).not.toContain("lost");
  });

  it("no more jobs are submitted a second than may", async () => {
    const started = await startSite({ maxSubmitRate: 2 });
    const ids = await publish(10, beamtime);
    await allRanOnce(ids, started.site);
    const submitted = started.site.events.filter(({ type }) => type === "mento.job.submitted.v1");
    const times = submitted
      .map(({ data }) => Date.parse(data.times.submitted ?? ""))
      .sort((one, other) => one - other);
    const took = (times.at(-1) ?? 0) - (times[0] ?? 0);
    console.log(`10 jobs at 2 a second took ${took} ms`);
    // Two at once, one for the first that leaves.
    expect(took).toBeGreaterThanOrEqual(3000);
  });

  it("messages of one whose node is away wait, and the other's pass at once", async () => {
    const started = await startSite({ concurrency: 2 });
    await allRanOnce(await publish(1, beamtime), started.site);
    wire.set("half-open");
    const flood = await publish(40, beamtime);
    for (let count = 0; count < 2; count++) {
      const [other = ""] = await publish(1, commissioning);
      const published = Date.now();
      await started.site.event("job.submitted", other);
      console.log(`the other's message was submitted after ${Date.now() - published} ms`);
      await sleep(2000);
    }
    await started.site.event("message.deferred", flood[0] ?? "");
    expect(started.site.events.filter(({ data }) => flood.includes(data.cause.id) && data.slurm)).toEqual([]);
    wire.set("pass");
    await allRanOnce(flood, started.site);
    const deferred = flood.map((id) => started.site.eventsOf(id).filter(({ type }) => /deferred/.test(type)));
    // Once for each reason: that a command has not answered is one, that there is no connection another.
    for (const events of deferred) expect(new Set(events.map(({ id }) => id)).size).toBe(events.length);
    expect(Math.max(...deferred.map(({ length }) => length))).toBeLessThanOrEqual(2);
  });

  it.each([
    ["is silent", "exec sleep 30"],
    ["prints without end", "trap '' PIPE HUP; for i in $(seq 100000); do echo more; done"],
    ["kills what serves its connection", "kill -9 $PPID; sleep 1"],
  ])("messages of one whose login shell %s wait, and the other's pass at once", async (_, start) => {
    const bashrc = join(placesOf(own.facility.dir).homes, beamtime.beamtime.account, ".bashrc");
    writeFileSync(bashrc, start);
    try {
      const started = await startSite({ concurrency: 2 });
      const flood = await publish(40, beamtime);
      await started.site.event("message.deferred", flood[0] ?? "");
      const others = await publish(10, commissioning);
      await allRanOnce(others, started.site);
      expect(started.site.events.filter(({ data }) => flood.includes(data.cause.id) && data.slurm)).toEqual(
        [],
      );
      const codes = started.site.events.flatMap(({ data }) => data.error?.code ?? []);
      expect(new Set(codes)).toEqual(new Set(["login-shell"]));
      expect(await started.worker.stop()).toBe(0);
    } finally {
      rmSync(bashrc);
    }
  });

  it("a message whose own command breaks the connection is tried again alone, and stops nobody", async () => {
    const started = await startSite();
    // It is an sshd, since OpenSSH 9.8 an sshd-session. Where another has killed it already there is none above.
    const killsItsSession =
      'p=$PPID; until [ "${p:-1}" -le 1 ] || ps -o comm= -p $p | grep -q ^sshd; do p=$(ps -o ppid= -p $p | tr -d " "); done; [ "${p:-1}" -le 1 ] || kill -9 $p; exit 1';
    standIn("sbatch", `case "$*" in *--job-name=poison*) ${killsItsSession} ;; esac`);
    try {
      const [poison = ""] = await publish(1, beamtime, "poison");
      const { data } = await started.site.event("message.deferred", poison);
      expect(data.error?.code).toBe("ssh-lost");
      await publish(2, beamtime, "poison");
      await allRanOnce(await publish(20, beamtime), started.site);
      expect(started.worker.log).not.toContain("are taken until this is over");
      expect(started.site.jobEventsOf(poison)).toEqual([]);
    } finally {
      rmSync(join(own.facility.dir, "bin", "sbatch"));
    }
  });
});

describe("with one session open, a worker", () => {
  beforeAll(stopCommissioning);

  /** So many messages in the intake queue, and nobody takes them. */
  const liesThere = (messages: number) =>
    eventually("all messages lie in their queue", async () => {
      const seen = await look("default.intake");
      return seen.messages === messages && seen.consumers === 0 ? true : undefined;
    });

  /** While this is so, everything waits on the broker; when it is over, everything runs. */
  async function rideOut(
    begin: () => void,
    end: () => Promise<void> | void,
    { seconds, isWired }: { seconds: number; isWired: boolean },
  ): Promise<void> {
    // Its connection is there, but it has not asked Slurm yet: a submit that is cut off is left alone for minutes.
    const started = await startSite({}, isWired);
    const ids: string[] = [];
    begin();
    try {
      const began = Date.now();
      const from = countLooks();
      ids.push(...(await publish(10, beamtime)));
      await nobodyConsumes();
      console.log(`consuming has stopped after ${Date.now() - began} ms`);
      ids.push(...(await publish(30, beamtime)));
      await sleep(Math.max(0, seconds * 1000 - (Date.now() - began)));
      await liesThere(ids.length);
      expect(await attempts()).toEqual(ids.map(() => 0));
      await liesThere(ids.length);
      const asked = countLooks() - from;
      console.log(`Slurm was looked at ${asked} times in ${Date.now() - began} ms`);
      expect(asked).toBeLessThan(20);
      expect(started.site.events.filter(({ type }) => /deferred|rejected/.test(type))).toEqual([]);
    } finally {
      await end();
    }
    await allRanOnce(ids, started.site);
    // A busy machine may keep one waiting, once the rest works again.
    expect(started.site.events.filter(({ type }) => type.includes("rejected"))).toEqual([]);
  }

  it("waits while Slurm's controller hangs", async () => {
    const pid = own.pidOf("slurmctld");
    await rideOut(
      () => process.kill(pid, "SIGSTOP"),
      () => void process.kill(pid, "SIGCONT"),
      { seconds: 8, isWired: true },
    );
  });

  it("waits while Slurm's controller is away", async () => {
    await rideOut(
      () => process.kill(own.pidOf("slurmctld"), "SIGTERM"),
      () => own.startMissing(),
      { seconds: 4, isWired: true },
    );
  });

  it("waits while sshd is away", async () => {
    await rideOut(
      () => endSshd(),
      () => own.startMissing(),
      { seconds: 4, isWired: false },
    );
  });

  it("waits while its connections are half-open, and takes new ones", async () => {
    await rideOut(
      () => wire.set("half-open"),
      () => wire.set("pass"),
      { seconds: 4, isWired: true },
    );
  });

  it("takes the next session's messages though the one before was closed while its node was away", async () => {
    const started = await startSite();
    wire.set("half-open");
    const [left = ""] = await publish(1, beamtime);
    await nobodyConsumes();
    const { dir } = own.facility;
    await mento("facility", "stop-beamtime", "--dir", dir, "--beamtimeId", "11010099", "--beamline", "p11");
    commissioning = { facility: own.facility, beamtime: await startCommissioning() };
    await allRanOnce(await publish(3, commissioning), started.site);
    expect(started.site.jobEventsOf(left)).toEqual([]);
    wire.set("pass");
    const { data } = await started.site.event("message.rejected", left);
    expect(data.error?.code).toBe("beamtime-ended");
  });
});

/** The server, and the sessions that would outlive it. */
function endSshd(): void {
  const server = own.pidOf("sshd");
  const children = execFileSync("pgrep", ["-P", String(server)], { encoding: "utf8" });
  for (const pid of [server, ...children.trim().split("\n").map(Number)]) process.kill(pid, "SIGKILL");
}
