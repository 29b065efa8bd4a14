import { randomUUID } from "node:crypto";
import { basename, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { jobEvent, toCloudEvent } from "../../src/messages/job-event.ts";
import { jobData } from "../support/job-data.ts";
import { mento, tryMento } from "../support/mento.ts";
import { eventually, facility, TestSite, writeOnCore } from "../support/site.ts";

const LOG = "for i in $(seq 30); do echo line $i; done; echo LinAlgError: Singular matrix >&2; exit 3";
const site = new TestSite(
  [
    { name: "good", run: ["/bin/true"] },
    { name: "fit", run: ["/bin/sh", "-c", LOG] },
    { name: "late", run: ["/bin/true"], dataTimeout: 3600 },
    { name: "huge", run: ["/bin/true"], slurm: { time: "20-00:00:00" } },
    { name: "held", run: ["/bin/true"], slurm: { extra: ["--hold"] } },
    { name: "sleep", run: ["/bin/sh", "-c", "echo it begins; sleep 300"] },
    { name: "greedy", run: ["/bin/sh", "-c", "kill -s KILL $$"] },
    { name: "calib", run: ["/bin/true"] },
  ].map((trigger) => ({ on: { technique: trigger.name }, ...trigger })),
);
const current = join(facility.roots.gpfs, "current");

let worker: Awaited<ReturnType<TestSite["startWorker"]>>;
beforeAll(async () => {
  worker = await site.startWorker();
  // The cause is found among others.
  const others = Array.from({ length: 60 }, () =>
    publish("none", join(current, `raw/other_${randomUUID()}.h5`)),
  );
  const ids = await Promise.all(others);
  await site.event("message.ignored", ids.at(-1) ?? "");
  await Promise.all(Array.from({ length: 500 }, announceOther));
}, 120_000);
afterAll(() => site.tearDown());

/** What a worker announced of another job. */
async function announceOther(): Promise<void> {
  const { publisher, topology } = await site.client();
  const id = randomUUID();
  const paths = [join(current, `raw/other_${id}.h5`)];
  const { job, ...of } = jobData("completed", {
    paths,
    cause: { source: "/daq", id, type: "mento.data.ready.v1" },
  });
  const now = new Date().toISOString();
  const times = { ready: now, received: now, submitted: now, started: now, ended: now };
  const data = { ...of, times, job: { ...job, id: `other${id}`, trigger: "good" } };
  const event = jobEvent(data, new Date());
  await publisher.publish({
    ...{ exchange: topology.eventsExchange, routingKey: event.routingKey },
    body: Buffer.from(JSON.stringify(toCloudEvent(event, "/mento/default"))),
    properties: { messageId: event.id },
  });
}

async function publish(technique: string, path = writeOnCore(), more: object = {}): Promise<string> {
  const { id } = await publishDataReady(await site.client(), { path, technique, ...more });
  return id;
}

/** What `mento trace` prints first, on one line: lines are broken at 80 columns. */
async function trace(what: string, ...options: string[]): Promise<{ first: string; all: string }> {
  const { stdout } = await tryMento(["trace", "-c", site.configFile, what, ...options]);
  const lines = stdout.split("\n");
  return { first: lines.slice(0, lines.indexOf("")).join(" ").replace(/\s+/g, " "), all: stdout };
}

let failedPath = "";
let waitingPath = "";
const nameOf = (path: string) => basename(path);

describe("mento trace says in its first lines why data was not processed:", () => {
  it("no trigger wants it, and which condition each has", async () => {
    const path = writeOnCore();
    await site.event("message.ignored", await publish("dark", path));
    const { first, all } = await trace(nameOf(path));
    expect(first).toMatch(/^– No trigger wants it\. good: technique is dark; the trigger wants good\./);
    expect(all).toContain("fit: technique is dark; the trigger wants fit");
    const would = await trace(nameOf(path), "--would");
    expect(would.all).toMatch(/^Under today's configuration:\n {2}good: would not run: technique is dark/m);
    const json = JSON.parse((await trace(nameOf(path), "--would", "--json")).all) as { would: object[] };
    expect(json.would[0]).toMatchObject({ trigger: "good", fires: false });
    expect(all.split("\n").filter((line) => line.length > 80 && !line.startsWith("    /"))).toEqual([]);
  });

  it("the message is not as the schema wants it, by its id", async () => {
    const client = await site.client();
    const id = randomUUID();
    await client.publisher.publish({
      exchange: client.topology.dataExchange,
      routingKey: "-.-.data.ready",
      body: Buffer.from('{"filename":"/x"}'),
      properties: { messageId: id, type: "mento.data.ready.v1", contentType: "application/json" },
    });
    await eventually("rejected", () => site.events.find(({ data }) => data.cause.id === id));
    const { first, all } = await trace(id);
    expect(first).toMatch(/^✕ Rejected \[wrong-schema\]: .*path/);
    expect(all).toContain("mento dead list");
  });

  it("it names a beamtime that nobody knows", async () => {
    const path = join(current, `raw/${randomUUID()}.h5`);
    await site.event("message.rejected", await publish("good", path, { beamtimeId: "99999999" }));
    expect((await trace(path)).first).toMatch(/^✕ Rejected \[unknown-beamtime\]: .*99999999/);
  });

  it("its data is not there, and what is newest in the folder", async () => {
    const path = join(current, `raw/never_${randomUUID()}.h5`);
    writeOnCore();
    waitingPath = path;
    await site.event("message.deferred", await publish("late", path));
    const { first } = await trace(nameOf(path));
    expect(first).toMatch(
      /^◷ Waiting since \d+ s \[data-not-there\]: The data is not on the core file system yet/,
    );
    expect(first).toMatch(/Looked at (once|about \d+ times), next within \d+ s; gives up at \S+\./);
    expect(first).toMatch(/Newest in its folder: \S+, \d+/);
  });

  it("no reservation is long enough", async () => {
    const path = writeOnCore();
    await site.event("message.deferred", await publish("huge", path));
    expect((await trace(nameOf(path))).first).toMatch(
      /^◷ Waiting since .* \[no-reservation-fits\]: No reservation/,
    );
  });

  it("it is pending in Slurm, and Slurm's reason in plain words, by Slurm's id", async () => {
    const { data } = await site.event("job.submitted", await publish("held"));
    const { first } = await trace(data.slurm.jobId);
    expect(first).toMatch(/^◌ held is pending since .*: it is held in Slurm: .* \(JobHeldUser\)/);
    expect(first).toMatch(/Next in its queue\.|\d(st|nd|rd|th) of \d+ pending\./);
    await mento("cancel", "-c", site.configFile, data.job.id, "--reason", "wrong mask");
    await site.event("job.cancelled", data.cause.id);
    expect((await trace(data.job.id.slice(0, 10))).first).toMatch(
      /^⊘ held was cancelled at \d\d:\d\d:\d\d by .*: "wrong mask"/,
    );
  });

  it("the program failed, with the end of its log, and how many failed alike", async () => {
    const path = writeOnCore();
    failedPath = path;
    const ids = [await publish("fit", path), await publish("fit")];
    for (const id of ids) await site.event("job.failed", id);
    const { first, all } = await trace(nameOf(path));
    expect(first).toMatch(/^✕ fit failed: The program ended with exit code 3.* LinAlgError: Singular matrix/);
    expect(first).toMatch(/2 of fit failed alike since/);
    expect(all).toContain("    line 30\n    LinAlgError: Singular matrix\n");
    expect(all).toMatch(/received by group default; session 11010000 \(its path lies\s+there\)/);
    const { stdout } = await mento("logs", "-c", site.configFile, path, "--lines", "2");
    expect(stdout).toBe("line 30\nLinAlgError: Singular matrix\n");
  });

  it("somebody killed it", async () => {
    const { data } = await site.event("job.failed", await publish("greedy"));
    expect((await trace(data.job.id)).first).toMatch(/^✕ greedy failed: .*(signal 9|SIGKILL)/i);
  });

  it("nobody announced it, and what came from its folder last", async () => {
    const { code, stdout } = await tryMento([
      "trace",
      "-c",
      site.configFile,
      join(current, "raw/nobody_1.h5"),
    ]);
    expect([code, stdout]).toEqual([
      1,
      expect.stringMatching(/^– Nobody has announced .*What came from that folder last: \S+/),
    ]);
  });

  it("it runs; its log is followed to its end; and when it has run, how long that took", async () => {
    const { data } = await site.event("job.started", await publish("sleep"));
    expect((await trace(data.job.id)).first).toMatch(/^◐ sleep is running since .* on /);
    const unknown = await tryMento(["cancel", "-c", site.configFile, "raw/none.h5"]);
    expect([unknown.code, unknown.stdout]).toEqual([1, expect.stringMatching(/^raw\/none\.h5 {2}unknown: /)]);
    const over = await tryMento(["cancel", "-c", site.configFile, nameOf(failedPath)]);
    expect([over.code, over.stdout]).toEqual([0, expect.stringMatching(/ gone: failed \(exit code 3\) at /)]);
    const waiting = await tryMento(["cancel", "-c", site.configFile, nameOf(waitingPath)]);
    expect([waiting.code, waiting.stdout]).toEqual([
      1,
      expect.stringMatching(/has no job that could be cancelled\. `mento trace` says what it waits for/),
    ]);
    const following = mento("logs", "-c", site.configFile, data.job.id, "--follow");
    const many = await tryMento(["cancel", "-c", site.configFile, "scan_"]);
    expect([many.code, many.stdout]).toEqual([
      1,
      expect.stringMatching(
        new RegExp(`scan_ means \\d+ messages, with these unfinished jobs: .*${data.job.id}`),
      ),
    ]);
    const cancelling = await mento("cancel", "-c", site.configFile, data.job.id.slice(0, 12));
    expect(cancelling.stdout).toBe(`${data.job.id}  cancelled\n`);
    expect((await following).stdout).toMatch(/^it begins\n/);
    const other = writeOnCore();
    await site.event("job.completed", await publish("good", other));
    const { stdout } = await mento("trace", "-c", site.configFile, nameOf(other), "--json");
    expect(JSON.parse(stdout)).toMatchObject({
      standing: "completed",
      paths: [other],
      jobs: [{ exit: { code: 0 } }],
    });
  });
});

describe("mento jobs and mento status", () => {
  it("list what was asked for, the newest first, and say what is not known", async () => {
    await site.event("job.completed", await publish("good"));
    const { stdout } = await mento("jobs", "-c", site.configFile, "--state", "completed", "--json");
    const rows = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { standing: string; arrived: string });
    expect(new Set(rows.map(({ standing }) => standing))).toEqual(new Set(["completed"]));
    const arrived = rows.map((row) => row.arrived);
    expect(arrived.every((time) => !Number.isNaN(Date.parse(time)))).toBe(true);
    expect(arrived).toEqual([...arrived].sort().reverse());
    const table = await mento("jobs", "-c", site.configFile, "--trigger", "fit");
    expect(table.stdout).toMatch(/ fit +✕ failed/);
    expect(table.stdout.split("\n").filter((line) => line.length > 80)).toEqual([]);
    const none = await mento("jobs", "-c", site.configFile, "--trigger", "fitt", "--session", "1");
    expect(none.stderr).toContain("No trigger fitt is configured");
    expect(none.stderr).toContain("Nothing of session 1 is in the history");
    expect((await tryMento(["jobs", "-c", site.configFile, "--state", "oops"])).code).toBe(2);
  });

  it("name what needs a person: jobs that failed alike, and, once it has stopped, the worker", async () => {
    const before = await tryMento(["status", "-c", site.configFile]);
    expect([before.code, before.stdout]).toEqual([
      1,
      expect.stringMatching(/fit failed \d times alike since/),
    ]);
    expect(before.stdout).toMatch(/Workers +1 on group default/);
    expect(before.stdout).toMatch(/1 message waits since \S+: no-reservation-fits/);
    expect(before.stdout.split("\n").filter((line) => line.length > 80)).toEqual([]);
    expect(before.stdout.replace(/\s+/g, " ")).toMatch(
      /Deferred .*1 data-not-there, the first since .*1 no-reservation-fits|Deferred .*1 no-reservation-fits, the first since .*1 data-not-there/,
    );
    expect(before.stdout).toMatch(/^ {2}reservation {6}\S+ ends .*, in /m);
    expect(before.stdout.replace(/\s+/g, " ")).toMatch(
      /calib 0 nothing matched it; nearest miss: technique is \S+; the trigger wants calib \(\d+ messages\)/,
    );
    expect(before.stdout).toMatch(/✓ \S+ {2}group default {2}\S+ {2}configuration [0-9a-f]{12} {2}ready/);
    worker.process.kill("SIGSTOP");
    try {
      const silent = () => tryMento(["status", "-c", site.configFile]);
      await eventually(
        "a worker that hangs is seen",
        async () =>
          /has been silent for .*: it has ended without a word, hangs/s.test(
            (await silent()).stdout.replace(/\s+/g, " "),
          ) || undefined,
        90_000,
      );
    } finally {
      worker.process.kill("SIGCONT");
    }
    const from = worker.log.length;
    await eventually(
      "it goes on",
      async () =>
        / 0 s ago|ready, \d s ago/.test((await tryMento(["status", "-c", site.configFile])).stdout) ||
        undefined,
      60_000,
    );
    expect(worker.log.slice(from)).not.toContain('"level":"fatal"');
    await worker.stop();
    expect((await tryMento(["status", "-c", site.configFile, "--json"])).stdout).toContain('"workers":[]');
    const path = writeOnCore();
    await publish("good", path);
    const { first } = await trace(nameOf(path));
    expect(first).toMatch(
      /^◷ No worker has taken it, .*: group default has none that takes messages\. \d+ messages? waits?\./,
    );
    const { code, stdout } = await tryMento(["status", "-c", site.configFile]);
    expect([code, stdout]).toEqual([
      1,
      expect.stringContaining("No worker of group default takes messages: "),
    ]);
    const doctor = await tryMento(["doctor", "-c", site.configFile, "--json"]);
    expect(doctor.code).toBe(1);
    expect(doctor.stdout).toMatch(
      /"check":"broker","state":"failed".*No worker of group default takes messages/,
    );
  });
});
