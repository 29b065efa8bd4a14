import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { type Copied, MirrorJournal } from "../../src/facility/mirror-journal.ts";

const folder = mkdtempSync(join(tmpdir(), "mento-journal-"));
afterAll(() => rmSync(folder, { recursive: true }));

const file = (inode: number): Copied => {
  return { kind: "file", inode, size: 1, mtimeMs: 1, readers: "all", mode: 0o644, copyInode: inode };
};

it("a journal knows again what it had, whatever its names and however many pieces it is read in", () => {
  const path = join(folder, "long");
  const journal = new MirrorJournal(path, () => true);
  for (let at = 0; at < 60; at++) journal.add(`${at}${"\u0001é".repeat(15_000)}`, file(at));
  journal.add("gone", file(99));
  journal.forget("gone");
  expect(readFileSync(path).length).toBeGreaterThan(5 * 1024 * 1024);
  const again = new MirrorJournal(path, () => true);
  expect(again.manifest).toEqual(journal.manifest);
  expect(new MirrorJournal(path, (one) => one.startsWith("7")).manifest.size).toBe(1);
});

it("a file that changes all the time does not make it grow without an end", () => {
  const path = join(folder, "often");
  const name = "long".repeat(1000);
  const journal = new MirrorJournal(path, () => true);
  for (let at = 0; at < 10_000; at++) journal.add(name, file(at));
  expect(statSync(path).size).toBeLessThan(10 * 1024 * 1024);
  expect(new MirrorJournal(path, () => true).manifest).toEqual(new Map([[name, file(9999)]]));
});
