import { execFile, execFileSync, spawn, type ChildProcess } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { JobEventData } from "../../src/messages/job-event.ts";
import type { TestBeamtime } from "../support/shared-facility.ts";
import { placesOf } from "../../src/facility/state.ts";
import { mento } from "../support/mento.ts";
import { OwnFacility } from "../support/own-facility.ts";
import { there } from "../support/servers.ts";
import { eventually, TestSite, writeOnCore, type AnyEvent, type FacilityBeamtime } from "../support/site.ts";

/** What the job of another beamtime may take to be announced after its end: 2 s, and patience for a machine under load. */
const ANNOUNCED_WITHIN_MS = 10_000;
const GRACE_MS = 40_000;

let own: OwnFacility;
let hostile: FacilityBeamtime;
let other: FacilityBeamtime;
let site: TestSite;
const floods: ChildProcess[] = [];

beforeAll(async () => {
  own = await OwnFacility.start();
  hostile = own;
  const { dir } = own.facility;
  const options = ["--tag", "hostile", "--beamline", "p11", "--online", "--json"];
  const { stdout } = await mento("facility", "start-commissioning", "--dir", dir, ...options);
  other = { facility: own.facility, beamtime: JSON.parse(stdout) as TestBeamtime };
  const sh = (script: string) => ["/bin/sh", "-c", script, "sh", "{{ results }}"];
  const triggers = [
    { name: "long", on: { technique: "long" }, run: ["/bin/sleep", "600"] },
    { name: "brief", on: { technique: "brief" }, run: ["/bin/sleep", "4"] },
    { name: "own", on: { technique: "own" }, run: [ownScript()] },
    { name: "quick", on: { technique: "quick" }, run: ["/bin/true"] },
    {
      name: "many",
      on: { technique: "many" },
      run: sh('cd "$1" && seq -f %04g 1 1207 | xargs touch; ln -s /etc/hostname link.dat'),
      results: ["*"],
    },
    {
      name: "outside",
      on: { technique: "outside" },
      run: sh(
        'echo x > "$1/good"; ln -s /etc/hostname "$1/link"; printf "%s\\n" good /etc/hostname link > "$MENTO_RESULTS"',
      ),
    },
  ];
  site = new TestSite(triggers, { worker: { reconcileSeconds: 2 } }, own);
  await site.startWorker();
});
afterEach(() => {
  for (const flood of floods.splice(0)) flood.kill("SIGKILL");
});
afterAll(async () => {
  await site.tearDown();
  await own.tearDown();
});

/** A user's own sbatch script. */
function ownScript(): string {
  return join(hostile.beamtime.corePath, "scratch_cc", "own.sh");
}

async function publish(place: FacilityBeamtime, technique: string): Promise<string> {
  const message = { path: writeOnCore("data\n", place), technique };
  return (await publishDataReady(await site.client(), message)).id;
}

/** A job that runs, and what the beamtime's account can write to. */
async function running(technique = "long") {
  const cause = await publish(hostile, technique);
  const { data } = await site.event("job.started", cause);
  const { id, directory } = data.job;
  const ended = join(directory, `ended.${data.slurm.jobId}`);
  const notify = () => writeFileSync(join(directory, "..", ".spool", `${id}.ended`), "");
  return { cause, id, directory, slurmJobId: data.slurm.jobId, ended, notify };
}

/** The job of another beamtime is announced in time, and its messages are handled. */
async function otherIsServed(): Promise<void> {
  const cause = await publish(other, "quick");
  const find = () =>
    site.events.find(({ type, data }) => type === "mento.job.completed.v1" && data.cause.id === cause);
  const { data } = await eventually("the other beamtime's job is announced", find, 60_000);
  const late = Date.now() - Date.parse(data.times.ended ?? "");
  expect(late).toBeLessThan(ANNOUNCED_WITHIN_MS);
}

const eventsOf = (cause: string): AnyEvent[] => site.jobEventsOf(cause);
const log = () => site.workers.map((worker) => worker.log).join("");

/** The most that the worker has held so far. */
function mostMemoryMb(): number {
  const pid = site.workers[0]?.process.pid ?? "self";
  const [, kilobytes = "0"] = /^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return Number(kilobytes) / 1024;
}

/** Commands that the worker runs on the nodes to read records. */
function readers(): string[] {
  const commands = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
      } catch {
        return "";
      }
    });
  return commands.filter((line) => /mento-record/.test(line) && line.includes(hostile.beamtime.corePath));
}

describe("in job folders of one beamtime", () => {
  it("a record that holds lines and sizes of its own is left out, and the job ends by Slurm's report", async () => {
    const job = await running("brief");
    const forged = `\nmento-record ${job.id} ended -25\nmento-record ${job.id} end\n`;
    // The run script's own record is kept out by a folder.
    writeFileSync(join(job.directory, `started.${job.slurmJobId}`), forged);
    mkdirSync(job.ended);
    job.notify();
    await otherIsServed();
    const { data } = await site.event("job.completed", job.cause, 60_000);
    expect(data.exit?.code).toBe(0);
    expect(log()).toContain("started has not the form of a record");
    expect(log()).toContain("ended is no regular file");
  });

  it("16 MB of results are cut to a thousand", async () => {
    const job = await running();
    const at = new Date().toISOString();
    const head = `at=${at}\0code=0\0stoppedBy=\0`;
    writeFileSync(job.ended, head + "result= x\0".repeat(1_670_000));
    job.notify();
    await otherIsServed();
    const { data } = await site.event("job.completed", job.cause);
    expect(data.results).toEqual([]);
    expect(data.resultsCut).toBeGreaterThan(1000);
    expect(mostMemoryMb()).toBeLessThan(700);
  });

  it("a FIFO, a device or a folder in a record's place stops nothing", async () => {
    const job = await running("brief");
    const submitted = join(job.directory, "submitted");
    rmSync(submitted);
    execFileSync("mkfifo", ["-m", "666", submitted]);
    symlinkSync("/dev/zero", job.ended);
    mkdirSync(join(job.directory, ".cancelled"));
    job.notify();
    await otherIsServed();
    const cause = await publish(hostile, "quick");
    await site.event("job.completed", cause);
    await site.event("job.completed", job.cause, 60_000);
    await eventually("nothing reads any more", () => (readers().length === 0 ? true : undefined), 20_000);
  });

  it("times, codes and nodes that cannot be reach no event", async () => {
    const job = await running();
    const now = new Date().toISOString();
    const forgeries = [
      "at=yesterday\0code=0\0stoppedBy=\0",
      "at=9999-12-31T23:59:59Z\0code=0\0stoppedBy=\0",
      "at=1970-01-01T00:00:00Z\0code=0\0stoppedBy=\0",
      `at=${now}\0code=-1\0stoppedBy=\0`,
      `at=${now}\0code=1e3\0stoppedBy=\0`,
      `at=${now}\0code=3\0stoppedBy=EVIL\0`,
    ];
    for (const forged of forgeries) {
      writeFileSync(job.ended, forged);
      job.notify();
      await otherIsServed();
    }
    expect(eventsOf(job.cause).map(({ type }) => type)).toEqual([
      "mento.job.submitted.v1",
      "mento.job.started.v1",
    ]);
    writeFileSync(job.ended, `at=${new Date().toISOString()}\0code=3\0stoppedBy=\0`);
    job.notify();
    expect((await site.event("job.failed", job.cause)).data.exit?.code).toBe(3);
  });

  it("lines without end in submitted make a bounded number of events, each of which fits the schema", async () => {
    const job = await running();
    const flood = `i=0; while :; do i=$((i+1)); echo "9$i" > "$1/.new" && mv "$1/.new" "$1/submitted"; : > "$2"; sleep 0.02; done`;
    const bell = join(job.directory, "..", ".spool", `${job.id}.started`);
    floods.push(spawn(...there("/bin/sh", ["-c", flood, "sh", job.directory, bell]), { stdio: "ignore" }));
    await otherIsServed();
    await otherIsServed();
    const said = eventsOf(job.cause);
    expect(said.length).toBeLessThan(40);
    for (const { data } of said) expect(JobEventData.safeParse(data).error).toBeUndefined();
  });

  it("100,000 notifications of nobody hide no job, of this beamtime or another", async () => {
    const spool = join(hostile.beamtime.corePath, "scratch_cc/mento/.spool");
    const fill = 'cd "$1" && seq 1 100000 | sed "s/$/.ended/" | xargs touch';
    // Not synchronously: the broker would miss this process's heartbeats.
    await promisify(execFile)(...there("/bin/sh", ["-c", fill, "sh", spool]));
    await otherIsServed();
    const cause = await publish(hostile, "quick");
    const { data } = await site.event("job.completed", cause);
    expect(Date.now() - Date.parse(data.times.ended ?? "")).toBeLessThan(2 * ANNOUNCED_WITHIN_MS);
  });
});

it("a user's own script of 300,000 directives is refused in words, and keeps nobody waiting", async () => {
  writeFileSync(ownScript(), `#!/bin/sh\n${"#SBATCH -H\n".repeat(300_000)}true\n`, { mode: 0o755 });
  const cause = await publish(hostile, "own");
  await otherIsServed();
  const { data } = await site.event("message.rejected", cause);
  expect(data.error?.code).toBe("submit-refused");
  expect(data.error?.message).toContain("more than 65536 characters");
});

it("what the account's own scontrol and squeue print keeps nobody waiting", async () => {
  const home = join(placesOf(own.facility.dir).homes, hostile.beamtime.account);
  const bin = join(home, "bin");
  const called = (program: string) => join(hostile.beamtime.corePath, "scratch_cc", `${program}.called`);
  const printing = (program: string, asked: string, lines: string) => {
    const script = `#!/bin/sh\ncase "$*" in ${asked}) : > ${called(program)}; ${lines} ;; *) exec /usr/bin/${program} "$@" ;; esac\n`;
    writeFileSync(join(bin, program), script, { mode: 0o755 });
  };
  mkdirSync(bin);
  printing("scontrol", "*reservation*", "seq -f 'ReservationName=r%.0f Nodes=a[1-65536]' 1 300000");
  printing("squeue", "*%T*", "seq -f '%.0f|R' 1 1400000");
  writeFileSync(join(home, ".bashrc"), `PATH=${bin}:$PATH\n`);
  // What Slurm said seconds ago is not asked again, and a shell that waits has started before.
  for (const program of ["scontrol", "squeue"]) {
    while (!existsSync(called(program))) {
      await publish(hostile, "quick");
      await otherIsServed();
    }
    rmSync(called(program));
  }
  await otherIsServed();
  rmSync(join(home, ".bashrc"));
  rmSync(bin, { recursive: true });
  expect(log()).not.toContain("broker-lost");
  expect(mostMemoryMb()).toBeLessThan(1_000);
});

describe("results", () => {
  it("of a program that has more than an event may have are cut, with their count", async () => {
    const { data } = await site.event("job.completed", await publish(hostile, "many"));
    expect([data.results.length, data.resultsCut]).toEqual([1000, 207]);
  });

  it("that lie outside the session, by themselves or by a link, are left out", async () => {
    const { data } = await site.event("job.completed", await publish(hostile, "outside"));
    expect(data.results.map(({ path }) => path.split("/").at(-1))).toEqual(["good"]);
    expect(log()).toContain("results that lie neither in the session nor in the job directory: 2, first");
  });
});

it("every event fitted the schema, and the worker ends on SIGTERM within its grace", async () => {
  for (const { type, data } of site.events.filter((one) => one.type.startsWith("mento.job."))) {
    expect(JobEventData.safeParse(data).error, type).toBeUndefined();
  }
  const job = await running();
  writeFileSync(job.ended, `\nmento-record ${job.id} ended -25\n`.repeat(100_000));
  job.notify();
  const begun = Date.now();
  await site.workers[0]?.stop();
  expect(Date.now() - begun).toBeLessThan(GRACE_MS);
});
