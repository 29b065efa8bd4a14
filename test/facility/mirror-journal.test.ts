import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { MirrorJournal } from "../../src/facility/mirror-journal.ts";

const folder = mkdtempSync(join(tmpdir(), "mento-journal-"));
afterAll(() => rmSync(folder, { recursive: true }));

const file = (inode: number) => ({ kind: "file" as const, inode, size: 1, mtimeMs: 1 });

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
  const journal = new MirrorJournal(path, () => true);
  for (let at = 0; at < 100_050; at++) journal.add("x", file(at));
  expect(readFileSync(path, "utf8").split("\n").length).toBeLessThan(100);
  expect(new MirrorJournal(path, () => true).manifest).toEqual(new Map([["x", file(100_049)]]));
});
