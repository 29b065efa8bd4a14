import { execFileSync, spawn } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FileQueue, NoAnswer } from "../../src/files/file-queue.ts";
import {
  listFolder,
  readGivenFile,
  readIfChanged,
  readPlainFile,
  textOf,
  writePlainFile,
  type FileRules,
} from "../../src/files/plain-file.ts";

const folder = mkdtempSync(join(tmpdir(), "mento-plain-"));
const at = (name: string) => join(folder, name);
const refuse: FileRules = { maxBytes: 1000, links: "refuse" };
const follow: FileRules = { maxBytes: 1000, links: "follow" };
const socket = createServer();

beforeAll(async () => {
  writeFileSync(at("good"), "\uFEFFcontent");
  execFileSync("mkfifo", [at("pipe")]);
  mkdirSync(at("folder"));
  symlinkSync(at("good"), at("link"));
  symlinkSync(at("pipe"), at("link-to-pipe"));
  symlinkSync("/dev/zero", at("link-to-zero"));
  symlinkSync(at("loop"), at("loop"));
  symlinkSync(folder, at("folder/up"));
  writeFileSync(at("sparse"), "");
  truncateSync(at("sparse"), 1_900_000_000);
  await new Promise<void>((resolve) => socket.listen(at("socket"), resolve));
});
afterAll(() => {
  socket.close();
  rmSync(folder, { recursive: true });
});

describe("a file that somebody else may have made", () => {
  it("is read, with or without a link to it, as its kind says", async () => {
    expect(textOf((await readPlainFile(at("good"), refuse)).bytes)).toBe("content");
    expect(textOf((await readPlainFile(at("link"), follow)).bytes)).toBe("content");
    expect(textOf(readGivenFile(at("link"), follow).bytes)).toBe("content");
  });

  it.each([
    ["pipe", refuse, "a named pipe"],
    ["link-to-pipe", follow, "a named pipe"],
    ["folder", refuse, "a folder"],
    ["socket", refuse, "a socket"],
    ["link-to-zero", follow, "a device"],
    ["sparse", refuse, "more than 1000 bytes"],
    ["link", refuse, "a link"],
    ["loop", follow, "a link"],
    ["missing", follow, "ENOENT"],
  ])("that is %s is refused at once, and says what it is", async (name, rules, words) => {
    await expect(readPlainFile(at(name), rules)).rejects.toThrow(words);
    expect(() => readGivenFile(at(name), rules)).toThrow(words);
  });

  it("without an end, whatever its size says, is read up to the limit", async () => {
    // Its size is 0, as that of all files there.
    await expect(readPlainFile("/proc/self/smaps", refuse)).rejects.toThrow("more than 1000 bytes");
  });

  it("must lie in its folder, whatever links lead to it", async () => {
    const inside = { ...refuse, within: folder };
    expect((await readPlainFile(at("folder/up/good"), inside)).bytes.length).toBeGreaterThan(0);
    const outside = { ...refuse, within: at("folder") };
    await expect(readPlainFile(at("folder/up/good"), outside)).rejects.toThrow("links lead from it");
  });

  it("is not read again until it changes", async () => {
    const { version } = await readPlainFile(at("good"), refuse);
    expect(await readIfChanged(at("good"), refuse, version)).toBe("unchanged");
    chmodSync(at("good"), 0o600);
    expect(await readIfChanged(at("good"), refuse, version)).toMatchObject({ mode: 0o600 });
  });

  it("is not held up by a hundred pipes that nobody writes into", async () => {
    const all = Array.from({ length: 100 }, () => readPlainFile(at("pipe"), refuse));
    const good = readPlainFile(at("good"), refuse);
    await Promise.allSettled(all);
    expect((await good).bytes.length).toBeGreaterThan(0);
  });

  it("of a command may be a pipe that somebody writes into", () => {
    const writer = spawn("/bin/sh", ["-c", `echo hello > ${at("pipe")}`]);
    writer.on("error", () => undefined);
    // Nobody has written yet, or somebody does: neither waits for ever.
    const before = Date.now();
    try {
      expect(readGivenFile(at("pipe"), { ...follow, pipes: true }).bytes.toString()).toBe("hello\n");
    } catch (error) {
      expect(String(error)).toContain("nobody has written into it");
    }
    expect(Date.now() - before).toBeLessThan(9_000);
    writer.kill();
  });

  it("is not written through a link or into a pipe", () => {
    const rules = { links: "refuse", mode: 0o640 } as const;
    for (const name of ["link", "pipe", "folder", "link-to-pipe"]) {
      expect(() => writePlainFile(at(name), "x", rules)).toThrow();
    }
    writePlainFile(at("new"), "long", rules);
    writePlainFile(at("new"), "x", rules);
    const { bytes, mode } = readGivenFile(at("new"), refuse);
    expect([textOf(bytes), mode]).toEqual(["x", 0o640]);
  });

  it("is written through a link where its kind says so, but into nothing else", () => {
    const rules = { links: "follow", mode: 0o600 } as const;
    symlinkSync(at("linked"), at("link-to-linked"));
    writePlainFile(at("link-to-linked"), "x", rules);
    expect(textOf(readGivenFile(at("linked"), refuse).bytes)).toBe("x");
    for (const [name, words] of [
      ["pipe", "a pipe that nobody reads"],
      ["link-to-pipe", "a pipe that nobody reads"],
      ["folder", "a folder"],
      ["socket", "a socket"],
      ["link-to-zero", "a device"],
      ["loop", "a link"],
    ] as const) {
      expect(() => writePlainFile(at(name), "x", rules)).toThrow(words);
    }
  });

  it("a folder is listed up to a number of names, and none is there if it is not", async () => {
    expect(await listFolder(at("missing"), 10)).toEqual([]);
    await expect(listFolder(folder, 3)).rejects.toThrow("more than 3 files");
  });
});

describe("a file system that hangs", () => {
  const never = () => new Promise<never>(() => undefined);

  it("fails in time, costs one operation, and others go on", async () => {
    const turns = new FileQueue(100);
    let begun = 0;
    const hang = () => {
      begun += 1;
      return never();
    };
    const all = Array.from({ length: 20 }, (_, number) => turns.run(`/gpfs/${number}`, "read", hang));
    expect(await turns.run("/asap3/x", "read", () => Promise.resolve("fine"))).toBe("fine");
    for (const one of await Promise.allSettled(all))
      expect(one).toMatchObject({ reason: expect.any(NoAnswer) as unknown });
    expect([begun, turns.isStuck]).toEqual([1, true]);
    await expect(turns.run("/gpfs/x", "read", hang)).rejects.toThrow("/gpfs has not answered");
    expect(begun).toBe(1);
  });

  it("is asked again when it has answered", async () => {
    const turns = new FileQueue(50);
    let answer: () => void = () => undefined;
    const slow = turns.run("/gpfs/a", "read", () => new Promise<void>((resolve) => (answer = resolve)));
    await expect(slow).rejects.toThrow(NoAnswer);
    answer();
    await sleep(10);
    expect(await turns.run("/gpfs/a", "read", () => Promise.resolve(1))).toBe(1);
    expect(turns.isStuck).toBe(false);
  });

  it("what many want at once is asked for once, but not with an answer from before", async () => {
    const turns = new FileQueue();
    let count = 0;
    const read = () => Promise.resolve(++count);
    const all = await Promise.all(Array.from({ length: 10 }, () => turns.run("/a/b", "read", read)));
    expect([...new Set(all)]).toEqual([1, 2]);
  });
});
