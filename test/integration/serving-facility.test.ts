import { spawn } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { chooseFreePorts } from "../../src/facility/ports.ts";
import { MAIN, mento, tryMento } from "../support/mento.ts";
import { eventually } from "../support/eventually.ts";
import { askSlurm, nodeThere, there } from "../support/servers.ts";
import type { TestBeamtime, TestFacility } from "../support/shared-facility.ts";

const dir = mkdtempSync(join(tmpdir(), "mento-serve-"));
chmodSync(dir, 0o755);
const NAMES = ["--dir", dir, "--beamtimeId", "11010088", "--beamline", "p11"];
let sshPort = 0;
let restPort = 0;
let facility: TestFacility;
let beamtime: TestBeamtime;

const upArguments = () => [
  ...["facility", "up", "--dir", dir, "--no-broker", "--listen", "127.0.0.2", "--worker-uid", "12345"],
  ...["--ssh-port", String(sshPort), "--rest-port", String(restPort)],
];

beforeAll(async () => {
  [sshPort = 0, restPort = 0] = await chooseFreePorts(2, new Set());
  facility = JSON.parse((await mento(...upArguments(), "--json")).stdout) as TestFacility;
  const started = await mento("facility", "start-beamtime", ...NAMES, "--online", "--json");
  beamtime = JSON.parse(started.stdout) as TestBeamtime;
});
afterAll(async () => {
  await mento("facility", "down", "--dir", dir);
  rmSync(dir, { recursive: true, force: true });
});

async function servers() {
  const { stdout } = await tryMento(["facility", "status", "--dir", dir, "--json"]);
  return (JSON.parse(stdout) as { parts: { name: string; running: boolean; pid: number | null }[] }).parts;
}

/** `up --foreground`, until it says that all is up. */
async function inForeground() {
  const child = spawn(...there(nodeThere(), [MAIN, ...upArguments(), "--foreground"]), { stdio: "pipe" });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk: Buffer) => (said += chunk.toString("utf8")));
  }
  const ended = new Promise<number | null>((resolve) => child.on("exit", resolve));
  await eventually("it is up", () => (said.includes("is up.") ? true : undefined));
  return { child, ended, said: () => said };
}

describe("a facility for workers elsewhere", () => {
  it("has the ports that it was told, and keys that the workers' account alone can read", () => {
    expect(facility.ssh).toMatchObject({ address: "127.0.0.2", port: sshPort });
    expect(facility.slurm.restUrl).toBe(`http://127.0.0.2:${restPort}`);
    const { uid, mode } = statSync(beamtime.privateKey);
    expect({ uid, mode: mode & 0o777 }).toEqual({
      uid: process.getuid?.() === 0 ? 12_345 : uid,
      mode: 0o600,
    });
  });

  it("ends by SIGTERM with exit 0; when it is up again its jobs are there, and those that ran have failed", async () => {
    const submit = (...args: string[]) => askSlurm(facility, "sbatch", "--parsable", ...args).trim();
    const stateOf = (job: string) =>
      askSlurm(facility, "squeue", "--noheader", "--states=all", `--jobs=${job}`, "--format=%T").trim();
    const job = submit("--hold", "--wrap=true");
    const sleeper = submit("--no-requeue", "--chdir=/tmp", "--output=/dev/null", "--wrap=sleep 600");
    await eventually("it runs", () => (stateOf(sleeper) === "RUNNING" ? true : undefined));
    const node = askSlurm(facility, "squeue", "--noheader", `--jobs=${sleeper}`, "--format=%N").trim();
    const waits = submit(
      "--no-requeue",
      "--exclusive",
      `--nodelist=${node}`,
      "--chdir=/tmp",
      "--output=/dev/null",
      "--wrap=sleep 600",
    );
    const { child, ended } = await inForeground();
    // Slurm writes down what it has accepted within 5 s, and when it is told to end.
    child.kill("SIGTERM");
    expect(await ended).toBe(0);
    expect((await tryMento(["facility", "status", "--dir", dir])).code).toBe(1);
    await mento(...upArguments());
    expect(stateOf(job)).toBe("PENDING");
    await eventually(
      () => `it has failed; it is ${stateOf(sleeper)}`,
      () => (stateOf(sleeper) === "NODE_FAIL" ? true : undefined),
      90_000,
    );
    // What waited for that node begins there, and is not taken for one that ran.
    await eventually(
      () => `it runs; it is ${stateOf(waits)}`,
      () => (stateOf(waits) === "RUNNING" ? true : undefined),
      90_000,
    );
    askSlurm(facility, "scancel", job, waits);
  });

  it("fails when one of its servers ends by itself, names it, and ends the others", async () => {
    const { ended, said } = await inForeground();
    const sshd = (await servers()).find(({ name }) => name === "sshd");
    process.kill(sshd?.pid ?? 0, "SIGKILL");
    expect(await ended).toBe(3);
    expect(said()).toMatch(/is not running: sshd\./);
    expect((await servers()).filter(({ running }) => running)).toEqual([]);
  });

  it("does not come up on another port than it was told", async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(sshPort, "127.0.0.1", resolve));
    try {
      const { code, stderr } = await tryMento(upArguments());
      expect(code).toBe(1);
      expect(stderr).toContain(`Another program listens on port ${sshPort}`);
    } finally {
      other.close();
    }
    await mento(...upArguments());
  });

  it.each([
    ["--ssh-port", "70000", "a port"],
    ["--rest-port", "x", "a port"],
    ["--worker-uid", "root", "a user's number"],
    ["--ssh-port", "2200", "Give --listen, too"],
  ])("refuses %s %s", async (option, value, hint) => {
    const { code, stderr } = await tryMento(["facility", "up", "--dir", dir, option, value]);
    expect(code).toBe(2);
    expect(stderr).toContain(hint);
  });
});
