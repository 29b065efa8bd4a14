import { execFileSync } from "node:child_process";
import {
  linkSync,
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
import {
  dataCheck,
  linkCheck,
  dataCheckId,
  type DataHere,
  type DataWanted,
} from "../../src/jobs/data-check.ts";

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
    const wanted = { root, paths, bytes: undefined, companions: false, isSettled: false, ...more };
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
    expect(look).toMatch(/^changing 4:\d+\.\d+,$/);
    truncateSync(path, 2);
    expect(dataCheckId(check([path]))).not.toBe(dataCheckId(look));
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

describe("what a job on the worker's host is given", () => {
  const given = (here: DataHere) => {
    const script = `say() { printf '%s\n' "$1"; exit 0; }\n${linkCheck(here)}\necho good`;
    const said = ["dash", "bash"].map((shell) => execFileSync(shell, ["-c", script], { encoding: "utf8" }));
    expect(said[1]).toBe(said[0]);
    return said[0]?.trim() ?? "";
  };
  const giving = (...paths: string[]) =>
    given({ paths, folders: [join(top, "no such folder"), root], secrets: [join(root, "shared/id_rsa")] });

  it("may be any file or folder below one of the folders, written lately or not there", () => {
    symlinkSync("a.h5", join(root, "raw/link.h5"));
    const paths = ["raw/link.h5", "raw", "raw/none.h5", "none/at/all"].map((name) => join(root, name));
    expect(giving(write("raw/a.h5", "data", 0), ...paths)).toBe("good");
  });

  it("leads out of them by no link, in whichever part of the path, also to what is not there", () => {
    symlinkSync("/etc", join(root, "raw/etc"));
    symlinkSync("/etc/passwd", join(root, "raw/passwd"));
    symlinkSync("/none/at all", join(root, "raw/dangling"));
    symlinkSync("passwd", join(root, "raw/again"));
    for (const [name, real] of [
      ["raw/etc/passwd", "/etc/passwd"],
      ["raw/etc", "/etc"],
      ["raw/passwd", "/etc/passwd"],
      ["raw/again", "/etc/passwd"],
      ["raw/dangling", "/none/at all"],
    ]) {
      expect(giving(write("raw/a.h5"), join(root, name ?? ""))).toBe(`outside 1 ${real ?? ""}`);
    }
  });

  it("is no secret of its session's, by whatever name", () => {
    mkdirSync(join(root, "shared"), { recursive: true });
    const secret = write("shared/id_rsa", "a key");
    symlinkSync("../shared/id_rsa", join(root, "raw/scan_1.dat"));
    linkSync(secret, join(root, "raw/scan_2.dat"));
    for (const path of [secret, join(root, "raw/scan_1.dat"), join(root, "raw/scan_2.dat")])
      expect(giving(write("raw/a.h5"), path)).toMatch(/^outside 1 .*(id_rsa|scan_2.dat)$/);
    expect(giving(write("shared/id_rsa.pub"))).toBe("good");
  });

  it("is no copy of such a secret, wherever it was moved, and no folder that it lies in", () => {
    mkdirSync(join(root, "shared"), { recursive: true });
    write("shared/id_rsa", "a key");
    const copy = write("raw/k.dat", "a key");
    symlinkSync("k.dat", join(root, "raw/link.dat"));
    symlinkSync("../shared", join(root, "raw/folder"));
    expect(giving(copy)).toBe(`outside 0 ${copy}`);
    expect(giving(join(root, "raw/link.dat"))).toBe(`outside 0 ${copy}`);
    for (const folder of ["shared", "raw/folder", "."])
      expect(giving(join(root, folder))).toMatch(/^outside 0 /);
    expect(giving(join(root, "raw"), write("raw/other.dat", "b key"))).toBe("good");
  });

  it("is no link to a copy whose name ends with a newline, and everything if the secret is empty", () => {
    mkdirSync(join(root, "shared"), { recursive: true });
    write("shared/id_rsa", "a key");
    symlinkSync("k\n", join(root, "raw/link.dat"));
    write("raw/k\n", "a key");
    expect(giving(join(root, "raw/link.dat"))).toMatch(/^outside 0 /);
    write("shared/id_rsa", "");
    expect(giving(write("raw/empty.dat", ""))).toBe("good");
  });

  it("is looked at soon, however many data files and links a master has", () => {
    mkdirSync(join(root, "shared"), { recursive: true });
    const master = write("raw/m_master.h5");
    write("shared/id_rsa", "a key");
    write("raw/m_data_000000.h5");
    for (let number = 1; number <= 3000; number++)
      symlinkSync("m_data_000000.h5", join(root, `raw/m_data_${String(number).padStart(6, "0")}.h5`));
    const used = performance.now();
    expect(giving(master)).toBe("good");
    // One process each takes half a minute.
    expect(performance.now() - used).toBeLessThan(10_000);
    symlinkSync("/etc/passwd", join(root, "raw/m_data_009999.h5"));
    expect(giving(master)).toBe("outside 0 /etc/passwd");
  });

  it("is not compared with what cannot be read to its end", () => {
    mkdirSync(join(root, "shared"), { recursive: true });
    write("shared/id_rsa", "a key");
    execFileSync("mkfifo", [join(root, "raw/fifo")]);
    expect(giving(join(root, "raw/fifo"))).toBe("good");
  });

  it("leads out by no data file of a master either", () => {
    const master = write("raw/s 1_master.h5");
    write("raw/s 1_data_000001.h5");
    expect(giving(master)).toBe("good");
    symlinkSync("/etc/passwd", join(root, "raw/s 1_data_000002.h5"));
    expect(giving(master)).toBe("outside 0 /etc/passwd");
  });

  it("nor by one that lies beside what a master is a link to, called like that", () => {
    mkdirSync(join(root, "raw/real"), { recursive: true });
    write("raw/real/b_master.h5");
    symlinkSync("real/b_master.h5", join(root, "raw/a_master.h5"));
    const master = join(root, "raw/a_master.h5");
    expect(giving(master)).toBe("good");
    symlinkSync("/etc/passwd", join(root, "raw/real/b_data_000001.h5"));
    expect(giving(master)).toBe("outside 0 /etc/passwd");
  });

  it("is not outside itself, nor relative", () => {
    expect(giving("/etc/passwd")).toBe("outside 0 /etc/passwd");
    expect(giving(`${root}/raw/../../../../../../../../etc/passwd`)).toBe("outside 0 /etc/passwd");
    expect(giving(`${root}/..`)).toMatch(/^outside 0 /);
    expect(giving("etc/passwd")).toBe("outside 0 etc/passwd");
    expect(given({ paths: [write("raw/a.h5")], folders: [], secrets: [] })).toMatch(/^outside 0 /);
  });

  it("may have any name", () => {
    const name = fc
      .string({ minLength: 1, maxLength: 40, unit: "binary" })
      .filter(
        (one) =>
          one.isWellFormed() &&
          !/[/\0]/.test(one) &&
          one !== "." &&
          one !== ".." &&
          Buffer.byteLength(one) < 250,
      );
    fc.assert(
      fc.property(fc.uniqueArray(name, { minLength: 1, maxLength: 20 }), (names) => {
        const folder = mkdtempSync(join(root, "names-"));
        const paths = names.map((one) => join(folder, one));
        for (const path of paths) writeFileSync(path, "");
        expect(given({ paths, folders: [folder], secrets: [] })).toBe("good");
      }),
      { numRuns: 10 },
    );
  });
});
