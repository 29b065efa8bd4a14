import {
  chownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statfsSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { BeamtimeMirror } from "../../src/facility/mirror-beamtime.ts";
import { copyContent } from "../../src/facility/mirror-content.ts";

const MIB = 2 ** 20;

let dir: string;
const said: string[] = [];
const beamline = (path: string) => join(dir, "beamline", path);
const core = (path: string) => join(dir, "core", path);

function write(file: string, text: string | Uint8Array): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
}

function mirror(mostTreeBytes?: number): BeamtimeMirror {
  const roots = { beamline: join(dir, "beamline"), core: join(dir, "core"), partial: join(dir, "partial") };
  return new BeamtimeMirror(roots, join(dir, "journal"), 0, (line) => said.push(line), mostTreeBytes);
}

async function finish(one: BeamtimeMirror, running = one.run()): Promise<void> {
  one.finish();
  await running;
}

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "mirror-limits-"));
  for (const top of ["raw", "processed", "shared"]) {
    mkdirSync(beamline(top), { recursive: true });
    mkdirSync(core(top), { recursive: true });
  }
  mkdirSync(join(dir, "partial"));
  said.length = 0;
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe("the copy to the core file system", () => {
  it("copies a file that is as large as half of the disk and holds three bytes, without reading its holes", async () => {
    const { bavail, bsize } = statfsSync(dir);
    const size = Math.floor((bavail * bsize) / 2);
    const places = [0, Math.floor(size / 3), size - 1];
    write(beamline("raw/sparse"), "");
    truncateSync(beamline("raw/sparse"), size);
    const source = openSync(beamline("raw/sparse"), "r+");
    for (const place of places) writeSync(source, "x", place);
    await finish(mirror());
    expect(said).toEqual([]);
    const copied = statSync(core("raw/sparse"));
    expect(copied.size).toBe(size);
    expect(copied.blocks * 512).toBeLessThan(MIB);
    const copy = openSync(core("raw/sparse"), "r");
    for (const place of places) {
      const byte = Buffer.alloc(1);
      readSync(copy, byte, 0, 1, place);
      expect(byte.toString()).toBe("x");
    }
  });

  it.each([
    ["with holes", 0],
    ["without", 64 * MIB],
  ])("takes no more of a file %s than it had at first, however long it grows", async (_, bytes) => {
    write(join(dir, "grows"), Buffer.alloc(48 * MIB, "x"));
    const partial = join(dir, "partial/grows");
    const source = await open(join(dir, "grows"));
    const asAtFirst = Object.assign(await source.stat(), { size: 32 * MIB, blocks: bytes / 512 });
    await copyContent(source, partial, asAtFirst).catch(() => undefined);
    await source.close();
    expect(statSync(partial).size).toBeLessThanOrEqual(32 * MIB);
  });

  it("leaves a copy to the job that changed it while a new one was under way", async () => {
    write(beamline("processed/a"), "old");
    const one = mirror();
    const running = one.run();
    await vi.waitFor(() => expect(readFileSync(core("processed/a"), "utf8")).toBe("old"), {
      timeout: 20_000,
    });
    write(beamline("processed/a"), Buffer.alloc(256 * MIB, "x"));
    while (readdirSync(join(dir, "partial")).length === 0) await turn();
    writeFileSync(core("processed/a"), "the job's");
    await finish(one, running);
    expect(readFileSync(core("processed/a"), "utf8")).toBe("the job's");
  });

  it.runIf(process.geteuid?.() === 0)("never shows a folder before it has its owner and mode", async () => {
    chownSync(core("processed"), 4321, 4321);
    const one = mirror();
    const running = one.run();
    const FOLDERS = 200;
    const wrong = new Set<string>();
    for (let made = 0, there = 0; there < FOLDERS;) {
      if (made < FOLDERS) mkdirSync(beamline(`processed/${made++}`));
      await turn();
      const names = readdirSync(core("processed"));
      there = names.length;
      for (const name of names) {
        const { uid, mode } = lstatSync(core(`processed/${name}`));
        if (uid !== 4321 || (mode & 0o777) !== 0o755) wrong.add(name);
      }
    }
    await finish(one, running);
    expect([...wrong]).toEqual([]);
  });

  it("copies no more names than it has room for, says so, and removes nothing of what it does not see", async () => {
    write(beamline("raw/0/kept"), "x");
    await finish(mirror());
    for (let number = 0; number < 50; number++) write(beamline(`raw/1/${number}`), "x");
    await finish(mirror(20 * 300));
    expect(readdirSync(core("raw/1")).length).toBeLessThan(50);
    expect(said.join("\n")).toContain("not copied as a whole: the session has too many files");
    await finish(mirror(300));
    expect(readdirSync(core("raw/0"))).toEqual(["kept"]);
    expect(readdirSync(core("raw/1")).length).toBeGreaterThan(0);
  });

  it("says of a file whose name is no text that it is not copied", async () => {
    writeFileSync(Buffer.concat([Buffer.from(beamline("raw/Probe_")), Buffer.from([0xe4])]), "x");
    write(beamline("raw/\uFFFD"), "a name like any other");
    await finish(mirror());
    expect(readdirSync(core("raw"))).toEqual(["\uFFFD"]);
    expect(said.join("\n")).toContain("its name is not UTF-8");
  });

  it("finds all that appears in hundreds of new folders at once, deep and flat", async () => {
    const one = mirror();
    const running = one.run();
    const paths = Array.from({ length: 300 }, (_, at) => `raw/${at}/${"d/".repeat(at % 20)}f`);
    for (const path of paths) write(beamline(path), "x");
    await vi.waitFor(
      () => {
        const files = readdirSync(core("raw"), { recursive: true, withFileTypes: true });
        expect(files.filter((each) => each.isFile())).toHaveLength(paths.length);
      },
      { timeout: 100_000, interval: 200 },
    );
    await finish(one, running);
  });

  it("says what was still changing when the session was stopped", async () => {
    write(beamline("raw/changing"), Buffer.alloc(8 * MIB, "x"));
    let isOver = false;
    const change = async () => {
      for (let time = 1; !isOver; time++) {
        writeFileSync(beamline("raw/changing"), Buffer.alloc(8 * MIB + (time % 100), "x"));
        await turn();
      }
    };
    const changing = change();
    await finish(mirror());
    isOver = true;
    await changing;
    expect(said.join("\n")).toContain("raw/changing: not copied: it changed until the end");
  });
});
