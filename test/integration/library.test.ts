import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { slurmRestSection } from "../support/submit-host.ts";
import {
  findSession,
  resultsPath,
  toCorePath,
  toNodePath,
  Trigger,
  TriggerMethod,
  type TriggerOptions,
} from "../../src/index.ts";
import type { JobEventData } from "../../src/messages/job-event.ts";
import { beamtime, eventually, facility, TestSite } from "../support/site.ts";
import { LIBRARY, runNode, tryMento } from "../support/mento.ts";
import { askSlurm } from "../support/servers.ts";

const localJobs = mkdtempSync("/tmp/mento-library-");
const site = new TestSite([], { site: { localJobs } });
const withRest = new TestSite([], { slurmRest: slurmRestSection() });
const opened: Trigger[] = [];
const open = (method?: TriggerMethod, options: TriggerOptions = {}) => {
  const trigger = new Trigger(method, { config: site.configFile, ...options });
  opened.push(trigger);
  return trigger;
};
afterAll(async () => {
  await Promise.all(opened.map((trigger) => trigger.close()));
  await site.tearDown();
  await withRest.tearDown();
});

/** Prints its arguments, one a line. */
const PROGRAM = join(beamtime.corePath, "shared/maxwell_program.sh");
mkdirSync(join(beamtime.corePath, "shared"), { recursive: true });
writeFileSync(PROGRAM, '#!/bin/sh\nprintf "%s\\n" "$@"\n');
chmodSync(PROGRAM, 0o755);

/** A script of the user's own for sbatch. */
function sbatchScript(lines: string[], body: string): string {
  const path = join(beamtime.corePath, "shared", `own-${Math.random().toString(36).slice(2)}.sh`);
  // Not executable: sbatch does not ask for that.
  writeFileSync(path, ["#!/bin/bash", ...lines.map((line) => `#SBATCH ${line}`), body, ""].join("\n"), {
    mode: 0o644,
  });
  return path;
}

describe("Trigger, without a broker", () => {
  it("is MENTO's minimum working example: beamline paths become core paths, and the end is told", async () => {
    const data = join(facility.roots.gpfs, "current/raw/s1/data.h5");
    const job = await open().run([PROGRAM, ["analysis", data]]);
    expect(job.slurmJobId).toMatch(/^\d+$/);
    const end = await job.ended();
    expect(end).toMatchObject({ state: "completed", exit: { code: 0 } });
    expect(readFileSync(join(job.directory, "job.log"), "utf8")).toBe(
      `analysis\n${join(beamtime.corePath, "raw/s1/data.h5")}\n`,
    );
  });

  it.each([
    [[`${PROGRAM} a 'b c'`], ["a", "b c"]],
    [
      [PROGRAM, ["a", "b c"]],
      ["a", "b c"],
    ],
    [
      [PROGRAM, "a", "b c", 7],
      ["a", "b c", "7"],
    ],
    [
      [PROGRAM, ["a", ["$(b)", "{{ path }}"]]],
      ["a", "$(b)", "{{ path }}"],
    ],
    [[PROGRAM], [""]],
  ])("takes the argument list %j", async (list, expected) => {
    const job = await open(TriggerMethod.REMOTE_COMMAND).run(list);
    await job.ended();
    expect(readFileSync(join(job.directory, "job.log"), "utf8")).toBe(
      expected.map((one) => `${one}\n`).join(""),
    );
  });

  it.each([[[]], [""], [["", "a"]], [["cmd 'a"]]])("refuses the argument list %j", async (list) => {
    await expect(open().run(list)).rejects.toMatchObject({ code: "wrong-usage" });
  });

  it("follows a job's log, its events and its start", async () => {
    const job = await open(TriggerMethod.LOCAL_BASH_SCRIPT).run([
      "/bin/sh",
      ["-c", "for i in 1 2 3; do echo é$i; sleep 0.5; done; exit 3"],
    ]);
    expect((await job.started()).job.state).not.toBe("submitted");
    const pieces: string[] = [];
    for await (const piece of job.logs()) pieces.push(piece);
    expect(pieces.join("")).toBe("é1\né2\né3\n");
    expect(pieces.length).toBeGreaterThan(1);
    const types: string[] = [];
    for await (const event of job.events()) types.push(event.type);
    expect(types).toEqual(["mento.job.submitted.v1", "mento.job.started.v1", "mento.job.failed.v1"]);
    expect((await job.ended()).exit).toEqual({ code: 3, signal: null, reason: "exit-code" });
  });

  it("writes the log where it is asked to, and names the job", async () => {
    const logFile = join(facility.roots.gpfs, "current/processed/logs/of it.log");
    const trigger = open();
    const job = await trigger.run([PROGRAM, "x"], { logFile, jobName: "my job", jobTime: "5" });
    await job.ended();
    expect(readFileSync(join(beamtime.corePath, "processed/logs/of it.log"), "utf8")).toBe("x\n");
    expect(job.data.job.name).toBe("my-job");
    const said = askSlurm(facility, "scontrol", "show", "job", job.slurmJobId ?? "");
    expect(said).toMatch(/JobName=my-job/);
    expect(said).toMatch(/TimeLimit=00:05:00/);
  });

  it("runs a job after the one that it depends on", async () => {
    const trigger = open();
    const first = await trigger.run(["/bin/sleep", "2"]);
    const second = await trigger.run([PROGRAM], { jobDependency: `afterok:${first.slurmJobId ?? ""}` });
    const { times } = await second.ended();
    const { times: before, state } = await first.ended();
    expect(state).toBe("completed");
    expect(Date.parse(times.started ?? "")).toBeGreaterThanOrEqual(Date.parse(before.ended ?? ""));
    await expect(trigger.run([PROGRAM], { jobDependency: "soon" })).rejects.toMatchObject({
      code: "wrong-usage",
    });
  });

  it("of one id makes one job", async () => {
    const trigger = open();
    const [one, other] = await Promise.all([
      trigger.run([PROGRAM, "1"], { id: "same" }),
      trigger.run([PROGRAM, "1"], { id: "same" }),
    ]);
    expect(other.slurmJobId).toBe(one.slurmJobId);
    expect((await other.ended()).state).toBe("completed");
    expect((await one.ended()).state).toBe("completed");
  });

  it.each(Object.values(TriggerMethod).filter((one) => one !== "local-sbatch-script"))(
    "cancels a job of %s, and tells one that has ended apart",
    async (method) => {
      const trigger = open(method, method === "slurm-rest-api" ? { config: withRest.configFile } : {});
      const job = await trigger.run(["/bin/sleep", "300"]);
      await job.started();
      expect(await job.cancel("enough")).toMatchObject({ outcome: "cancelled" });
      const end = await job.ended();
      expect(end).toMatchObject({ state: "cancelled", cancelledBy: { reason: "enough" } });
      expect(await job.cancel()).toMatchObject({ outcome: "gone", end: { state: "cancelled" } });
    },
  );

  it("cancels a job whose beamtime has been stopped meanwhile", async () => {
    const beamlineRoot = mkdtempSync(join(localJobs, "gpfs-"));
    const metadata = `beamtime-metadata-${beamtime.beamtimeId}.json`;
    mkdirSync(join(beamlineRoot, "current/shared"), { recursive: true });
    for (const file of [metadata, "shared/id_rsa"]) {
      copyFileSync(join(facility.roots.gpfs, "current", file), join(beamlineRoot, "current", file));
    }
    const job = await open(TriggerMethod.REMOTE_COMMAND, { beamlineRoot }).run(["/bin/sleep", "300"]);
    await job.started();
    rmSync(join(beamlineRoot, "current"), { recursive: true });
    expect(await job.cancel()).toMatchObject({ outcome: "cancelled" });
    expect((await job.ended()).state).toBe("cancelled");
  });

  it("keeps its connections for who reads the log of a job that has ended, and then lets the program end", async () => {
    const program = `
      import { Trigger } from ${JSON.stringify(LIBRARY)};
      const trigger = new Trigger("remote-command", { config: ${JSON.stringify(site.configFile)} });
      const job = await trigger.run(["/bin/sh", "-c", "head -c 3000000 /dev/zero"]);
      await job.ended();
      let bytes = 0;
      for await (const piece of job.logs()) {
        bytes += piece.length;
        await new Promise((resolve) => setTimeout(resolve, 700));
      }
      console.log(bytes, (await job.cancel()).outcome);`;
    const args = ["--input-type=module", "--eval", program];
    const { code, stdout } = await runNode(args, { cwd: localJobs });
    expect({ code, stdout }).toEqual({ code: 0, stdout: "3000000 gone\n" });
  });

  it("says what is missing when no beamtime is open", async () => {
    const config = new TestSite([], { site: { gpfs: localJobs, core: localJobs, localJobs } });
    await expect(open(undefined, { config: config.configFile }).run(["x"])).rejects.toMatchObject({
      code: "no-session-open",
    });
    const job = await open(TriggerMethod.LOCAL_BASH_SCRIPT, { config: config.configFile }).run([
      "/bin/echo",
      "here",
    ]);
    expect((await job.ended()).state).toBe("completed");
    await config.tearDown();
  });
});

describe("findSession", () => {
  const data = join(facility.roots.gpfs, "current/raw/s1/data.h5");

  it("says what the facility has given the session: folders, account, reservations", async () => {
    const session = await findSession({ config: site.configFile });
    expect(session).toMatchObject({
      kind: "beamtime",
      id: beamtime.beamtimeId,
      beamline: "p11",
      isOpen: true,
      online: { account: beamtime.account },
    });
    expect(session.online?.privateKey.file).toMatch(/shared\/id_rsa$/);
    expect(session.online?.reservations[0]?.name).toBe(beamtime.reservation);
    expect(session.metadataFile).toMatch(/beamtime-metadata-11010000\.json$/);
    const { roots } = session;
    expect(toCorePath(data, roots)).toBe(join(beamtime.corePath, "raw/s1/data.h5"));
    expect(toNodePath(data, roots)).toBe(join(facility.roots.beamline, "p11/current/raw/s1/data.h5"));
    expect(resultsPath(data, roots)).toBe(
      join(facility.roots.gpfs, "current/processed/onlineanalysis/s1/data_results.h5"),
    );
  });

  it("finds it by its id and by its data, and says if there is none", async () => {
    const config = site.configFile;
    const { id } = await findSession({ config, beamtimeId: beamtime.beamtimeId });
    expect((await findSession({ config, path: join(beamtime.corePath, "raw/x") })).id).toBe(id);
    await expect(findSession({ config, beamtimeId: "1" })).rejects.toMatchObject({
      code: "unknown-beamtime",
    });
    await expect(findSession({ config, beamlineRoot: localJobs })).rejects.toMatchObject({
      code: "no-session-open",
    });
  });
});

describe("a user's own sbatch script", () => {
  it("is submitted with its #SBATCH lines, and ours win where both say something", async () => {
    const script = sbatchScript(
      [
        "--time=00:07:00 --cpus-per-task=2",
        "-J mine",
        '--output="/nowhere/%j.log"',
        "-p nopartition # a comment",
        "--mail-type=NONE",
      ],
      'echo "$SLURM_CPUS_PER_TASK $1 $0"',
    );
    const job = await open().run([script, "a b"]);
    expect((await job.ended()).state).toBe("completed");
    const said = askSlurm(facility, "scontrol", "show", "job", job.slurmJobId ?? "");
    expect(said).toMatch(/CPUs\/Task=2/);
    expect(said).toMatch(new RegExp(`Reservation=${beamtime.reservation}`));
    expect(readFileSync(join(job.directory, "job.log"), "utf8")).toBe(`2 a b ${job.directory}/program\n`);
  });
});

describe("mento run", () => {
  const mentoRun = (...args: string[]) => tryMento(["run", "-c", site.configFile, ...args]);

  it("ends with the program's exit code and streams its output", async () => {
    const { code, stdout } = await mentoRun(
      "--follow",
      "--",
      "/bin/sh",
      "-c",
      "echo out; echo err >&2; exit 42",
    );
    expect(code).toBe(42);
    expect(stdout).toBe("out\nerr\n");
  });

  it("prints what the job writes to a log file, not what was there before", async () => {
    const log = join(beamtime.corePath, "processed/followed.log");
    mkdirSync(dirname(log), { recursive: true });
    writeFileSync(log, "of yesterday\n", { mode: 0o666 });
    chmodSync(log, 0o666);
    const { code, stdout } = await mentoRun("--follow", "--log", log, "--", "/bin/echo", "new");
    expect({ code, stdout }).toEqual({ code: 0, stdout: "new\n" });
    expect(readFileSync(log, "utf8")).toBe("of yesterday\nnew\n");
  });

  it("shows what would be submitted, and submits nothing", async () => {
    const script = sbatchScript(["--mail-type=NONE"], "true");
    const { code, stdout } = await mentoRun("--show", "--time", "00:10:00", "--", script, "it's");
    expect(code).toBe(0);
    expect(stdout).toContain(`--reservation=${beamtime.reservation}`);
    expect(stdout).toContain("--time=00:10:00");
    expect(stdout).toContain("#SBATCH --mail-type=NONE");
  });

  it("takes options behind the program for the program's", async () => {
    const { code, stdout } = await mentoRun("--follow", "/bin/echo", "--json", "-n", "a");
    expect({ code, stdout }).toEqual({ code: 0, stdout: "--json -n a\n" });
  });

  it("says where the output is, if nobody follows it", async () => {
    const { code, stderr } = await mentoRun("/bin/echo", "told");
    const [, log = ""] = /what it prints goes to (.*)/.exec(stderr) ?? [];
    expect({ code, text: readFileSync(log, "utf8") }).toEqual({ code: 0, text: "told\n" });
  });

  it("is announced, and found like all others: by the workers, also when nobody waits for it any more", async () => {
    await site.startWorker();
    const watched = await mentoRun("--json", "--", "/bin/echo", "watched");
    const left = await mentoRun("--json", "--no-wait", "--", "/bin/sh", "-c", "sleep 2; exit 3");
    const idOf = (stdout: string) =>
      JSON.parse(stdout.split("\n")[0] ?? "") as { data?: JobEventData; job?: { id: string } };
    const first = idOf(watched.stdout).data?.job.id ?? "";
    const second = idOf(left.stdout).job?.id ?? "";
    const end = await eventually("the workers announce its end", () =>
      site.events.find(({ type, data }) => type === "mento.job.failed.v1" && data.job.id === second),
    );
    expect([end.source, end.data.group, end.data.exit?.code]).toEqual(["/mento/default", "default", 3]);
    await eventually("and that of the first", () =>
      site.events.find(({ type, data }) => type === "mento.job.completed.v1" && data.job.id === first),
    );
    for (const id of [first, second]) {
      const types = site.events.filter(({ data }) => data.job.id === id).map(({ type }) => type);
      expect([types.length, types[0]]).toEqual([3, "mento.job.submitted.v1"]);
    }
    const traced = await tryMento(["trace", "-c", site.configFile, second]);
    expect(traced.stdout).toMatch(/^✕ mento_p11_\S+ failed: The program ended with exit code 3/);
  });

  it("runs all the same where the broker is away, and says that it is not announced", async () => {
    process.env["MENTO_BROKER_URL"] = "amqp://127.0.0.1:1";
    const running = mentoRun("--follow", "--", "/bin/echo", "ran");
    delete process.env["MENTO_BROKER_URL"];
    const { code, stdout, stderr } = await running;
    expect({ code, stdout }).toEqual({ code: 0, stdout: "ran\n" });
    expect(stderr).toMatch(/^mento: the job is not announced: RabbitMQ at 127\.0\.0\.1:1 cannot be reached/m);
  });

  it("starts a program of this host where it is called", async () => {
    writeFileSync(join(localJobs, "here.sh"), "#!/bin/sh\npwd\n", { mode: 0o755 });
    const args = ["run", "-c", site.configFile, "--method", "local-bash-script", "--follow", "./here.sh"];
    const { code, stdout } = await tryMento(args, { cwd: localJobs });
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${localJobs}\n` });
  });

  it.each([
    [["--"], /no program to run/],
    [["--json", "--follow", "--", "x"], /--json.* cannot be used with .*--follow/],
    [["--method", "slurm-rest-api", "--", "x"], /the configuration has no slurmRest/],
    [["-c", "/nowhere/mento.yaml", "--", "x"], /\/nowhere\/mento.yaml cannot be read/],
    [["--method", "remote", "--", "x"], /remote-sbatch-script/],
    [["--time", "2h", "--", "x"], /Slurm time/],
  ])("says what is wrong with %j", async (args, what) => {
    const { code, stderr } = await mentoRun(...args);
    expect(code).toBe(2);
    expect(stderr).toMatch(what);
  });

  it("without a configuration takes DESY's folders, and says what is not there", async () => {
    const { code, stderr } = await tryMento(["run", "--", "true"], { cwd: localJobs });
    expect(code).toBe(1);
    expect(stderr).toMatch(/No beamtime is open: there is no metadata file in \/gpfs\/current/);
    expect(stderr).not.toMatch(/message/i);
  });
});
