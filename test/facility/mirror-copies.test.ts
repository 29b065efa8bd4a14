import { setImmediate as turn } from "node:timers/promises";
import { beforeEach, describe, expect, it } from "vitest";
import { type CopyStep, MirrorCopies } from "../../src/facility/mirror-copies.ts";

const GIB = 2 ** 30;
const started: string[] = [];
const ends = new Map<string, () => void>();
let copies: MirrorCopies;

const step = (path: string, size: number): CopyStep => {
  const facts = { kind: "file" as const, inode: 1, size, mtimeMs: 1, readers: "all" as const, mode: 0o644 };
  return { do: "copy", path, facts };
};

beforeEach(() => {
  started.length = 0;
  ends.clear();
  copies = new MirrorCopies(({ path }) => {
    started.push(path);
    return new Promise((resolve) => ends.set(path, resolve));
  });
});

describe("the copies of a session", () => {
  it("do not wait for large ones that came before, nor these for many small ones", async () => {
    for (let at = 0; at < 40; at++) copies.add(step(`large${at}`, GIB));
    expect(started).toEqual(["large0", "large1"]);
    for (let at = 0; at < 10; at++) copies.add(step(`small${at}`, 1));
    expect(started.slice(2)).toEqual(["small0", "small1", "small2", "small3"]);
    ends.get("large0")?.();
    await turn();
    expect(started.slice(6)).toEqual(["large2"]);
  });

  it("are planned anew while they wait, and over when all are", async () => {
    for (const path of ["a", "b", "c"]) copies.add(step(path, GIB));
    expect([copies.isUnderWay("a"), copies.isUnderWay("c")]).toEqual([true, false]);
    expect(copies.waiting("c")?.size).toBe(GIB);
    copies.drop("c");
    copies.add(step("d", GIB));
    let isOver = false;
    const over = copies.done().then(() => (isOver = true));
    for (const path of ["a", "b", "d"]) {
      expect(isOver).toBe(false);
      ends.get(path)?.();
      await turn();
    }
    await over;
    expect(started).toEqual(["a", "b", "d"]);
  });
});
