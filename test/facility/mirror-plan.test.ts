import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import {
  type Manifest,
  planMirror,
  type Seen,
  type SourceFacts,
  type Step,
} from "../../src/facility/mirror-plan.ts";

const file = (inode: number, size = 1, mtimeMs = 1000): SourceFacts => {
  return { kind: "file", inode, size, mtimeMs, readers: "all", mode: 0o644 };
};
const directory = (inode: number): SourceFacts => {
  return { kind: "directory", inode, size: 0, mtimeMs: 0, readers: "all", mode: 0o777 };
};
const closed = (facts: SourceFacts): SourceFacts => ({ ...facts, readers: 1000, mode: facts.mode & 0o770 });
const paths = (steps: Step[]) =>
  steps.map((step) => `${step.do} ${step.do === "rename" ? step.to : step.path}`);

describe("planMirror", () => {
  it("makes a directory before it copies what lies in it", () => {
    const seen: Seen = new Map([
      ["raw/s1/a.h5", file(2)],
      ["raw/s1", directory(1)],
    ]);
    expect(paths(planMirror(new Map(), seen))).toEqual(["make-directory raw/s1", "copy raw/s1/a.h5"]);
  });

  it("does nothing about a file that has not changed", () => {
    const manifest: Manifest = new Map([["raw/a.h5", file(1)]]);
    expect(planMirror(manifest, new Map([["raw/a.h5", file(1)]]))).toEqual([]);
  });

  it("copies a file again that has another size or time", () => {
    const manifest: Manifest = new Map([["raw/a.h5", file(1)]]);
    expect(paths(planMirror(manifest, new Map([["raw/a.h5", file(1, 2)]])))).toEqual(["copy raw/a.h5"]);
    expect(paths(planMirror(manifest, new Map([["raw/a.h5", file(1, 1, 2000)]])))).toEqual(["copy raw/a.h5"]);
  });

  it("sets the rights of what was closed or opened, and copies only what is another file", () => {
    const manifest: Manifest = new Map([
      ["raw/s", directory(1)],
      ["raw/s/a", closed(file(2))],
      ["raw/s/b", closed(file(3))],
    ]);
    const seen: Seen = new Map([
      ["raw/s/b", file(4)],
      ["raw/s/a", file(2)],
      ["raw/s", closed(directory(1))],
    ]);
    expect(paths(planMirror(manifest, seen))).toEqual([
      "set-rights raw/s",
      "set-rights raw/s/a",
      "copy raw/s/b",
    ]);
  });

  it("removes what is gone before it copies", () => {
    const manifest: Manifest = new Map([["raw/gone", file(1)]]);
    const seen: Seen = new Map([
      ["raw/a", file(2)],
      ["raw/gone", null],
    ]);
    expect(paths(planMirror(manifest, seen))).toEqual(["remove raw/gone", "copy raw/a"]);
  });

  it("moves a file that was renamed, instead of copying it again", () => {
    const manifest: Manifest = new Map([["raw/a.h5.tmp", file(7)]]);
    const seen: Seen = new Map([
      ["raw/a.h5.tmp", null],
      ["raw/a.h5", file(7)],
    ]);
    expect(planMirror(manifest, seen)).toEqual([
      { do: "rename", from: "raw/a.h5.tmp", to: "raw/a.h5", facts: file(7) },
    ]);
  });

  it("removes what lay in a directory that is gone, and then the directory", () => {
    const manifest: Manifest = new Map([
      ["raw/s1", directory(1)],
      ["raw/s1/a.h5", file(2)],
      ["raw/s10", directory(3)],
    ]);
    const seen: Seen = new Map([["raw/s1", null]]);
    expect(paths(planMirror(manifest, seen))).toEqual(["remove raw/s1/a.h5", "remove raw/s1"]);
  });

  it("clears a directory away before a file takes its name", () => {
    const manifest: Manifest = new Map([["raw/x", directory(1)]]);
    expect(paths(planMirror(manifest, new Map([["raw/x", file(2)]])))).toEqual([
      "remove raw/x",
      "copy raw/x",
    ]);
  });

  it("copies a file that was renamed when a directory has taken its name", () => {
    const manifest: Manifest = new Map([["raw/a", file(3)]]);
    const seen: Seen = new Map([
      ["raw/a", directory(10)],
      ["raw/b", file(3)],
    ]);
    expect(paths(planMirror(manifest, seen))).toEqual(["remove raw/a", "make-directory raw/a", "copy raw/b"]);
  });

  it("looks at each of many files a few times only, however many are gone and have come", () => {
    const MANY = 5000;
    let looks = 0;
    class Counting<Value> extends Map<string, Value> {
      override get(path: string): Value | undefined {
        looks += 1;
        return super.get(path);
      }
    }
    // A search through a list looks at all that it has.
    const includes = Array.prototype.includes;
    const searching = vi.spyOn(Array.prototype, "includes").mockImplementation(function (
      this: unknown[],
      one,
    ) {
      looks += this.length;
      return includes.call(this, one);
    });
    const manifest = new Counting<SourceFacts>();
    const seen = new Counting<SourceFacts | null>();
    for (let at = 0; at < MANY; at++) {
      manifest.set(`raw/gone/${at}`, file(at));
      seen.set(`raw/gone/${at}`, null);
      seen.set(`raw/moved/${at}`, file(at));
      seen.set(`raw/new/${at}`, file(MANY + at));
      manifest.set(`raw/replaced/${at}`, directory(2 * MANY + at));
      seen.set(`raw/replaced/${at}`, file(3 * MANY + at));
    }
    const steps = planMirror(manifest, seen);
    searching.mockRestore();
    expect(steps.filter(({ do: what }) => what === "rename")).toHaveLength(MANY);
    expect(steps.filter(({ do: what }) => what === "copy")).toHaveLength(2 * MANY);
    expect(looks).toBeLessThan(100 * MANY);
  });

  it("never removes or moves what it did not copy, such as a job's results", () => {
    fc.assert(
      fc.property(someManifest(), someSeen(), (manifest, seen) => {
        for (const step of planMirror(manifest, seen)) {
          if (step.do === "remove") expect(manifest.has(step.path)).toBe(true);
          if (step.do === "rename") expect(manifest.has(step.from)).toBe(true);
        }
      }),
    );
  });

  it("leaves nothing to do once its steps are done", () => {
    fc.assert(
      fc.property(someManifest(), someSeen(), (manifest, seen) => {
        const after = carriedOut(manifest, planMirror(manifest, seen));
        expect(planMirror(after, seen)).toEqual([]);
      }),
      { numRuns: 2000 },
    );
  });
});

function somePath() {
  return fc
    .array(fc.constantFrom("a", "b", "c"), { minLength: 1, maxLength: 3 })
    .map((names) => ["raw", ...names].join("/"));
}

/** Inodes are those of real files: no two paths share one. */
function someManifest() {
  return fc.uniqueArray(somePath()).map((names) => {
    return new Map(names.map((name, index) => [name, name.length % 2 ? file(index) : directory(index)]));
  });
}

function someSeen() {
  const facts = fc.option(fc.tuple(fc.boolean(), fc.nat(9), fc.nat(2)), { nil: null });
  return fc.uniqueArray(fc.tuple(somePath(), facts), { selector: ([path]) => path }).map((entries) => {
    return new Map(
      entries.map(([path, seen], index): [string, SourceFacts | null] => {
        if (seen === null) return [path, null];
        const [isFile, inode, size] = seen;
        const facts = isFile ? file(inode + index * 10, size) : directory(inode + index * 10);
        return [path, inode % 2 ? facts : closed(facts)];
      }),
    );
  });
}

function carriedOut(manifest: Manifest, steps: Step[]): Manifest {
  const after = new Map(manifest);
  for (const step of steps) {
    if (step.do === "remove") after.delete(step.path);
    else if (step.do === "rename") {
      after.delete(step.from);
      after.set(step.to, step.facts);
    } else after.set(step.path, step.facts);
  }
  return after;
}
