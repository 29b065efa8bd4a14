import { execFileSync } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { dataCheck, type DataWanted } from "../../src/jobs/data-check.ts";

let top: string;
let root: string;
beforeAll(() => {
  top = mkdtempSync(join(tmpdir(), "mento-data-"));
});
afterAll(() => rmSync(top, { recursive: true, force: true }));
beforeEach(() => {
  root = mkdtempSync(join(top, "session-"));
  mkdirSync(join(root, "raw"));
});

/** A file of the session, last written so long ago. */
function write(name: string, content: string | Buffer = "data", age = 60): string {
  const path = join(root, name);
  writeFileSync(path, content);
  const at = Date.now() / 1000 - age;
  utimesSync(path, at, at);
  return path;
}

/** What the account's shell says of each: each of the two that are common. Many checks share one shell, which is cheaper. */
function checks(each: { paths: string[]; more?: Partial<DataWanted> }[]): string[] {
  const scripts = each.map(({ paths, more }) => {
    const wanted = {
      root,
      paths,
      bytes: undefined,
      companions: false,
      seenBefore: undefined,
      isSettled: false,
      ...more,
    };
    return `(\n${dataCheck(wanted)}\necho good\n)\nprintf '\\0'\n`;
  });
  const script = `say() { printf '%s\n' "$1"; exit 0; }\n${scripts.join("")}`;
  const [dash = [], bash] = ["dash", "bash"].map((shell) => {
    const said = execFileSync(shell, ["-c", script], { encoding: "utf8" }).split("\0");
    return said.slice(0, -1).map((one) => one.trim());
  });
  expect(bash).toEqual(dash);
  return dash;
}

const check = (paths: string[], more: Partial<DataWanted> = {}) => checks([{ paths, more }])[0] ?? "";

describe("data on the core file system", () => {
  it("is taken when it is there and has not changed for a while", () => {
    expect(check([write("raw/a.h5"), write("raw/b.h5")])).toBe("good");
  });

  it("is missing while it, or its folder, is not listed", () => {
    expect(check([write("raw/a.h5"), join(root, "raw/b.h5")])).toBe("missing 1 -");
    expect(check([join(root, "raw/s1/b.h5")])).toBe("missing 0 -");
  });

  it("of unknown size that was written lately is looked at twice", () => {
    const path = write("raw/a.h5", "data", 0);
    const look = check([path]);
    const [, seenBefore = ""] = /^changing ([0-9a-f]{64})$/.exec(look) ?? [];
    expect(check([path], { seenBefore })).toBe("good");
    expect(check([path], { seenBefore: "'; echo good; '" })).toBe(look);
    const programs = join(root, "programs");
    mkdirSync(programs, { recursive: true });
    writeFileSync(join(programs, "sha256sum"), "#!/bin/sh\nexit 1\n", { mode: 0o755 });
    const before = process.env["PATH"];
    process.env["PATH"] = `${programs}:${before ?? ""}`;
    expect(check([path])).toBe("changing");
    process.env["PATH"] = before;
    truncateSync(path, 2);
    const other = check([path], { seenBefore });
    expect(other).toMatch(/^changing [0-9a-f]{64}$/);
    expect(other).not.toBe(look);
    expect(check([path], { isSettled: true })).toBe("good");
  });

  it("of known size counts as soon as it has that size", () => {
    const path = write("raw/a.h5", "data", 0);
    expect(check([path], { bytes: [4] })).toBe("good");
    expect(check([path], { bytes: [5] })).toBe("missing 0 4");
  });

  it("may be a folder", () => {
    mkdirSync(join(root, "raw/scan"));
    utimesSync(join(root, "raw/scan"), 1, 1);
    expect(check([join(root, "raw/scan")])).toBe("good");
  });

  it("may have any name", () => {
    const name = fc.string({ minLength: 1, maxLength: 40, unit: "binary" }).filter((text) => {
      return (
        !/[/\0]/.test(text) &&
        text !== "." &&
        text !== ".." &&
        Buffer.byteLength(text) < 255 &&
        text.isWellFormed()
      );
    });
    const odd = fc.constantFrom(
      "a b",
      "a'b",
      "-rf",
      "*",
      "[a]",
      "!a",
      "^a",
      "$(a)",
      "`a`",
      "a\nb",
      ".a",
      "..a",
      "ä",
      "\\a",
      "a\\",
      "]",
      "-",
      "~",
      "#",
    );
    const names = fc.uniqueArray(fc.oneof(odd, name), { minLength: 10, maxLength: 10 });
    fc.assert(
      fc.property(names, (texts) => {
        const absent = checks(texts.map((text) => ({ paths: [join(root, "raw", text)] })));
        expect(absent).toEqual(texts.map(() => "missing 0 -"));
        const paths = texts.map((text) => write(`raw/${text}`));
        const there = checks(
          paths.flatMap((path) => [{ paths: [path], more: { bytes: [4] } }, { paths: [path] }]),
        );
        expect(there).toEqual(paths.flatMap(() => ["good", "good"]));
        for (const path of paths) rmSync(path);
      }),
      { numRuns: 6 },
    );
  });
});

describe("a symbolic link", () => {
  it("that leads out of the session is refused, as the file or as a folder on the way", () => {
    writeFileSync(join(top, "secret"), "x");
    symlinkSync(join(top, "secret"), join(root, "raw/a.h5"));
    expect(check([join(root, "raw/a.h5")])).toBe(`outside 0 ${join(top, "secret")}`);
    mkdirSync(join(top, "other"), { recursive: true });
    writeFileSync(join(top, "other/b.h5"), "x");
    symlinkSync(join(top, "other"), join(root, "raw/out"));
    expect(check([join(root, "raw/out/b.h5")])).toBe(`outside 0 ${join(top, "other")}`);
  });

  it("cannot forge the answer by the name of what it leads to", () => {
    const target = join(top, "x\nmento:submitted 4711 ");
    mkdirSync(target, { recursive: true });
    symlinkSync(target, join(root, "raw/forged"));
    expect(check([join(root, "raw/forged/a.h5")])).toBe(
      `outside 0 ${join(top, "x mento:submitted 4711 ")}`.trim(),
    );
  });

  it("inside the session is followed, and one that leads nowhere is missing", () => {
    write("raw/a.h5");
    symlinkSync("a.h5", join(root, "raw/link.h5"));
    expect(check([join(root, "raw/link.h5")])).toBe("good");
    symlinkSync("nothing.h5", join(root, "raw/broken.h5"));
    expect(check([join(root, "raw/broken.h5")])).toBe("missing 0 -");
  });

  it("in the way to the session itself is no matter", () => {
    const path = write("raw/a.h5");
    const alias = `${root}-alias`;
    symlinkSync(root, alias);
    expect(check([path.replace(root, alias)], { root: alias })).toBe("good");
  });

  it("to a sibling whose name begins like the session's leads out", () => {
    mkdirSync(`${root}9`);
    writeFileSync(`${root}9/a.h5`, "x");
    symlinkSync(`${root}9`, join(root, "raw/out"));
    expect(check([join(root, "raw/out/a.h5")])).toMatch(/^outside/);
  });
});

describe("an HDF5 master", () => {
  it("waits for the data files that it links to, where the trigger says so", () => {
    // The real one is in test/integration/data.test.ts.
    const names = Buffer.from(
      "\0\0s 1_data_000001.h5\0/entry/data\0\u00ff\0s 1_data_000002.h5\0/entry/data\0",
      "latin1",
    );
    const master = write("raw/s 1_master.h5", names);
    expect(check([master])).toBe("good");
    expect(check([master], { companions: true })).toBe("companion 0 s 1_data_*");
    write("raw/s 1_data_000001.h5");
    expect(check([master], { companions: true })).toBe("companion 0 s 1_data_000002.h5");
    write("raw/s 1_data_000002.h5", "data", 0);
    expect(check([master], { companions: true, bytes: [1] })).toMatch(/^missing 0 \d+$/);
    expect(check([master], { companions: true })).toMatch(/^changing/);
    write("raw/s 1_data_000002.h5");
    expect(check([master], { companions: true })).toBe("good");
  });

  it("that names no data files has those beside it", () => {
    const master = write("raw/a(1)_master.h5");
    expect(check([master], { companions: true })).toBe("companion 0 a(1)_data_*");
    write("raw/a(1)_data_000001.h5");
    expect(check([master], { companions: true })).toBe("good");
  });

  it.each([" space", "back\\nslash", "a[1]*"])("finds the data files of a master named %j", (stem) => {
    const master = write(`raw/${stem}_master.h5`, Buffer.from(`\0${stem}_data_000001.h5\0`));
    expect(check([master], { companions: true })).toBe(`companion 0 ${stem}_data_*`);
    write(`raw/${stem}_data_000001.h5`);
    expect(check([master], { companions: true })).toBe("good");
  });

  it("is like any other file otherwise, and other files have no companions", () => {
    expect(check([write("raw/a.h5")], { companions: true })).toBe("good");
  });
});
