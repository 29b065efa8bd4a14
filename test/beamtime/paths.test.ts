import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Rejected } from "../../src/errors.ts";
import {
  isBeamlinePath,
  resultsPath,
  toBeamlinePath,
  toCorePath,
  toNodePath,
  type SessionRoots,
} from "../../src/beamtime/paths.ts";

const roots: SessionRoots = {
  beamline: "/gpfs/current",
  core: "/asap3/petra3/gpfs/p11/2026/data/11010000",
  node: "/beamline/p11/current",
};

function codeOf(path: string): string {
  try {
    return toCorePath(path, roots);
  } catch (error) {
    if (error instanceof Rejected) return error.code;
    throw error;
  }
}

describe("the three views of a path", () => {
  it("are of none that is longer than a file's can be, however it is written", () => {
    expect(codeOf(`/gpfs/current/raw/${"x".repeat(500_000)}${"/a/..".repeat(100_000)}`)).toBe(
      "path-outside-beamtime",
    );
  });

  it("maps the beamline's path to core and to the node's mount", () => {
    const path = "/gpfs/current/raw/s1/data.h5";
    expect(toCorePath(path, roots)).toBe(`${roots.core}/raw/s1/data.h5`);
    expect(toNodePath(path, roots)).toBe("/beamline/p11/current/raw/s1/data.h5");
  });

  it("takes a path that is a core or node path already", () => {
    expect(toCorePath(`${roots.core}/raw/a`, roots)).toBe(`${roots.core}/raw/a`);
    expect(toCorePath("/beamline/p11/current/raw/a", roots)).toBe(`${roots.core}/raw/a`);
    expect(toBeamlinePath(`${roots.core}/processed/a`, roots)).toBe("/gpfs/current/processed/a");
  });

  it("puts results where MENTO does, in the view of the data", () => {
    const results = "processed/onlineanalysis/s/scan/data_results.h5";
    expect(resultsPath("/gpfs/current/raw/s/scan/data.h5", roots)).toBe(`/gpfs/current/${results}`);
    expect(resultsPath(`${roots.core}/raw/s/scan/data.h5`, roots)).toBe(`${roots.core}/${results}`);
    expect(resultsPath("/gpfs/current/raw/data", roots)).toBe(
      "/gpfs/current/processed/onlineanalysis/data_results",
    );
    expect(() => resultsPath("/gpfs/current/processed/a", roots)).toThrow("raw folder");
    expect(() => resultsPath("/gpfs/current/raw", roots)).toThrow("raw folder");
    expect(() => resultsPath("/etc/raw/a", roots)).toThrow(Rejected);
  });

  it("has no beamline path for what is on core only", () => {
    expect(toBeamlinePath(`${roots.core}/scratch_cc/a`, roots)).toBeNull();
  });

  it("maps by whole components, not by the first 'raw' it finds", () => {
    expect(toCorePath("/gpfs/current/shared/drawings/raw/x", roots)).toBe(
      `${roots.core}/shared/drawings/raw/x`,
    );
    expect(codeOf("/home/user/raw/x")).toBe("path-outside-beamtime");
    expect(codeOf("/gpfs/currently/raw/x")).toBe("path-outside-beamtime");
  });

  it.each([
    ["/gpfs/current/raw/../../commissioning/raw/x", "path-outside-beamtime"],
    ["/gpfs/current/../../etc/passwd", "path-outside-beamtime"],
    ["/gpfs/current", "path-outside-beamtime"],
    ["raw/x", "path-outside-beamtime"],
    ["/asap3/petra3/gpfs/p11/2026/data/11010001/raw/x", "path-outside-beamtime"],
    ["/gpfs/current/scratch_bl/x", "path-not-synced"],
    ["/gpfs/current/raw/../scratch_bl/x", "path-not-synced"],
    ["/gpfs/local/x", "path-not-synced"],
  ])("refuses %s as %s", (path, code) => {
    expect(codeOf(path)).toBe(code);
  });

  const component = fc.oneof(
    fc.string({ unit: "grapheme", minLength: 1 }),
    fc.constantFrom("..", ".", "", "raw", "$(rm)", "a\nb", "-x", "scratch_bl", "x".repeat(4096)),
  );
  const anyPath = fc.array(component, { maxLength: 8 }).map((parts) => parts.join("/"));

  it("never leaves the session's root, whatever the path", () => {
    fc.assert(
      fc.property(fc.constantFrom(roots.beamline, roots.core, roots.node), anyPath, (root: string, tail) => {
        const mapped = codeOf(`${root}/${tail}`);
        if (mapped.startsWith("path-")) return;
        expect(mapped.startsWith(`${roots.core}/`)).toBe(true);
        expect(mapped.split("/")).not.toContain("..");
      }),
    );
  });

  it("goes to core and back without a change", () => {
    const name = fc
      .string({ unit: "grapheme", minLength: 1 })
      .filter((one) => !/[/\0]/.test(one) && !/^\.+$/.test(one));
    fc.assert(
      fc.property(fc.constantFrom("raw", "processed", "shared"), fc.array(name), (folder, parts) => {
        const path = ["/gpfs/current", folder, ...parts].join("/");
        expect(toBeamlinePath(toCorePath(path, roots), roots)).toBe(path);
        expect(toBeamlinePath(toNodePath(path, roots), roots)).toBe(path);
        expect(toCorePath(toNodePath(toCorePath(path, roots), roots), roots)).toBe(toCorePath(path, roots));
        expect(toCorePath(`${path}//`, roots)).toBe(toCorePath(path, roots));
        expect(isBeamlinePath(path, roots)).toBe(true);
      }),
    );
  });
});
