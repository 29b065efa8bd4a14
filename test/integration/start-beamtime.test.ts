import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { type Ended, mento, run, tryMento } from "../support/mento.ts";

interface Reservation {
  name: string;
  partition: string;
  nodes: string[];
}

interface Started {
  id: string;
  account: string;
  reservation: string;
  nodes: string[];
  reservations: Reservation[];
  privateKey: string;
  corePath: string;
  beamlinePath: string | null;
  metadataFile: string;
}

const parent = mkdtempSync(join(tmpdir(), "beamtime-"));
const dir = join(parent, "f");
const env = { SLURM_CONF: join(dir, "slurm/slurm.conf") };
chmodSync(parent, 0o755);
let ssh: { address: string; port: number; knownHosts: string };

const facility = (command: string, ...options: string[]) =>
  tryMento(["facility", command, "--dir", dir, ...options]);
const named = (id: string) => ["--beamtimeId", id, "--beamline", "p11"];
const start = async (id: string, ...options: string[]) => {
  const ended = await mento("facility", "start-beamtime", "--dir", dir, ...named(id), ...options, "--json");
  return JSON.parse(ended.stdout) as Started;
};
const stop = (id: string) => mento("facility", "stop-beamtime", "--dir", dir, ...named(id));

/** The nodes of each reservation, as Slurm itself shows them. */
async function reserved(): Promise<Record<string, string>> {
  const shown = await run("scontrol", ["--oneliner", "show", "reservation"], { env });
  const found = [...shown.stdout.matchAll(/ReservationName=(\S+) .*? Nodes=(\S+)/g)];
  return Object.fromEntries(found.map(([, name = "", nodes = ""]) => [name, nodes]));
}

/** `<state> <reservation>` of a job. */
async function stateOf(job: string): Promise<string> {
  return (await run("squeue", ["--noheader", "--format=%t %v", "--job", job], { env })).stdout.trim();
}

function overSsh({ account, privateKey }: Started, command: string): Promise<Ended> {
  return run("ssh", [
    ...["-F", "/dev/null", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"],
    ...["-o", `UserKnownHostsFile=${ssh.knownHosts}`, "-i", privateKey],
    ...["-p", String(ssh.port), `${account}@${ssh.address}`, command],
  ]);
}

async function submit(started: Started, ...options: string[]): Promise<string> {
  const sbatch = ["sbatch --parsable --output=/dev/null", ...options, "--wrap 'sleep 300'"].join(" ");
  return (await overSsh(started, sbatch)).stdout.trim();
}

function metadataIn(root: string, name: string): Record<string, unknown> {
  return JSON.parse(readFileSync(join(root, name), "utf8")) as Record<string, unknown>;
}

beforeAll(async () => {
  const up = await mento("facility", "up", "--dir", dir, "--json", "--no-broker");
  ({ ssh } = JSON.parse(up.stdout) as { ssh: typeof ssh });
});

afterAll(async () => {
  await facility("down");
  rmSync(parent, { recursive: true, force: true });
});

describe("what start-beamtime refuses", () => {
  it.each([
    [["--online", "--feature", "H100"], "--resources dedicated"],
    [["--online", "--feature", "gpu&"], "constraint syntax"],
    [["--online", "--proposalType", "P"], "--resources dedicated"],
    [["--online", "--archive"], "--proposalType P"],
    [["--nodes", "2"], "--online"],
    [["--online", "--nodes", "9"], "max-wn003 (gpu,P100)"],
    [["--online", "--duration", "8"], "8h"],
  ])("%j, saying %j", async (options, hint) => {
    const ended = await facility("start-beamtime", ...named("1"), ...options);
    expect(ended.code).toBe(2);
    expect(ended.stderr).toContain("[wrong-usage]");
    expect(ended.stderr).toContain(hint);
    expect(existsSync(join(dir, "gpfs/current"))).toBe(false);
  });
});

describe("a beamtime with several reservations", () => {
  it.each([
    ["1:3", { a: "max-p11-001", a_1: "max-p11-[002-004]" }],
    ["1:1:1", { a: "max-p11-001", a_1: "max-p11-002", a_2: "max-p11-003" }],
  ])("of %s nodes with AP:AC has the nodes that leave enough for each", async (nodes, expected) => {
    const common = ["--online", "--resources", "dedicated", "--duration", "90s"];
    await start("a", ...common, "--nodes", nodes, "--features", "AP:AC");
    expect(await reserved()).toMatchObject(expected);
    await stop("a");
  });

  it("ends after its duration, to the second", async () => {
    const { metadataFile } = await start("b", "--online", "--duration", "90s");
    const shown = await run("scontrol", ["--oneliner", "show", "reservation", "b"], { env });
    expect(shown.stdout).toContain("Duration=00:01:30");
    const { eventStart, eventEnd } = JSON.parse(readFileSync(metadataFile, "utf8")) as Record<string, string>;
    const lasts = Date.parse(`${eventEnd}Z`) - Date.parse(`${eventStart}Z`);
    // It starts before its reservation is made.
    expect(lasts).toBeGreaterThanOrEqual(90_000);
    expect(lasts).toBeLessThan(180_000);
    await stop("b");
  });

  it("is undone when it cannot be started, down to the pre-start that was there", async () => {
    const before = await start("c", "--pre-start");
    const text = readFileSync(before.metadataFile, "utf8");
    writeFileSync(join(dir, "gpfs/current"), "in the way");
    const failed = await facility("start-beamtime", ...named("c"));
    expect(failed.code).toBe(1);
    expect(failed.stderr).toContain("Beamtime c could not be started");
    rmSync(join(dir, "gpfs/current"));
    expect(readFileSync(before.metadataFile, "utf8")).toBe(text);
    expect(Object.keys(await reserved()).filter((name) => name.startsWith("c"))).toEqual(["c_pre"]);
    expect((await overSsh(before, "id -un")).stdout.trim()).toBe(before.account);
    expect((await start("c")).nodes).toEqual(["max-wn001"]);
    await stop("c");
  });
});

describe("a pre-started beamtime", () => {
  const WANTED = ["--resources", "dedicated", "--nodes", "2:2", "--feature", "AP:AC"];
  const NAME = "beamtime-metadata-11010001.json";
  let before: Started;
  let now: Started;
  let waiting: string;

  it("is on the core file system only, with a reservation on the shared node", async () => {
    before = await start("11010001", "--pre-start", ...WANTED);
    expect(before).toMatchObject({ kind: "beamtime", beamlinePath: null, nodes: ["max-display001"] });
    expect(await reserved()).toEqual({ [before.reservation]: "max-display001" });
    expect(before.reservation).not.toBe("11010001");
    expect(before.metadataFile).toBe(join(before.corePath, NAME));
    expect(before.privateKey).toBe(join(before.corePath, "shared/id_rsa"));
    expect(existsSync(join(dir, "gpfs/current"))).toBe(false);
    expect(existsSync(join(dir, "beamline/p11/current"))).toBe(false);
    waiting = await submit(before, `--reservation=${before.reservation} --begin=now+3600`);
    expect(await stateOf(waiting)).toBe(`PD ${before.reservation}`);
  });

  it("needs its options again, and says which", async () => {
    const ended = await facility("start-beamtime", ...named("11010001"), "--resources", "dedicated");
    expect(ended.code).toBe(2);
    expect(ended.stderr).toContain("Repeat exactly these: --resources dedicated --feature AP:AC --nodes 2:2");
  });

  it("gets real nodes and other reservations when it starts, and keeps account and key", async () => {
    now = await start("11010001", ...WANTED);
    expect(now.account).toBe(before.account);
    expect(now.reservations).toEqual([
      { name: "11010001", partition: "ponline_p11", nodes: ["max-p11-001", "max-p11-002"] },
      { name: "11010001_1", partition: "ponline_p11", nodes: ["max-p11-003", "max-p11-004"] },
    ]);
    expect(await reserved()).toMatchObject({
      "11010001": "max-p11-[001-002]",
      "11010001_1": "max-p11-[003-004]",
    });
    for (const root of [join(dir, "gpfs/current"), join(dir, "beamline/p11/current")]) {
      expect(readFileSync(join(root, "shared/id_rsa"))).toEqual(readFileSync(before.privateKey));
      expect(statSync(join(root, "shared/id_rsa")).mode & 0o777).toBe(0o600);
      expect(metadataIn(root, NAME)).toEqual(metadataIn(now.corePath, NAME));
    }
    expect(metadataIn(now.corePath, NAME)).toHaveProperty("onlineAnalysis.slurmReservation", [
      "11010001",
      "11010001_1",
    ]);
    expect(await stateOf(await submit(now, "--reservation=11010001_1 --constraint=H100"))).toMatch(
      /11010001_1/,
    );
  });

  it("is open beside a commissioning run of the same beamline", async () => {
    const options = ["--tag", "apr_22", "--beamline", "p11", "--online", "--json"];
    const run = JSON.parse((await facility("start-commissioning", ...options)).stdout) as Started;
    expect(run.id).toMatch(/^c\d{8}_000_apr_22$/);
    expect(run).toMatchObject({ kind: "commissioning", reservation: run.id, nodes: ["max-wn001"] });
    expect(
      metadataIn(join(dir, "gpfs/commissioning"), `commissioning-metadata-${run.id}.json`),
    ).toMatchObject({
      beamline: "P11",
      id: run.id,
      tag: "apr_22",
      corePath: run.corePath,
      onlineAnalysis: { slurmReservation: run.id, reservedNodes: ["max-wn001"], userAccount: run.account },
    });
    writeFileSync(join(dir, "beamline/p11/commissioning/raw/run.dat"), "run");
    writeFileSync(join(dir, "gpfs/current/raw/last.dat"), "last");
    await vi.waitFor(() => expect(readFileSync(join(run.corePath, "raw/run.dat"), "utf8")).toBe("run"), {
      timeout: 20_000,
    });
    const second = await facility("start-commissioning", "--tag", "b", "--beamline", "p11");
    expect(second.stderr).toContain("facility-beamtime");
    const other = await facility("start-beamtime", ...named("11010009"));
    expect(other.stderr).toContain("Stop it first");
  });

  it("has its account again after the facility was brought up", async () => {
    const third = await start("11010003", "--pre-start");
    // An ordinary user cannot make accounts: there the jobs run as that user.
    if (third.account !== userInfo().username) await run("userdel", [third.account]);
    await mento("facility", "up", "--dir", dir);
    expect((await overSsh(third, "id -un")).stdout.trim()).toBe(third.account);
    const status = await facility("status");
    for (const line of [
      "11010001 at p11 is open",
      "11010003 at p11 is pre-started",
      "_apr_22 at p11 is open",
    ]) {
      expect(status.stdout).toContain(line);
    }
    expect(status.stdout).toMatch(/reservation 11010001_1 for \S+ until .* max-p11-003, max-p11-004/);
  });

  it("can be stopped without ever having been started", async () => {
    const { corePath } = await start("11010004", "--pre-start", "--asapo");
    await stop("11010004");
    expect(Object.keys(await reserved())).not.toContain("11010004_pre");
    expect(existsSync(join(corePath, "shared/id_rsa"))).toBe(true);
    expect((await facility("stop-beamtime", ...named("11010004"))).code).toBe(1);
  });

  it("has left the jobs that waited for the pre-start's reservation held by Slurm", async () => {
    await vi.waitFor(async () => expect(await stateOf(waiting)).toBe("RD (null)"), {
      timeout: 60_000,
      interval: 500,
    });
  });

  it("leaves its data and its key on the core file system when it is stopped, and the commissioning run open", async () => {
    await stop("11010001");
    expect(Object.keys(await reserved())).not.toContain("11010001_1");
    expect(readFileSync(join(now.corePath, "raw/last.dat"), "utf8")).toBe("last");
    expect(existsSync(join(dir, "gpfs/current"))).toBe(false);
    expect(existsSync(join(dir, "gpfs/commissioning"))).toBe(true);
    expect((await overSsh(before, "true")).stderr).toContain("Permission denied");
    await mento("facility", "stop-commissioning", "--dir", dir, "--beamline", "p11", "--tag", "apr_22");
    expect(existsSync(join(dir, "gpfs/commissioning"))).toBe(false);
  });

  it("keeps the pre-start's reservation as long as jobs run in it, until it is stopped", async () => {
    const other = await start("11010005", "--pre-start");
    const running = await submit(other, `--reservation=${other.reservation}`);
    await vi.waitFor(async () => expect(await stateOf(running)).toBe("R 11010005_pre"), { timeout: 20_000 });
    await start("11010005", "--online", "--asapo");
    expect(Object.keys(await reserved())).toEqual(expect.arrayContaining(["11010005", "11010005_pre"]));
    expect(await stateOf(running)).toBe("R 11010005_pre");
    const roots = [join(dir, "gpfs/current"), other.corePath];
    for (const token of ["shared/asapo-token.txt", "shared/asapo-token-clbt.txt"]) {
      const [beamline, core] = roots.map((root) => readFileSync(join(root, token), "utf8"));
      expect(beamline).toMatch(/^\w{64}\n$/);
      expect(core).toBe(beamline);
      expect((await overSsh(other, `cat ${join(other.corePath, token)}`)).stdout).toBe(core);
    }
    expect(metadataIn(other.corePath, "beamtime-metadata-11010005.json")).toHaveProperty("asapo");
    await stop("11010005");
    expect(Object.keys(await reserved()).filter((name) => name.startsWith("11010005"))).toEqual([]);
    expect(await stateOf(running)).toBe("");
  });
});
