import { generateKeyPairSync } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { requireOnline, Sessions } from "../../src/beamtime/session.ts";
import { MentoConfig } from "../../src/config/config-schema.ts";
import { RuntimeDirectory } from "../../src/shells/runtime-directory.ts";
import { SessionShells } from "../../src/submission/session-shells.ts";

let top: string;
let sessions: Sessions;
let shells: SessionShells;
let runtime: RuntimeDirectory;

beforeEach(() => {
  top = mkdtempSync(join(tmpdir(), "mento-shells-"));
  mkdirSync(join(top, "run"), { mode: 0o700 });
  runtime = new RuntimeDirectory({ XDG_RUNTIME_DIR: join(top, "run") });
  const site = { gpfs: join(top, "gpfs"), beamline: join(top, "beamline"), core: join(top, "asap3") };
  sessions = new Sessions(site, () => undefined);
  const config = MentoConfig.parse({ ssh: { acceptNewHostKeys: true } });
  shells = new SessionShells(config.ssh, runtime, pino({ level: "silent" }));
  writeBeamtime();
});
afterEach(() => {
  vi.useRealTimers();
  shells.closeAll();
  rmSync(top, { recursive: true });
});

function writeBeamtime(change: object = {}): void {
  const folder = join(top, "gpfs/current");
  mkdirSync(folder, { recursive: true });
  const online = {
    reservedNodes: ["node-1", "node-2"],
    slurmReservation: "1",
    slurmPartition: "ponline",
    sshPrivateKeyPath: "id",
    userAccount: "bt1",
    ...change,
  };
  const facts = {
    beamtimeId: "1",
    beamline: "p11",
    corePath: join(top, "asap3/petra3/gpfs/p11/2026/data/1"),
  };
  writeFileSync(
    join(folder, "beamtime-metadata-1.json"),
    JSON.stringify({ ...facts, onlineAnalysis: online }),
  );
  // ssh2 makes keys too, of which one in 240 is malformed.
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  writeFileSync(join(folder, "id"), privateKey.export({ type: "sec1", format: "pem" }), { mode: 0o600 });
}

const open = async () => shells.open(requireOnline(await sessions.find("1")));

describe("the connections of a session", () => {
  it("are kept while nothing changes, and made anew when nodes, account or key change", async () => {
    const first = await open();
    expect(await open()).toBe(first);
    for (const change of [{ reservedNodes: ["node-3"] }, { userAccount: "bt2" }, {}]) {
      const before = await open();
      // A change is seen by the file's time, and its clock is coarse.
      await sleep(20);
      writeBeamtime(change);
      expect(await open()).not.toBe(before);
    }
  });

  it("are let go of, with the key, when the session has ended and nobody has used them for a minute", async () => {
    await open();
    const isKept = () => readdirSync(runtime.ofProcess).length === 1;
    vi.useFakeTimers({ now: Date.now() + 120_000, toFake: ["Date"] });
    await shells.sweep(sessions);
    expect(isKept()).toBe(true);
    rmSync(join(top, "gpfs/current"), { recursive: true });
    await shells.sweep(sessions);
    expect(isKept()).toBe(false);
  });

  it("are not made any more once the worker has closed them for good", async () => {
    shells.closeAll();
    await open();
    shells.close();
    await expect(open()).rejects.toMatchObject({ code: "ssh-unreachable" });
  });

  it("of a session that has just ended stay for the jobs that are still watched", async () => {
    await open();
    rmSync(join(top, "gpfs/current"), { recursive: true });
    await shells.sweep(sessions);
    expect(readdirSync(runtime.ofProcess)).toEqual(["1.key"]);
  });
});
