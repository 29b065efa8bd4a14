import fc from "fast-check";
import picomatch from "picomatch";
import { describe, expect, it } from "vitest";
import { globToRegex } from "../../src/jobs/glob.ts";
import { globMistake } from "../../src/triggers/glob-mistake.ts";
import { compilePathGlob } from "../../src/triggers/path-glob.ts";

const name = fc.string({ unit: fc.constantFrom("a", "b", "1", "_", ".", "é", "("), maxLength: 4 });
const piece = fc.constantFrom(
  ...["a", "b", "1", "_", ".", "é", "(", ")", "*", "*", "?", "/", "/", "**", "**/", "\\*", "\\?"],
  ...[
    "[ab]",
    "[!a]",
    "[^1_]",
    "[a-c]",
    "[!-a]",
    "[]a]",
    "[!]a]",
    "{a,b}",
    "{a,{b,1}}",
    "{,_}",
    "{*.a,b/**}",
    "}",
  ],
);
const glob = fc.array(piece, { maxLength: 10 }).map((pieces) => pieces.join(""));
const path = fc.array(name, { maxLength: 5 }).map((names) => names.join("/"));

/** Paths that are close to the glob, or hardly one in a thousand would fit. */
const likely = fc
  .tuple(glob, fc.array(name, { minLength: 4, maxLength: 4 }))
  .map(([text, [one = "", other = "", folder = "", last = ""]]) => ({
    text,
    near: text
      .replace(/\*\*\/?/g, `${folder}/`)
      .replace(/\*/g, one)
      .replace(/\?/g, last.slice(0, 1) || "a")
      .replace(/\{([^{},]*),.*?\}+/g, "$1")
      .replace(/\[[^\]]+\]/g, other.slice(0, 1) || "b")
      .replace(/\\/g, ""),
  }));

describe("a path's glob", () => {
  it("means what it means for results on the node", () => {
    let fitting = 0;
    const holds = (text: string, one: string) => {
      // In a POSIX expression a ] that comes first in a set is one of it.
      const expression = globToRegex(text).replace(/\[(\^?)\]/g, "[$1\\]");
      const ofResults = new RegExp(`^${expression}$`, "su").test(one);
      fitting += ofResults ? 1 : 0;
      expect(compilePathGlob(text)(one), `${text} on ${one}`).toBe(ofResults);
    };
    fc.assert(fc.property(glob, path, holds), { numRuns: 3000 });
    fc.assert(
      fc.property(likely, ({ text, near }) => holds(text, near)),
      { numRuns: 3000 },
    );
    expect(fitting).toBeGreaterThan(500);
  });

  const globs = [
    ...["**", "/**", "**/raw/**", "**/*.h5", "**/*_master.h5", "**/raw/**/*_master.h5", "/gpfs/*/raw/*.h5"],
    ...["**/{dark,flat}/**", "**/scan_[0-9][0-9].h5", "**/scan_[!0-9]*.h5", "**/scan_????.h5", "!**/dark/**"],
    ...[
      "{/gpfs,/asap3}/**/*.{h5,nxs}",
      "**/a+b/*.h5",
      "**/a$b^c/*.h5",
      "**/.hidden/*",
      "/gpfs/current/raw/x.h5",
    ],
  ];
  const paths = [
    ...["/gpfs/current/raw/x.h5", "/gpfs/current/raw/s/x_master.h5", "/asap3/d/raw/dark/x.nxs", "/x.h5"],
    ...["/gpfs/flat/scan_12.h5", "/gpfs/scan_a.h5", "/gpfs/scan_0001.h5", "/g/a+b/1.h5", "/g/a$b^c/1.h5"],
    ...["/g/.hidden/x", "/gpfs/raw/.x.h5", "/raw/x", "/gpfs/current/processed/x.cbf"],
  ];

  it.each(globs)("%s means what it means for picomatch", (text) => {
    const other = picomatch(text, { dot: true, posix: true });
    for (const one of paths) expect(compilePathGlob(text)(one), one).toBe(other(one));
  });

  it.each([
    ["**/[!a]*.h5", "/gpfs/b.h5", true],
    ["**/[!a]*.h5", "/gpfs/ab.h5", false],
    ["**/x[!a]y", "/x/y", false],
    ["**/scan (1)/*.h5", "/gpfs/scan (1)/a.h5", true],
    ["**/scan (1)/*.h5", "/gpfs/scan 1/a.h5", false],
    ["**/raw/**", "/gpfs/current/raw/a\nb.h5", true],
    ["**/raw/*.h5", "/gpfs/current/raw/a\nb.h5", true],
    ["**/\\{a\\}", "/{a}", true],
    ["**/scan_?.h5", "/scan_𝒳.h5", true],
  ])("%s on %j: %s", (text, one, fits) => {
    expect(globMistake(text)).toBeUndefined();
    expect(compilePathGlob(text)(one)).toBe(fits);
  });

  it("is quick on any path", () => {
    const started = performance.now();
    const name = `scan${"_".repeat(245)}`;
    const long = `/${name}`.repeat(15);
    expect(compilePathGlob("**/scan_*_*_*_*.h5")(long)).toBe(false);
    expect(compilePathGlob("**/*a*_*_*_*_*_*/**/*_*_*_*/**/*{_,__}*{_,__}*x")(long)).toBe(false);
    expect(compilePathGlob("**/raw/**/dark/**/*.h5")("/raw/dark".repeat(400) + "/x")).toBe(false);
    expect(performance.now() - started).toBeLessThan(1000);
  });
});
