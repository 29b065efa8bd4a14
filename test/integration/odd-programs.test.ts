import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { placesOf } from "../../src/facility/state.ts";
import { OwnFacility } from "../support/own-facility.ts";
import { askSlurm, there } from "../support/servers.ts";
import { eventually, TestSite, writeOnCore } from "../support/site.ts";

let own: OwnFacility;
let site: TestSite;
/** Each program leaves a line here, in the file of its message. */
let runs: string;

beforeAll(async () => {
  own = await OwnFacility.start();
  runs = join(own.facility.dir, "runs");
  mkdirSync(runs);
  chmodSync(runs, 0o777);
});
afterAll(() => own.tearDown());

const PROGRAM =
  'echo "$LC_ALL|${SBATCH_COMMENT-}${SLURM_TIME_FORMAT-}|$OWN|$d$id$code$job$results" >> "$0/$1"';
beforeEach(async () => {
  const run = ["/bin/sh", "-c", PROGRAM, runs, "{{ message.id }}"];
  site = new TestSite(
    [{ name: "t", on: { technique: "t" }, run }],
    { worker: { reconcileSeconds: 1 }, ssh: { connectTimeoutMs: 3_000 } },
    own,
  );
  // A fresh connection each time: start files are read when a shell is started.
  await site.startWorker();
});
afterEach(async () => {
  await site.tearDown();
  const bin = placesOf(own.facility.dir).bin;
  for (const name of readdirSync(bin)) rmSync(join(bin, name), { recursive: true });
  rmSync(bashrc(), { force: true });
  setShell("/bin/bash");
});

const bashrc = () => join(placesOf(own.facility.dir).homes, own.beamtime.account, ".bashrc");
/** A server that is stopped would never end. */
const CONTINUED = "(sleep 30; kill -CONT $PPID) > /dev/null 2>&1 &";
const setShell = (shell: string) => spawnSync(...there("usermod", ["-s", shell, own.beamtime.account]));

/** Puts a program in front of the real one; `REAL` in it is the real one. */
function standIn(program: string, script: string): string {
  const file = join(placesOf(own.facility.dir).bin, program);
  writeFileSync(file, `#!/bin/sh\n${script.replaceAll("REAL", `/usr/bin/${program}`)}\n`);
  chmodSync(file, 0o755);
  return file;
}

async function publish(): Promise<string> {
  const message = { path: writeOnCore("data\n", own), technique: "t" };
  return (await publishDataReady(await site.client(), message, { id: randomUUID() })).id;
}

/** The message's program has run once, Slurm has had one job for it, and it is that job that was announced. */
async function runsOnce(id: string, within = 90_000): Promise<string> {
  const { data } = await site.event("job.completed", id, within);
  const jobs = askSlurm(own.facility, "squeue", "--array", "--noheader", "--states=all", "--format=%i %k")
    .split("\n")
    .filter((line) => line.endsWith(` mento:${data.job.id}`));
  expect(jobs).toEqual([`${data.slurm.jobId} mento:${data.job.id}`]);
  const lines = readFileSync(join(runs, id), "utf8");
  expect(lines.split("\n")).toHaveLength(2);
  return lines.trim();
}

describe("a program runs once, though sbatch", () => {
  it.each([
    [
      "is ended by our own timeout, and Slurm has the job 3 s later",
      "Slurm temporarily unable to accept job, sleeping and retrying.",
      124,
    ],
    [
      "ends by a signal with the words of a refusal",
      "Batch job submission failed: Invalid feature specification",
      143,
    ],
    [
      "says in another line what a refusal says",
      "motd: Invalid account; Invalid partition name specified",
      1,
    ],
  ])("%s", async (_, said, code) => {
    const copy = join(runs, `${randomUUID()}.sh`);
    standIn(
      "sbatch",
      `for script in "$@"; do :; done
cp "$script" ${copy} || exit
(sleep 3; exec REAL "$@") > /dev/null 2>&1 < /dev/null &
echo 'sbatch: error: ${said}' >&2
exit ${code}`,
    );
    const id = await publish();
    await runsOnce(id);
  });

  it("says no known reason, in words like a refusal's, and submits 25 s later", async () => {
    const copy = join(runs, `${randomUUID()}.sh`);
    const later = '(sleep 25; exec REAL "$@") > /dev/null 2>&1 < /dev/null &';
    const words = "echo 'sbatch: error: Invalid --x specification\nsbatch: error: queued for later' >&2";
    standIn("sbatch", `for script in "$@"; do :; done\ncp "$script" ${copy}; ${later}\n${words}\nexit 1`);
    await runsOnce(await publish(), 150_000);
  });

  it.each([
    [
      "greets before and after",
      'echo "Welcome"; echo; echo "2 jobs of yours are pending"; REAL "$@"; echo "bye 3"',
    ],
    ["tells of another job first", 'echo 17; echo "Submitted batch job $(REAL "$@")"'],
    ["says several numbers", 'echo 2; REAL "$@"; echo "3;maxwell"'],
    ["says no number", 'REAL "$@" > /dev/null'],
    ["says it in words", 'echo "Submitted batch job $(REAL "$@")"'],
    ["names a cluster", 'id=$(REAL "$@") && echo "$id;mento"'],
    ["leaves a program behind that holds its outputs for long", 'sleep 100 &\nREAL "$@"'],
  ])("%s", async (_, script) => {
    standIn("sbatch", script);
    const ids = await Promise.all([publish(), publish()]);
    await Promise.all(ids.map((id) => runsOnce(id)));
  });
});

it("all of Slurm's programs may greet", async () => {
  for (const program of ["squeue", "scontrol", "sinfo", "sacct", "scancel"]) {
    standIn(
      program,
      'echo "12 users on 3 nodes | be nice"; echo "mento:submitted 1"; REAL "$@"; code=$?; echo 7; exit $code',
    );
  }
  await runsOnce(await publish());
});

it("Slurm's programs that hang are Slurm's trouble, not the node's, and none is left behind", async () => {
  for (const program of ["squeue", "scontrol", "sinfo"]) standIn(program, "exec sleep 4321");
  const id = await publish();
  await eventually(
    "Slurm is named",
    () => site.workers[0]?.log.includes('"slurm-unavailable"') || undefined,
    60_000,
  );
  expect(site.workers[0]?.log).not.toContain('"ssh-lost"');
  for (const program of ["squeue", "scontrol", "sinfo"]) rmSync(standIn(program, ""));
  await runsOnce(id);
  const isLeft = () => spawnSync(...there("pgrep", ["-f", "^sleep 4321$"])).status === 0;
  await eventually("none is left", () => (isLeft() ? undefined : true), 30_000);
});

it("the account's environment changes neither what Slurm does nor what it says, and its programs get it all the same", async () => {
  const exports = [
    ...["SBATCH_ARRAY_INX=1-3", "SBATCH_WAIT=1", "SBATCH_COMMENT=x", "SBATCH_JOB_NAME=x", "SBATCH_DEBUG=5"],
    ...[
      "SBATCH_TEST_ONLY=1",
      "SLURM_DEBUG_FLAGS=all",
      "SLURM_CLUSTERS=other",
      "SLURM_TIME_FORMAT=%y",
      "SLURM_EXIT_ERROR=0",
    ],
    ...["SQUEUE_STATES=SUSPENDED", "SQUEUE_USERS=nobody", "SQUEUE_FORMAT=%j", "SQUEUE_PARTITION=none"],
    ...["SCANCEL_STATE=SUSPENDED", "SINFO_FORMAT=%P", "SINFO_PARTITION=none", "SACCT_FORMAT=JobName"],
    ...[
      "LC_ALL=de_DE.UTF-8",
      "TZ=Asia/Tokyo",
      "QUOTING_STYLE=c",
      "POSIXLY_CORRECT=1",
      "CDPATH=/:/tmp",
      "OWN=kept",
      // Our scripts have variables of these names.
      ...[
        "d=1",
        "m=1",
        "id=2",
        "code=3",
        "lines=x",
        "line=x",
        "job=4",
        "results=5",
        "array=x",
        "turn=x",
        "directory=x",
      ],
      ...["SHELLOPTS", "UID"],
    ],
  ];
  writeFileSync(bashrc(), `echo Hello; ${exports.map((one) => `export '${one}'`).join("\n")}\nset -x\n`);
  expect(await runsOnce(await publish())).toBe("de_DE.UTF-8||kept|12345");
});

describe("a login shell", () => {
  it.each([
    ["greets without an end of line, and says goodbye", "printf 'Welcome'; trap 'echo bye' EXIT"],
    ["becomes another shell, which reads our commands", "exec bash --norc"],
    ["leaves a program that holds its outputs", "sleep 120 &"],
    ["sends errors to stdout", "exec 2>&1"],
  ])("that %s does no harm", async (_, start) => {
    writeFileSync(bashrc(), start);
    await runsOnce(await publish());
  });

  it.each([
    ["ends at once", "exit 0", /runs no command/],
    ["says why it ends", "echo 'Only for the beamline staff'; exit 1", /Only for the beamline staff/],
    ["greets, and reads what was meant for us", "echo Hello; cat > /dev/null", /Hello/],
  ])("that %s is named, not Slurm, and the message waits", async (_, start, said) => {
    writeFileSync(bashrc(), start);
    const id = await publish();
    const { data } = await site.event("message.deferred", id, 150_000);
    expect(data.error).toMatchObject({ code: "login-shell" });
    expect(data.error?.message).toMatch(said);
    rmSync(bashrc());
    await runsOnce(id, 120_000);
  });

  it.each([
    ["kills what serves its connection", "kill -9 $PPID; sleep 1"],
    ["stops what serves its connection", `${CONTINUED}\nkill -STOP $PPID; sleep 1`],
    ["kills itself", "kill -9 $$"],
    ["says nothing", "exec sleep 120"],
    ["prints without end", "yes"],
  ])(
    "that %s keeps no worker from starting and ending",
    async (_, start) => {
      await site.workers[0]?.stop();
      writeFileSync(bashrc(), start);
      const worker = await site.startWorker();
      expect(worker.log).toMatch(/"code":"login-shell","hint":"[^"]*\.bashrc/);
      const id = await publish();
      const { data } = await site.event("message.deferred", id);
      expect(data.error).toMatchObject({ code: "login-shell" });
      // One is in hand.
      const other = await publish();
      expect(await worker.stop()).toBe(0);
      rmSync(bashrc());
      await site.startWorker();
      await runsOnce(id, 120_000);
      await runsOnce(other, 120_000);
    },
    300_000,
  );

  it("that is nologin is named in its own words", async () => {
    // An open connection has the login shell that there was when it was made.
    await site.workers[0]?.stop();
    setShell("/usr/sbin/nologin");
    await site.startWorker();
    const id = await publish();
    const { data } = await site.event("message.deferred", id);
    expect(data.error).toMatchObject({ code: "login-shell" });
    expect(data.error?.message).toContain("This account is currently not available");
    setShell("/bin/bash");
    await runsOnce(id, 120_000);
  });
});

it.each(["size=4k,nr_inodes=40", "ro"])(
  "a folder for jobs on a file system with %s is named, and the message waits",
  async (options) => {
    const scratch = join(own.beamtime.corePath, "scratch_cc");
    const folder = join(scratch, "mento");
    mkdirSync(folder, { recursive: true });
    const mounted = spawnSync(
      ...there("mount", ["-t", "tmpfs", "-o", `${options},mode=777`, "none", folder]),
    );
    expect(mounted.status).toBe(0);
    try {
      if (options !== "ro") writeFileSync(join(folder, "full"), Buffer.alloc(4096));
      const id = await publish();
      const { data } = await site.event("message.deferred", id);
      expect(data.error).toMatchObject({ code: "folder-not-writable" });
      expect(data.error?.message).toMatch(/No space left on device|Read-only file system/);
      if (options === "ro") spawnSync(...there("mount", ["-o", "remount,rw", folder]));
      else rmSync(join(folder, "full"));
      expect(existsSync(folder)).toBe(true);
      if (options === "ro") await runsOnce(id, 120_000);
    } finally {
      await site.tearDown();
      await eventually(
        "unmounted",
        () => spawnSync(...there("umount", ["-l", folder])).status === 0 || undefined,
      );
    }
  },
);

it("a disk that fills between submit and start is said, and the program does not run", async () => {
  const folder = join(own.beamtime.corePath, "scratch_cc/mento");
  mkdirSync(folder, { recursive: true });
  const mounted = spawnSync(...there("mount", ["-t", "tmpfs", "-o", "size=1m,mode=777", "none", folder]));
  expect(mounted.status).toBe(0);
  const partitions = askSlurm(own.facility, "sinfo", "--noheader", "--format=%R").trim().split(/\s+/);
  const set = (state: string) => {
    for (const one of partitions)
      askSlurm(own.facility, "scontrol", "update", `PartitionName=${one}`, `State=${state}`);
  };
  try {
    set("DOWN");
    const id = await publish();
    await site.event("job.submitted", id);
    // It fills all there is: writing ends with an error.
    spawnSync("dd", ["if=/dev/zero", `of=${join(folder, "full")}`, "bs=4k"]);
    set("UP");
    const { data } = await site.event("job.failed", id);
    expect(data).toMatchObject({ exit: { code: null, reason: "not-prepared" }, times: { started: null } });
    expect(data.error?.message).toContain("its program did not run");
    expect(existsSync(join(runs, id))).toBe(false);
    rmSync(join(folder, "full"));
    await runsOnce(await publish());
  } finally {
    set("UP");
    await site.tearDown();
    await eventually(
      "unmounted",
      () => spawnSync(...there("umount", ["-l", folder])).status === 0 || undefined,
    );
  }
});
