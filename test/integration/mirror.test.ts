import { type ChildProcess, spawn } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { eventually } from "../support/eventually.ts";
import { MAIN, mento, tryMento } from "../support/mento.ts";

const DAEMON = fileURLToPath(new URL("../../dist/cli/mirror-daemon.js", import.meta.url));

/** Those that copy the session whose folder at the beamline has this path. */
function copiersOf(beamlinePath: string): number[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return pids.map(Number).filter((pid) => {
    const words = argumentsOf(pid);
    return words[0] !== "setpriv" && words.includes(beamlinePath);
  });
}

function argumentsOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
  } catch {
    return [];
  }
}

const copierOf = (beamlinePath: string) =>
  eventually("a process copies the session", () => copiersOf(beamlinePath)[0]);

describe("the copy of all sessions", () => {
  let dir: string;
  let daemon: ChildProcess;

  interface Session {
    id: string;
    beamlinePath: string;
    corePath: string;
    closing: boolean;
  }

  let output: { said: Buffer[] };

  function openSession(id: string): Session {
    const session = {
      id,
      beamlinePath: join(dir, "gpfs", id),
      corePath: join(dir, "asap3", id),
      closing: false,
    };
    for (const top of ["raw", "processed", "shared"]) {
      mkdirSync(join(session.beamlinePath, top), { recursive: true });
      mkdirSync(join(session.corePath, top), { recursive: true });
    }
    writeSession(session);
    return session;
  }

  function writeSession(session: Session): void {
    writeFileSync(join(dir, "sessions", `${session.id}.json`), JSON.stringify(session));
  }

  function startDaemon(): void {
    daemon = spawn(process.execPath, [DAEMON, dir, "0"], { stdio: ["ignore", "pipe", "inherit"] });
    const { said } = output;
    daemon.stdout?.on("data", (piece: Buffer) => said.push(piece));
  }

  const log = () => Buffer.concat(output.said).toString();

  async function copies({ beamlinePath, corePath }: Session, name: string): Promise<void> {
    writeFileSync(join(beamlinePath, "raw", name), name);
    const copy = join(corePath, "raw", name);
    await eventually(`${copy} is copied`, () => existsSync(copy) || undefined);
  }

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "mento-mirror-"));
    for (const place of ["sessions", "mirror", "gpfs", "asap3"]) mkdirSync(join(dir, place));
    // What one says after its end is no other test's.
    output = { said: [] };
  });
  afterEach(() => {
    daemon.kill("SIGKILL");
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  });

  it("is a process for each: one that ends, or stands still, costs the others nothing and is started again", async () => {
    const one = openSession("one");
    const other = openSession("other");
    startDaemon();
    await copies(one, "a");
    await copies(other, "a");
    const killed = await copierOf(one.beamlinePath);
    const stopped = await copierOf(other.beamlinePath);
    process.kill(killed, "SIGKILL");
    await copies(other, "b");
    process.kill(stopped, "SIGSTOP");
    await copies(one, "b");
    expect(log()).toContain("one: the copy has ended (SIGKILL), and is started again in 1 s");
    process.kill(await copierOf(one.beamlinePath), "SIGKILL");
    await eventually("it waits longer", () => log().includes("is started again in 2 s") || undefined);
    await copies(one, "c");
    process.kill(stopped, "SIGCONT");
    await copies(other, "c");
  });

  it("ends with its supervisor, however that ends, and the next one goes on", async () => {
    const one = openSession("one");
    startDaemon();
    await copies(one, "a");
    for (const signal of ["SIGKILL", "SIGTERM"] as const) {
      const [before] = [await copierOf(one.beamlinePath)];
      // It cannot end by itself.
      process.kill(before, "SIGSTOP");
      daemon.kill(signal);
      await eventually("it has ended", () => (existsSync(`/proc/${before}/fd/0`) ? undefined : true));
      startDaemon();
      await copies(one, signal);
      expect(copiersOf(one.beamlinePath)).toHaveLength(1);
      writeFileSync(join(one.beamlinePath, "raw/a"), `newer ${signal}`);
      await eventually("what was copied before is still its own", () => {
        return readFileSync(join(one.corePath, "raw/a"), "utf8") === `newer ${signal}` || undefined;
      });
    }
  });

  it("goes on when a session's file cannot be read, and reads it when it can", async () => {
    const one = openSession("one");
    writeFileSync(join(dir, "sessions/other.json"), "{");
    startDaemon();
    await eventually("it says so", () => log().includes("sessions cannot be read") || undefined);
    writeFileSync(join(dir, "sessions/other.json"), JSON.stringify({ id: "other" }));
    await copies(one, "a");
    expect(log()).toContain("other cannot be copied");
    writeFileSync(join(dir, "sessions/other.json"), "{");
    await copies(one, "b");
    const other = openSession("other");
    await copies(other, "a");
    expect(daemon.exitCode).toBeNull();
  });

  it("copies the last of a session that is closing, also after its process was killed, and then no more", async () => {
    const one = openSession("one");
    startDaemon();
    await copies(one, "a");
    const pid = await copierOf(one.beamlinePath);
    process.kill(pid, "SIGSTOP");
    writeFileSync(join(one.beamlinePath, "raw/last"), "last");
    writeSession({ ...one, closing: true });
    process.kill(pid, "SIGKILL");
    await eventually("all is copied", () => existsSync(join(dir, "mirror/one.done")) || undefined);
    expect(readFileSync(join(one.corePath, "raw/last"), "utf8")).toBe("last");
    expect(copiersOf(one.beamlinePath)).toEqual([]);
    expect(readdirSync(join(dir, "asap3/.partial"))).toEqual([]);
  });
});

describe("a beamtime whose last files take long to copy", () => {
  let dir: string;
  const named = (id: string) => ["--dir", dir, "--beamtimeId", id, "--beamline", "p11"];
  const facility = (command: string, id: string) => tryMento(["facility", command, ...named(id)]);
  let stopping: ChildProcess;
  let beamlinePath: string;
  let copier: number;

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), "mento-closing-"));
    chmodSync(dir, 0o755);
    await mento("facility", "up", "--dir", dir, "--no-broker");
    await mento("facility", "start-beamtime", ...named("11010020"));
    beamlinePath = readlinkSync(join(dir, "gpfs/current"));
    copier = await copierOf(beamlinePath);
    process.kill(copier, "SIGSTOP");
    writeFileSync(join(beamlinePath, "raw/last"), "last");
    stopping = spawn(process.execPath, [MAIN, "facility", "stop-beamtime", ...named("11010020")], {
      stdio: "ignore",
    });
    await eventually("it is closing", async () => {
      return (await mento("facility", "status", "--dir", dir)).stdout.includes("is closing") || undefined;
    });
  });
  afterAll(async () => {
    stopping.kill("SIGKILL");
    await mento("facility", "down", "--dir", dir);
    rmSync(dir, { recursive: true, force: true });
  });

  it("is stopped by one command at a time, and not started again before", async () => {
    for (const command of ["stop-beamtime", "start-beamtime"]) {
      const refused = await facility(command, "11010020");
      expect(refused.code).toBe(1);
      expect(refused.stderr).toContain("facility-beamtime");
      expect(refused.stderr).toContain(
        `The beamtime 11010020 at p11 is being stopped by process ${stopping.pid ?? ""}`,
      );
    }
  });

  it("is in no other's way: one is started, and keeps its links", async () => {
    await mento("facility", "start-beamtime", ...named("11010021"));
    expect(readlinkSync(join(dir, "gpfs/current"))).toContain("11010021");
    const refused = await facility("start-beamtime", "11010022");
    expect(refused.stderr).toContain("There is an open beamtime 11010021 at p11");
  });

  it("whose stop was killed is stopped to the end by the next", async () => {
    stopping.kill("SIGKILL");
    await eventually("it has ended", () => stopping.signalCode ?? undefined);
    const refused = await facility("start-beamtime", "11010020");
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain("was stopped, but not to the end");
    process.kill(copier, "SIGCONT");
    const stopped = await mento("facility", "stop-beamtime", ...named("11010020"));
    expect(stopped.stdout).toContain("Beamtime has been stopped.");
    expect(readlinkSync(join(dir, "gpfs/current"))).toContain("11010021");
    expect(copiersOf(beamlinePath)).toEqual([]);
    const restarted = await facility("start-beamtime", "11010020");
    expect(restarted.stderr).toContain("There is an open beamtime 11010021 at p11");
    await mento("facility", "stop-beamtime", ...named("11010021"));
    await mento("facility", "start-beamtime", ...named("11010020"));
    await mento("facility", "stop-beamtime", ...named("11010020"));
  });
});
