import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { BeamtimeMirror } from "../../src/facility/mirror-beamtime.ts";

let dir: string;
let mirror: BeamtimeMirror;
let running: Promise<void>;
const said: string[] = [];

const beamline = (path: string) => join(dir, "beamline", path);
const core = (path: string) => join(dir, "core", path);

function write(file: string, text: string): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
}

function startMirror(delaySeconds = 0): void {
  const roots = { beamline: join(dir, "beamline"), core: join(dir, "core"), partial: join(dir, "partial") };
  mirror = new BeamtimeMirror(roots, join(dir, "journal"), delaySeconds, (line) => said.push(line));
  running = mirror.run();
}

async function finish(): Promise<void> {
  mirror.finish();
  await running;
}

function exists(path: string): boolean {
  return readdirSync(dirname(path)).includes(path.slice(dirname(path).length + 1));
}

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "facility-dev-mirror-"));
  for (const top of ["raw", "processed", "shared"]) {
    mkdirSync(beamline(top), { recursive: true });
    mkdirSync(core(top), { recursive: true });
  }
  mkdirSync(beamline("scratch_bl"));
  mkdirSync(join(dir, "partial"));
  said.length = 0;
});

afterEach(async () => {
  await finish();
  rmSync(dir, { recursive: true, force: true });
});

describe("the copy to the core file system", () => {
  it("brings a new file with its time, readable for all", async () => {
    startMirror();
    write(beamline("raw/s1/scan/data.h5"), "data");
    utimesSync(beamline("raw/s1/scan/data.h5"), 1_000_000, 1_000_000.5);
    await vi.waitFor(() => expect(readFileSync(core("raw/s1/scan/data.h5"), "utf8")).toBe("data"), {
      timeout: 20_000,
    });
    await finish();
    const { mode, mtimeMs } = statSync(core("raw/s1/scan/data.h5"));
    expect(mode & 0o444).toBe(0o444);
    expect(mtimeMs).toBe(1_000_000_500);
  });

  it("follows a rename and a deletion", async () => {
    startMirror();
    write(beamline("raw/a.h5.tmp"), "data");
    await vi.waitFor(() => expect(exists(core("raw/a.h5.tmp"))).toBe(true), { timeout: 20_000 });
    renameSync(beamline("raw/a.h5.tmp"), beamline("raw/a.h5"));
    await vi.waitFor(() => expect(readdirSync(core("raw"))).toEqual(["a.h5"]), { timeout: 20_000 });
    rmSync(beamline("raw/a.h5"));
    await vi.waitFor(() => expect(readdirSync(core("raw"))).toEqual([]), { timeout: 20_000 });
  });

  it("follows a file whose time is before 1970", async () => {
    startMirror();
    const old = beamline("raw/old.dat");
    write(old, "old");
    utimesSync(old, new Date("1965-01-01T00:00:00Z"), new Date("1965-01-01T00:00:00.250Z"));
    const copied = () => readFileSync(core("raw/old.dat"), "utf8");
    await vi.waitFor(() => expect(copied()).toBe("old"), { timeout: 20_000 });
    writeFileSync(old, "corrected");
    await vi.waitFor(() => expect(copied()).toBe("corrected"), { timeout: 20_000 });
    utimesSync(old, new Date("1966-01-01T00:00:00Z"), new Date("1966-01-01T00:00:00Z"));
    rmSync(old);
    await vi.waitFor(() => expect(exists(core("raw/old.dat"))).toBe(false), { timeout: 20_000 });
  });

  it("never overwrites or removes what a job wrote", async () => {
    write(core("processed/s1/result.txt"), "the job's");
    startMirror();
    write(beamline("processed/s1/result.txt"), "the beamline's");
    write(beamline("processed/s1/copied.txt"), "copied");
    await vi.waitFor(() => expect(exists(core("processed/s1/copied.txt"))).toBe(true), { timeout: 20_000 });
    rmSync(beamline("processed/s1"), { recursive: true });
    await vi.waitFor(() => expect(readdirSync(core("processed/s1"))).toEqual(["result.txt"]), {
      timeout: 20_000,
    });
    expect(readFileSync(core("processed/s1/result.txt"), "utf8")).toBe("the job's");
    expect(said.join()).toContain("processed/s1/result.txt: not copied");
  });

  it("takes a copy that a job changed for the job's", async () => {
    startMirror();
    write(beamline("processed/a.txt"), "copied");
    await vi.waitFor(() => expect(exists(core("processed/a.txt"))).toBe(true), { timeout: 20_000 });
    writeFileSync(core("processed/a.txt"), "changed by a job");
    writeFileSync(beamline("processed/a.txt"), "changed at the beamline");
    await finish();
    expect(readFileSync(core("processed/a.txt"), "utf8")).toBe("changed by a job");
  });

  it("still knows what is its own after a restart", async () => {
    startMirror();
    write(beamline("raw/a.h5"), "old");
    await vi.waitFor(() => expect(exists(core("raw/a.h5"))).toBe(true), { timeout: 20_000 });
    await finish();
    writeFileSync(beamline("raw/a.h5"), "newer");
    startMirror();
    await vi.waitFor(() => expect(readFileSync(core("raw/a.h5"), "utf8")).toBe("newer"), { timeout: 20_000 });
  });

  it("removes nothing when the beamline's file system is gone", async () => {
    startMirror();
    write(beamline("raw/a.h5"), "data");
    await vi.waitFor(() => expect(exists(core("raw/a.h5"))).toBe(true), { timeout: 20_000 });
    renameSync(beamline("raw"), beamline("unmounted"));
    await finish();
    expect(exists(core("raw/a.h5"))).toBe(true);
  });

  it("copies neither scratch_bl nor the private key", async () => {
    startMirror();
    write(beamline("scratch_bl/x"), "scratch");
    write(beamline("shared/id_rsa"), "secret");
    write(beamline("shared/poni"), "shared");
    await finish();
    expect(readdirSync(core("shared"))).toEqual(["poni"]);
    expect(exists(core("scratch_bl"))).toBe(false);
  });

  it("waits for the delay, and for nothing at the end of a beamtime", async () => {
    startMirror(0.5);
    write(beamline("raw/a.h5"), "data");
    const written = performance.now();
    await vi.waitFor(() => expect(exists(core("raw/a.h5"))).toBe(true), { timeout: 3000 });
    expect(performance.now() - written).toBeGreaterThan(450);
    write(beamline("raw/b.h5"), "data");
    await finish();
    expect(exists(core("raw/b.h5"))).toBe(true);
  });
});
