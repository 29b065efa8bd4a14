import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setImmediate as turn, setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { BeamtimeMirror } from "../../src/facility/mirror-beamtime.ts";

let dir: string;
const said: string[] = [];
const beamline = (path: string) => join(dir, "beamline", path);
const core = (path: string) => join(dir, "core", path);
/** Where the copy has no business: another's folder, which the one who runs the copy may read and write. */
const outside = (path: string) => join(dir, "outside", path);

function write(file: string, text: string): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
}

function mirror(): BeamtimeMirror {
  const roots = { beamline: join(dir, "beamline"), core: join(dir, "core"), partial: join(dir, "partial") };
  return new BeamtimeMirror(roots, join(dir, "journal"), 0, (line) => said.push(line));
}

async function copyAll(): Promise<void> {
  const one = mirror();
  const running = one.run();
  one.finish();
  await running;
}

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "mirror-links-"));
  for (const top of ["raw", "processed", "shared"]) {
    mkdirSync(beamline(top), { recursive: true });
    mkdirSync(core(top), { recursive: true });
  }
  mkdirSync(join(dir, "partial"));
  mkdirSync(outside(""), { mode: 0o700 });
  said.length = 0;
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe("the copy to the core file system, in trees that others write in,", () => {
  it("writes nothing below a link at the core", async () => {
    symlinkSync(outside(""), core("processed/x"));
    write(beamline("processed/x/g"), "y");
    write(beamline("processed/x/deeper/g"), "y");
    write(beamline("processed/ordinary"), "y");
    await copyAll();
    expect(readdirSync(outside(""))).toEqual([]);
    expect(readlinkSync(core("processed/x"))).toBe(outside(""));
    expect(readFileSync(core("processed/ordinary"), "utf8")).toBe("y");
    expect(said.join("\n")).toContain("processed/x");
  });

  it("removes nothing below a link at the core", async () => {
    write(beamline("raw/s/a"), "1");
    const one = mirror();
    const running = one.run();
    await vi.waitFor(() => expect(existsSync(core("raw/s/a"))).toBe(true), { timeout: 20_000 });
    renameSync(core("raw/s"), outside("s"));
    symlinkSync(outside("s"), core("raw/s"));
    rmSync(beamline("raw/s"), { recursive: true });
    one.finish();
    await running;
    expect(readdirSync(outside("s"))).toEqual(["a"]);
  });

  it("reads nothing through a link at the beamline, of a file or of a folder", async () => {
    write(outside("secret"), "secret");
    symlinkSync(outside("secret"), beamline("raw/file"));
    symlinkSync(outside(""), beamline("raw/folder"));
    write(beamline("raw/ordinary"), "y");
    await copyAll();
    expect(readdirSync(core("raw"))).toEqual(["ordinary"]);
  });

  it("copies what not all may read for the session's account alone", async () => {
    write(beamline("raw/own"), "own");
    chmodSync(beamline("raw/own"), 0o600);
    write(beamline("raw/public"), "public");
    chmodSync(beamline("raw/public"), 0o644);
    await copyAll();
    const modes = ["own", "public"].map((name) => lstatSync(core(`raw/${name}`)).mode & 0o777);
    expect(modes).toEqual([0o640, 0o644]);
  });

  it.runIf(process.geteuid?.() === 0)(
    "takes nothing that somebody else may not let be read: it may only have been moved there, or have a second name",
    async () => {
      const [account, stranger] = [65_533, 65_534];
      for (const top of ["raw", "processed", "shared"]) chownSync(core(top), account, account);
      for (const [name, owner] of [
        ["root", 0],
        ["stranger", stranger],
        ["own", account],
      ] as const) {
        write(outside(name), name);
        chmodSync(outside(name), 0o640);
        chownSync(outside(name), owner, owner);
        linkSync(outside(name), beamline(`raw/${name}.linked`));
        renameSync(outside(name), beamline(`raw/${name}`));
      }
      await copyAll();
      expect(readdirSync(core("raw"))).toEqual(["own", "own.linked"]);
      const { mode, uid, gid } = lstatSync(core("raw/own"));
      expect([mode & 0o777, uid, gid]).toEqual([0o640, 0, account]);
      expect(said.join("\n")).toContain("raw/root: not copied: not all may read it");
      expect(said.join("\n")).toContain("raw/stranger.linked: not copied: not all may read it");
    },
  );

  it("is not held up by another's large files, and holes in them take no room", async () => {
    const other = mkdtempSync(join(tmpdir(), "mirror-other-"));
    for (const place of ["beamline/raw", "core/raw", "partial"])
      mkdirSync(join(other, place), { recursive: true });
    for (const name of ["1", "2", "3", "4"]) {
      write(beamline(`raw/${name}`), "");
      truncateSync(beamline(`raw/${name}`), 2 ** 28);
    }
    write(beamline("raw/some"), "some");
    truncateSync(beamline("raw/some"), 2 ** 22 + 1);
    const large = mirror();
    const running = large.run();
    const roots = {
      ...{ beamline: join(other, "beamline"), core: join(other, "core"), partial: join(other, "partial") },
    };
    const small = new BeamtimeMirror(roots, join(other, "journal"), 0, (line) => said.push(line));
    const besides = small.run();
    const begun = () => [...readdirSync(join(dir, "partial")), ...readdirSync(core("raw"))].length;
    await vi.waitFor(() => expect(begun()).toBeGreaterThan(0), 20_000);
    for (let number = 1; number <= 3; number++) {
      writeFileSync(join(other, `beamline/raw/${number}`), "small");
      await vi.waitFor(() => expect(existsSync(join(other, `core/raw/${number}`))).toBe(true), {
        timeout: 10_000,
      });
    }
    small.finish();
    large.finish();
    await Promise.all([running, besides]);
    rmSync(other, { recursive: true });
    for (const name of ["1", "2", "3", "4"]) {
      const { size, blocks } = lstatSync(core(`raw/${name}`));
      expect({ size, isEmpty: blocks * 512 < 2 ** 20 }).toEqual({ size: 2 ** 28, isEmpty: true });
    }
    const copied = readFileSync(core("raw/some"));
    expect(copied.length).toBe(2 ** 22 + 1);
    expect(copied.equals(readFileSync(beamline("raw/some")))).toBe(true);
  }, 60_000);

  it("copies what lies beside FIFOs, endless files and trees without a bottom", async () => {
    spawnSync("mkfifo", [beamline("raw/fifo")]);
    write(beamline("raw/huge"), "");
    truncateSync(beamline("raw/huge"), 2 ** 42);
    write(beamline(`raw/${"d/".repeat(100)}x`), "deep");
    write(beamline("raw/ordinary"), "y");
    await copyAll();
    expect(readFileSync(core("raw/ordinary"), "utf8")).toBe("y");
    expect(readdirSync(core("raw")).sort()).toEqual(["d", "ordinary"]);
    expect(said.join("\n")).toContain("raw/huge: not copied: the core file system has no room for it");
    expect(said.join("\n")).toContain("too deep");
  });

  it("puts no line of a file's name into its log, and not endlessly many", async () => {
    const name = "raw/\n2026-01-01 mirror: finished\u001b[2J";
    for (const end of ["a", "b"]) {
      write(beamline(name + end), "y");
      write(core(name + end), "another's");
    }
    await copyAll();
    expect(said).toHaveLength(2);
    for (const line of said) expect(line).not.toMatch(/\p{Cc}/u);
  });

  it("leaves no copy that others than its owner may change", async () => {
    write(beamline("raw/a"), "y");
    chmodSync(beamline("raw/a"), 0o6777);
    await copyAll();
    expect(lstatSync(core("raw/a")).mode & 0o7777).toBe(0o755);
  });

  it("writes and reads nothing outside while folders and links change places all the time", async () => {
    const FILES = 60;
    mkdirSync(outside("target"));
    mkdirSync(outside("source"));
    for (let number = 0; number < FILES; number++) write(outside(`source/${number}`), "secret");
    let isOver = false;
    /** The copy may make a folder just where one is about to be. */
    const move = (from: string, to: string) => {
      for (;;) {
        try {
          renameSync(from, to);
          return;
        } catch {
          if (lstatSync(from, { throwIfNoEntry: false }) === undefined) mkdirSync(from);
          else rmSync(to, { recursive: true, force: true });
        }
      }
    };
    /** A folder and a link out of the tree take turns under the name x. */
    const swap = async (place: (path: string) => string, elsewhere: string) => {
      const [x, folder, other] = [place("processed/x"), place("processed/folder"), place("processed/link")];
      mkdirSync(x);
      symlinkSync(elsewhere, other);
      while (!isOver) {
        move(x, folder);
        move(other, x);
        await turn();
        move(x, other);
        if (existsSync(folder)) move(folder, x);
        else mkdirSync(x, { recursive: true });
        await turn();
      }
    };
    const one = mirror();
    const running = one.run();
    const swapping = [swap(beamline, outside("source")), swap(core, outside("target"))];
    for (let number = 0; number < FILES; number++) {
      for (const name of ["x", "folder"]) {
        if (lstatSync(beamline(`processed/${name}`), { throwIfNoEntry: false })?.isDirectory() === true) {
          writeFileSync(beamline(`processed/${name}/${number}`), "open");
        }
      }
      await sleep(10);
    }
    isOver = true;
    await Promise.all(swapping);
    one.finish();
    await running;
    expect(readdirSync(outside("target"))).toEqual([]);
    const entries = readdirSync(core(""), { recursive: true, withFileTypes: true });
    const copies = entries.filter((entry) => entry.isFile());
    expect(copies.length).toBeGreaterThan(0);
    for (const { parentPath, name } of copies) {
      expect(readFileSync(join(parentPath, name), "utf8")).toBe("open");
    }
  });
});
