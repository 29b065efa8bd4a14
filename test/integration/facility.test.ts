import {
  existsSync,
  mkdtempSync,
  chmodSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { connect } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { type Ended, mento, run, tryMento } from "../support/mento.ts";

interface Up {
  dir: string;
  broker: { url: string; managementUrl: string; user: string; password: string };
  slurm: { conf: string; restUrl: string; nodes: { name: string; features: string[]; port: number }[] };
  ssh: { address: string; port: number; knownHosts: string; hostKeyFingerprint: string };
  sync: { delaySeconds: number };
  pids: Record<string, number>;
}

interface Started {
  account: string;
  nodes: string[];
  corePath: string;
  metadataFile: string;
  privateKey: string;
}

const ID = "11010077";
const parent = mkdtempSync(join(tmpdir(), "facility-"));
const [one, two] = [join(parent, "one"), join(parent, "two")];
chmodSync(parent, 0o755);

const up = async (dir: string) =>
  JSON.parse((await mento("facility", "up", "--dir", dir, "--json")).stdout) as Up;
const names = (dir: string) => ["--dir", dir, "--beamtimeId", ID, "--beamline", "p11"];
const TWO_NODES = ["--online", "--resources", "dedicated", "--nodes", "2"];
const start = async (dir: string) => {
  const ended = await mento("facility", "start-beamtime", ...names(dir), ...TWO_NODES, "--json");
  return JSON.parse(ended.stdout) as Started;
};

/** Every process that has to do with this directory, zombies left out: /proc shows no files of theirs. */
function processesOf(dir: string): string[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name) && name !== String(process.pid));
  return pids.filter((pid) => {
    try {
      const about = ["cmdline", "environ"].map((name) => readFileSync(`/proc/${pid}/${name}`, "utf8"));
      return about.some((text) => text.includes(`${dir}/`));
    } catch {
      return false;
    }
  });
}

function overSsh(facility: Up, beamtime: Started, command: string): Promise<Ended> {
  return run("ssh", [
    ...["-F", "/dev/null", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"],
    ...["-o", `UserKnownHostsFile=${facility.ssh.knownHosts}`, "-i", beamtime.privateKey],
    ...["-p", String(facility.ssh.port), `${beamtime.account}@${facility.ssh.address}`, command],
  ]);
}

async function overview({ broker }: Up): Promise<number> {
  const authorization = `Basic ${Buffer.from(`${broker.user}:${broker.password}`).toString("base64")}`;
  return (await fetch(`${broker.managementUrl}/api/overview`, { headers: { authorization } })).status;
}

async function nodesOf({ slurm }: Up): Promise<string[]> {
  const listing = await run("sinfo", ["-h", "-N", "-o", "%N %f"], { env: { SLURM_CONF: slurm.conf } });
  return listing.stdout.trim().split("\n").sort();
}

describe("mento facility", () => {
  let first: Up;
  let second: Up;
  let beamtime: Started;

  beforeAll(async () => {
    [first, second] = await Promise.all([up(one), up(two)]);
  });

  afterAll(async () => {
    for (const dir of [one, two]) await tryMento(["facility", "down", "--dir", dir]);
    rmSync(parent, { recursive: true, force: true });
  });

  it("runs two facilities side by side", async () => {
    expect(await Promise.all([overview(first), overview(second)])).toEqual([200, 200]);
    const nodes = [
      ...["max-display001 cpu,shared"],
      ...[
        "max-p11-001 AP,cpu",
        "max-p11-002 AP,AC,cpu",
        "max-p11-003 AC,gpu,A100",
        "max-p11-004 AC,gpu,H100",
      ],
      ...["max-wn001 cpu", "max-wn002 cpu", "max-wn003 gpu,P100"],
    ];
    expect(await nodesOf(first)).toEqual(nodes);
    expect(await nodesOf(second)).toEqual(nodes);
    const rest = [first, second].map(({ slurm }) => fetch(`${slurm.restUrl}/openapi/v3`));
    expect((await Promise.all(rest)).map(({ status }) => status)).toEqual([401, 401]);
    const scan = await run("ssh-keyscan", ["-t", "ed25519", "-p", String(first.ssh.port), "127.0.0.1"]);
    expect(readFileSync(first.ssh.knownHosts, "utf8")).toContain(scan.stdout.trim().split("\n").at(-1));
    expect(first.ssh.hostKeyFingerprint).toMatch(/^SHA256:/);
    expect(statSync(join(one, "facility.json")).mode & 0o777).toBe(0o600);
  });

  it("runs without RabbitMQ where another is used, also when it is brought up again", async () => {
    const dir = join(parent, "no-broker");
    for (const more of [["--no-broker"], []]) {
      const { stdout } = await mento("facility", "up", "--dir", dir, "--json", ...more);
      const { broker, pids } = JSON.parse(stdout) as { broker: unknown; pids: Record<string, number | null> };
      expect(broker).toBeNull();
      expect(Object.keys(pids)).not.toContain("rabbitmq");
      expect(Object.values(pids)).not.toContain(null);
    }
    const { parts, running } = JSON.parse(
      (await mento("facility", "status", "--dir", dir, "--json")).stdout,
    ) as { parts: { name: string }[]; running: boolean };
    expect(running).toBe(true);
    expect(parts.map(({ name }) => name)).not.toContain("epmd");
    await mento("facility", "down", "--dir", dir);
  });

  it("changes nothing when it is up already", async () => {
    expect(await up(one)).toEqual(first);
  });

  it("starts again only what is missing", async () => {
    process.kill(first.pids["sshd"] ?? 0, "SIGKILL");
    await vi.waitFor(
      async () => {
        expect((await tryMento(["facility", "status", "--dir", one])).code).toBe(1);
      },
      { timeout: 20_000 },
    );
    const again = await up(one);
    expect({ ...again.pids, sshd: 0 }).toEqual({ ...first.pids, sshd: 0 });
    expect(again.ssh).toEqual(first.ssh);
    expect((await tryMento(["facility", "status", "--dir", one])).code).toBe(0);
  });

  it("says that there is no facility in another directory", async () => {
    const ended = await tryMento(["facility", "status", "--dir", join(parent, "three")]);
    expect(ended.code).toBe(3);
    expect(ended.stderr).toContain("facility-not-up");
  });

  it("recovers from a kill of everything, with beamtime, job and ports", async () => {
    const beamtime = await start(two);
    const sbatch = `sbatch --parsable --reservation=${ID} --output=/dev/null --wrap "sleep 300"`;
    const submitted = await overSsh(second, beamtime, sbatch);
    const submittedAt = Date.now();
    // slurmctld writes down its jobs a few seconds later, and forgets the younger ones when it is killed.
    const jobState = join(two, "slurm/ctld/job_state");
    await vi.waitFor(() => expect(statSync(jobState).mtimeMs).toBeGreaterThan(submittedAt), {
      timeout: 15_000,
    });
    for (const pid of Object.values(second.pids)) process.kill(pid, "SIGKILL");
    writeFileSync(join(two, "gpfs/current/raw/meanwhile.h5"), "data");
    const again = await up(two);
    expect({ ...again, pids: null }).toEqual({ ...second, pids: null });
    expect(await overview(again)).toBe(200);
    await vi.waitFor(() => expect(existsSync(join(beamtime.corePath, "raw/meanwhile.h5"))).toBe(true), {
      timeout: 20_000,
    });
    const queue = await overSsh(again, beamtime, "squeue --noheader --format=%A");
    expect(queue.stdout.trim()).toBe(submitted.stdout.trim());
  });

  it("leaves no process and no account behind when it goes down, but all data", async () => {
    // Its session outlives the server, and waits for a login.
    const { ssh, pids } = await up(two);
    const { stdout: accounts } = await run("cat", ["/etc/passwd"]);
    const own = accounts.split("\n").find((line) => line.includes(`:mento facility ${two}:`)) ?? "";
    const [account = "", , number = ""] = own.split(":");
    const stranger = connect(ssh.port, ssh.address).on("error", () => undefined);
    const isClosed = new Promise((resolve) => stranger.once("close", resolve));
    await new Promise((resolve) => stranger.once("data", resolve));
    process.kill(pids["sshd"] ?? 0, "SIGKILL");
    // An account may leave what is always another process: it starts itself again and ends, 200 times a second.
    const comet = "use POSIX; while (1) { exit if fork; setsid; select undef, undef, undef, 0.005 }";
    const { code, stderr } = await run("runuser", [
      ...["-u", account, "--", "sh", "-c", 'exec perl -e "$0" >/dev/null 2>&1 </dev/null', comet],
    ]);
    expect([code, stderr]).toEqual([0, ""]);
    await mento("facility", "down", "--dir", two);
    // Those that have ended wait for whoever takes note of it.
    const states = (await run("ps", ["-U", number, "-o", "stat="])).stdout.split("\n");
    expect(states.filter((state) => /^[^ZX]/.test(state))).toEqual([]);
    await isClosed;
    expect(processesOf(two)).toEqual([]);
    expect((await run("cat", ["/etc/passwd"])).stdout).not.toContain(`mento facility ${two}:`);
    await mento("facility", "down", "--dir", two);
    expect(await overview(first)).toBe(200);
    expect(existsSync(join(two, "gpfs/current/raw/meanwhile.h5"))).toBe(true);
  });

  it("opens a beamtime whose account can log in and submit into the reservation", async () => {
    beamtime = await start(one);
    const metadata = JSON.parse(
      readFileSync(join(one, "gpfs/current", `beamtime-metadata-${ID}.json`), "utf8"),
    ) as {
      corePath: string;
      onlineAnalysis: { reservedNodes: string[]; userAccount: string };
    };
    expect(metadata.corePath).toBe(beamtime.corePath);
    expect(metadata.onlineAnalysis.reservedNodes).toEqual(beamtime.nodes);
    expect(beamtime.nodes).toHaveLength(2);
    expect(beamtime.account === userInfo().username).toBe(userInfo().uid !== 0);
    for (const root of [join(one, "beamline/p11/current"), beamtime.corePath]) {
      expect(statSync(join(root, "shared/id_rsa")).mode & 0o777).toBe(0o600);
    }

    const output = join(beamtime.corePath, "processed/who.txt");
    const job = await overSsh(
      first,
      beamtime,
      `sbatch --wait --reservation=${ID} --comment=mento:x --output=${output} --wrap 'id -un; echo $SLURMD_NODENAME' && squeue --noheader --states=all --format=%k`,
    );
    expect(job.stderr).toBe("");
    expect(job.stdout).toContain("mento:x");
    const [user, node] = readFileSync(output, "utf8").split("\n");
    expect(user).toBe(beamtime.account);
    expect(beamtime.nodes).toContain(node);
  });

  it("takes logins, too, after many that were refused", async () => {
    for (let login = 0; login < 5; login++) {
      const { stderr } = await overSsh(first, { ...beamtime, account: "nobody" }, "true");
      expect(stderr).toContain("Permission denied");
    }
    expect((await overSsh(first, beamtime, "id -un")).stdout).toBe(`${beamtime.account}\n`);
  });

  it("kills a job that takes more memory than it asked for, and no job that did not ask", async () => {
    const output = join(beamtime.corePath, "processed/memory.txt");
    // `tail` keeps 300 MB without a line end, and holds them while nobody reads what it prints.
    const greedy = "head -c 300M /dev/zero | tail | sleep 8";
    const submit = `sbatch --wait --reservation=${ID} --output=${output} --open-mode=append`;
    const [killed, left] = await Promise.all([
      overSsh(first, beamtime, `${submit} --mem=20M --wrap '${greedy}'; echo "exit $?"`),
      overSsh(first, beamtime, `${submit} --wrap '${greedy}'; echo "exit $?"`),
    ]);
    expect(killed.stdout).not.toContain("exit 0");
    expect(left.stdout).toContain("exit 0");
    expect(readFileSync(output, "utf8")).toContain("exceeded memory limit");
  });

  it("refuses a second beamtime while one is open", async () => {
    const other = ["--dir", one, "--beamtimeId", "11010078", "--beamline", "p11"];
    const ended = await tryMento(["facility", "start-beamtime", ...other, "--online"]);
    expect(ended.code).toBe(1);
    expect(ended.stderr).toContain("facility-beamtime");
  });

  it.each([
    ["../x", "p11"],
    ["1101 0000", "p11"],
    ["11010000", "../p11"],
    ["11010000", "P11;id"],
  ])("refuses the id %j at beamline %j", async (id, beamline) => {
    const odd = ["--dir", one, "--beamtimeId", id, "--beamline", beamline];
    expect((await tryMento(["facility", "start-beamtime", ...odd])).code).toBe(2);
  });

  it("stops a beamtime with its jobs; the data stays on the core file system", async () => {
    const job = await overSsh(
      first,
      beamtime,
      `sbatch --reservation=${ID} --output=/dev/null --wrap "sleep 300"`,
    );
    expect(job.stdout).toContain("Submitted");
    writeFileSync(join(one, "gpfs/current/raw/last.h5"), "last");
    const env = { SLURM_CONF: first.slurm.conf };
    const { corePath } = beamtime;
    const ended = await mento("facility", "stop-beamtime", ...names(one), "--verbose");
    expect(ended.stdout).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} > {2}\[Beamline File System\]-+\n/);
    expect(ended.stdout).toContain("Beamtime has been stopped.");
    expect(readFileSync(join(corePath, "raw/last.h5"), "utf8")).toBe("last");
    expect(readFileSync(join(corePath, "processed/who.txt"), "utf8")).not.toBe("");
    expect(existsSync(join(one, "gpfs/current"))).toBe(false);
    expect((await run("scontrol", ["show", "reservation"], { env })).stdout).toContain("No reservations");
    expect((await run("squeue", ["--noheader"], { env })).stdout).toBe("");
    const again = await tryMento(["facility", "stop-beamtime", ...names(one)]);
    expect(again.code).toBe(1);
    expect(again.stderr).toContain("facility-beamtime");
  });

  it("opens a beamtime without online resources", async () => {
    await mento("facility", "start-beamtime", ...names(one));
    const metadata = readFileSync(join(one, "gpfs/current", `beamtime-metadata-${ID}.json`), "utf8");
    expect(JSON.parse(metadata)).not.toHaveProperty("onlineAnalysis");
    await mento("facility", "stop-beamtime", ...names(one));
  });
});
