import {
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { BeamtimeMirror } from "../../src/facility/mirror-beamtime.ts";

const isRoot = process.geteuid?.() === 0;
const [ACCOUNT, STRANGER] = [65_533, 65_534];
const SOON = { timeout: 20_000, interval: 5 };

let dir: string;
let mirror: BeamtimeMirror;
let running: Promise<void>;
const said: string[] = [];
const beamline = (path: string) => join(dir, "beamline", path);
const core = (path: string) => join(dir, "core", path);

function write(path: string, { mode = 0o644, owner = -1, text = "text" }): void {
  mkdirSync(dirname(beamline(path)), { recursive: true });
  writeFileSync(beamline(path), text);
  own(path, owner);
  chmodSync(beamline(path), mode);
}

function folder(path: string, mode: number, owner = -1): void {
  mkdirSync(beamline(path));
  own(path, owner);
  chmodSync(beamline(path), mode);
}

function own(path: string, owner: number): void {
  if (owner !== -1) chownSync(beamline(path), owner, owner);
}

const modeOf = (path: string) => lstatSync(core(path)).mode & 0o777;

function names(): string[] {
  const paths = readdirSync(core(""), { recursive: true }).map(String);
  return paths.filter((path) => path.includes("/")).sort();
}

function start(): void {
  const roots = { beamline: join(dir, "beamline"), core: join(dir, "core"), partial: join(dir, "partial") };
  mirror = new BeamtimeMirror(roots, join(dir, "journal"), 0, (line) => said.push(line));
  running = mirror.run();
}

async function finish(): Promise<void> {
  mirror.finish();
  await running;
}

async function copyAll(): Promise<void> {
  start();
  await finish();
}

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "mirror-readers-"));
  for (const top of ["raw", "processed", "shared"]) {
    mkdirSync(beamline(top), { recursive: true });
    mkdirSync(core(top), { recursive: true });
    if (isRoot) chownSync(core(top), ACCOUNT, ACCOUNT);
  }
  mkdirSync(join(dir, "partial"));
  said.length = 0;
});
afterEach(async () => {
  await finish();
  rmSync(dir, { recursive: true, force: true });
});

describe("the copy of what not all may read", () => {
  const owner = isRoot ? ACCOUNT : -1;

  it("is for the session's account alone, also of what only lies in a folder that not all may enter", async () => {
    folder("processed/private", 0o700, owner);
    folder("processed/private/inner", 0o755, owner);
    write("processed/private/inner/f", { owner });
    write("processed/f", { mode: 0o700, owner });
    await copyAll();
    const paths = ["private", "private/inner", "private/inner/f", "f"].map((name) => `processed/${name}`);
    expect(paths.map(modeOf)).toEqual([0o750, 0o750, 0o640, 0o740]);
    if (isRoot) {
      const owners = paths.map((path) => [lstatSync(core(path)).uid, lstatSync(core(path)).gid]);
      expect(owners).toEqual([
        [ACCOUNT, ACCOUNT],
        [ACCOUNT, ACCOUNT],
        [0, ACCOUNT],
        [0, ACCOUNT],
      ]);
    }
    expect(said).toEqual([]);
  });

  it("shows no names of a folder in which not all may list them", async () => {
    folder("raw/drop", 0o711);
    write("raw/drop/f", {});
    await copyAll();
    expect([modeOf("raw/drop"), modeOf("raw/drop/f")]).toEqual([0o751, 0o644]);
  });

  it.runIf(isRoot)(
    "is not made where it is another's, nor of what lies in another's closed folder",
    async () => {
      write("raw/stranger", { mode: 0o640, owner: STRANGER });
      folder("raw/closed", 0o700, STRANGER);
      write("raw/closed/stranger", { owner: STRANGER });
      write("raw/closed/own", { owner: ACCOUNT });
      folder("raw/own", 0o700, ACCOUNT);
      write("raw/own/stranger", { owner: STRANGER });
      folder("raw/own/strangers", 0o755, STRANGER);
      write("raw/own/strangers/own", { owner: ACCOUNT });
      await copyAll();
      expect(names()).toEqual(["raw/own"]);
      const places = said.map((line) => line.split(": ").slice(1, 3).join(": "));
      expect(places.sort()).toEqual([
        "raw/closed: not copied, nor what lies in it",
        "raw/own/stranger: not copied",
        "raw/own/strangers: not copied, nor what lies in it",
        "raw/stranger: not copied",
      ]);
    },
  );

  it.runIf(isRoot)("is not made of a whole top that was closed, which is said", async () => {
    write("raw/f", { owner: STRANGER });
    chmodSync(beamline("raw"), 0o700);
    await copyAll();
    expect(names()).toEqual([]);
    expect(said.join()).toContain("raw: not copied, nor what lies in it");
  });

  it("follows when a file is closed and opened, without being made anew", async () => {
    write("raw/f", { owner });
    start();
    await vi.waitFor(() => expect(modeOf("raw/f")).toBe(0o644), SOON);
    const { ino } = lstatSync(core("raw/f"));
    for (const [mode, copied] of [
      [0o600, 0o640],
      [0o644, 0o644],
      [0o750, 0o750],
    ] as const) {
      chmodSync(beamline("raw/f"), mode);
      await vi.waitFor(() => expect(modeOf("raw/f")).toBe(copied), SOON);
    }
    if (isRoot) expect(lstatSync(core("raw/f")).gid).toBe(ACCOUNT);
    expect(lstatSync(core("raw/f")).ino).toBe(ino);
  });

  it("follows when a folder on the way is closed and opened, and finds what was written in it meanwhile", async () => {
    folder("raw/d", 0o755, owner);
    write("raw/d/e/f", { owner });
    own("raw/d/e", owner);
    start();
    await vi.waitFor(() => expect(modeOf("raw/d/e/f")).toBe(0o644), SOON);
    const modes = () => ["raw/d", "raw/d/e", "raw/d/e/f"].map(modeOf);
    chmodSync(beamline("raw/d"), 0o700);
    await vi.waitFor(() => expect(modes()).toEqual([0o750, 0o750, 0o640]), SOON);
    write("raw/d/e/new", { owner });
    await vi.waitFor(() => expect(modeOf("raw/d/e/new")).toBe(0o640), SOON);
    chmodSync(beamline("raw/d"), 0o755);
    await vi.waitFor(() => expect(modes()).toEqual([0o755, 0o755, 0o644]), SOON);
    await vi.waitFor(() => expect(modeOf("raw/d/e/new")).toBe(0o644), SOON);
  });

  it.runIf(isRoot)(
    "is removed when it is closed and another's, and made again when it is opened",
    async () => {
      folder("processed/d", 0o755, STRANGER);
      write("processed/d/f", { owner: STRANGER });
      write("processed/f", { owner: STRANGER });
      start();
      await vi.waitFor(() => expect(names()).toEqual(["processed/d", "processed/d/f", "processed/f"]), SOON);
      writeFileSync(core("processed/d/result"), "the job's");
      chmodSync(beamline("processed/d"), 0o700);
      chmodSync(beamline("processed/f"), 0o600);
      await vi.waitFor(() => expect(names()).toEqual(["processed/d", "processed/d/result"]), SOON);
      expect(said.join("\n")).toContain("processed/f: not copied: not all may read it");
      chmodSync(beamline("processed/d"), 0o755);
      chmodSync(beamline("processed/f"), 0o644);
      await vi.waitFor(() => expect(names()).toContain("processed/d/f"), SOON);
      await vi.waitFor(() => expect(names()).toContain("processed/f"), SOON);
      expect(readFileSync(core("processed/d/result"), "utf8")).toBe("the job's");
    },
  );

  it("is closed before a newer one, which is under way, is made", async () => {
    write("raw/f", { owner, text: "old" });
    start();
    await vi.waitFor(() => expect(modeOf("raw/f")).toBe(0o644), SOON);
    writeFileSync(beamline("raw/f"), Buffer.alloc(2 ** 28, "x"));
    while (readdirSync(join(dir, "partial")).length === 0) await turn();
    chmodSync(beamline("raw/f"), 0o600);
    await vi.waitFor(() => expect(modeOf("raw/f")).toBe(0o640), SOON);
    expect(readFileSync(core("raw/f"), "utf8")).toBe("old");
    await finish();
    expect([lstatSync(core("raw/f")).size, modeOf("raw/f")]).toEqual([2 ** 28, 0o640]);
  });

  it("follows what was closed while nothing was copied", async () => {
    write("raw/f", { owner });
    await copyAll();
    chmodSync(beamline("raw/f"), 0o600);
    await copyAll();
    expect(modeOf("raw/f")).toBe(0o640);
  });

  it("is moved, and not made anew, when the file is moved to where not all may enter, and back", async () => {
    folder("raw/private", 0o700, owner);
    write("raw/f", { owner });
    // A new file might still be written to, and is looked at a little later than that its old name is gone.
    utimesSync(beamline("raw/f"), 1_000_000, 1_000_000);
    await copyAll();
    const { ino } = lstatSync(core("raw/f"));
    renameSync(beamline("raw/f"), beamline("raw/private/f"));
    await copyAll();
    expect(names()).toEqual(["raw/private", "raw/private/f"]);
    expect([modeOf("raw/private/f"), lstatSync(core("raw/private/f")).ino]).toEqual([0o640, ino]);
    renameSync(beamline("raw/private/f"), beamline("raw/f"));
    await copyAll();
    expect(names()).toEqual(["raw/f", "raw/private"]);
    expect([modeOf("raw/f"), lstatSync(core("raw/f")).ino]).toEqual([0o644, ino]);
  });

  it("gives no rights to what a job has put in its place, though it has the same size and time", async () => {
    write("processed/f", { mode: 0o600, owner });
    await copyAll();
    const secret = join(dir, "secret");
    writeFileSync(secret, "TEXT", { mode: 0o600 });
    const { atimeMs, mtimeMs } = lstatSync(core("processed/f"));
    utimesSync(secret, atimeMs / 1000, mtimeMs / 1000);
    rmSync(core("processed/f"));
    linkSync(secret, core("processed/f"));
    chmodSync(beamline("processed/f"), 0o644);
    await copyAll();
    expect(lstatSync(secret).mode & 0o777).toBe(0o600);
    expect(said.join()).toContain("processed/f: not copied: something else is at the core already");
  });

  it("closes a folder that a job had made first, and opens it again as far as it was", async () => {
    mkdirSync(core("processed/s"));
    if (isRoot) chownSync(core("processed/s"), ACCOUNT, ACCOUNT);
    chmodSync(core("processed/s"), 0o775);
    folder("processed/s", 0o700, owner);
    await copyAll();
    expect(modeOf("processed/s")).toBe(0o770);
    chmodSync(beamline("processed/s"), 0o755);
    await copyAll();
    expect(modeOf("processed/s")).toBe(0o775);
  });
});

it("a small file does not wait for the copies of a large one's many names", async () => {
  write("raw/large", {});
  truncateSync(beamline("raw/large"), 2 ** 28);
  for (let at = 1; at < 40; at++) linkSync(beamline("raw/large"), beamline(`raw/large${at}`));
  start();
  while (readdirSync(join(dir, "partial")).length === 0) await turn();
  write("raw/small", {});
  await vi.waitFor(() => expect(names()).toContain("raw/small"), SOON);
  expect(names().length).toBeLessThan(40);
});
