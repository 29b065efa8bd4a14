import { execFileSync } from "node:child_process";
import { linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { checkedHere, linkCheck, type DataHere } from "../../src/jobs/link-check.ts";
import { dataHere } from "../../src/submission/data-here.ts";
import type { SubmitTarget } from "../../src/submission/method.ts";
import type { JobPlan } from "../../src/triggers/plan.ts";

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

function write(name: string, content = "data"): string {
  const path = join(root, name);
  writeFileSync(path, content);
  return path;
}

/** What the shell says: each of the two that are common. */
const given = (here: Omit<DataHere, "texts"> & Partial<DataHere>) => {
  const script = `say() { printf '%s\n' "$1"; exit 0; }\n${linkCheck({ texts: [], ...here })}\necho good`;
  const said = ["dash", "bash"].map((shell) =>
    execFileSync(shell, ["-s"], { input: script, encoding: "utf8" }),
  );
  expect(said[1]).toBe(said[0]);
  return said[0]?.trim() ?? "";
};
const giving = (...paths: string[]) =>
  given({ paths, folders: [join(top, "no such folder"), root], secrets: [join(root, "shared/id_rsa")] });

describe("what a job on the worker's host is given", () => {
  it("may be any file or folder below one of the folders, written lately or not there", () => {
    symlinkSync("a.h5", join(root, "raw/link.h5"));
    const paths = ["raw/link.h5", "raw", "raw/none.h5", "none/at/all"].map((name) => join(root, name));
    expect(giving(write("raw/a.h5"), ...paths)).toBe("good");
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
    const master = write("raw/m_master.h5");
    const data = write("raw/m_data_000001.h5", "a key");
    expect(giving(master)).toBe(`outside 0 ${data}`);
    rmSync(data);
    symlinkSync("k.dat", data);
    expect(giving(master)).toBe(`outside 0 ${copy}`);
    rmSync(data);
    write("raw/m_data_000001.h5", "b key");
    expect(giving(master)).toBe("good");
  });

  it("is looked at within seconds, however many files it is: some milliseconds each", () => {
    mkdirSync(join(root, "shared"), { recursive: true });
    write("shared/id_rsa", "a key");
    const paths = Array.from({ length: 1000 }, (_, nth) => write(`raw/f${nth}.h5`, "data"));
    const began = Date.now();
    expect(giving(...paths)).toBe("good");
    console.log(`1,000 files in each of two shells: ${Date.now() - began} ms`);
    const copy = write("raw/f500.h5", "a key");
    expect(giving(...paths)).toBe(`outside 500 ${copy}`);
  }, 120_000);

  it("waits for nothing that became a pipe meanwhile: the look is tried again", () => {
    mkdirSync(join(root, "shared"), { recursive: true });
    write("shared/id_rsa", "a key");
    const path = write("raw/a.h5", "b key");
    write("raw/b.h5", "other data");
    // It says that it is a file, and is none when it is opened: so quickly an account can change its files.
    const programs = join(top, "programs");
    mkdirSync(programs);
    writeFileSync(join(programs, "cmp"), "#!/bin/sh\nexec sleep 300\n", { mode: 0o755 });
    const before = process.env["PATH"];
    process.env["PATH"] = `${programs}:${before ?? ""}`;
    try {
      expect(() => giving(path)).toThrow(/took over 20 s/);
      expect(giving(join(root, "raw/b.h5"))).toBe("good");
    } finally {
      process.env["PATH"] = before;
    }
  }, 120_000);

  it("is not told where the look for copies of a key does not work", () => {
    mkdirSync(join(root, "shared"), { recursive: true });
    write("shared/id_rsa", "a key");
    const copy = write("raw/k.dat", "a key");
    const programs = join(top, "broken programs");
    mkdirSync(programs);
    writeFileSync(join(programs, "xargs"), "#!/bin/sh\nexit 1\n", { mode: 0o755 });
    const before = process.env["PATH"];
    process.env["PATH"] = `${programs}:${before ?? ""}`;
    try {
      expect(() => giving(copy)).toThrow(/look for copies of a key .* failed/);
    } finally {
      process.env["PATH"] = before;
    }
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
    const looked = performance.now() - used;
    execFileSync("/bin/sh", [
      "-c",
      "i=0; while [ $i -lt 3000 ]; do readlink -f / > /dev/null; i=$((i+1)); done",
    ]);
    const oneProcessEach = performance.now() - used - looked;
    expect(looked / oneProcessEach).toBeLessThan(1);
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

  it.each([
    "/proc/self/cwd/a.h5",
    "/proc/self/cwd/../raw/a.h5",
    "/proc/thread-self/cwd/a.h5",
    "/proc/self/task/../cwd/a.h5",
    "/dev/fd/../cwd/a.h5",
    "/dev/fd/0",
    "/dev/stdin",
    "/proc/self/root/etc/passwd",
    `/proc/${process.pid}/cwd/package.json`,
    "../../../../../../../../../../proc/self/cwd/a.h5",
  ])("leads through no process's own view of the files, for the program's is another: %s", (target) => {
    write("raw/a.h5");
    symlinkSync(target, join(root, "raw/x.h5"));
    symlinkSync("x.h5", join(root, "raw/again.h5"));
    symlinkSync("raw", join(root, "same"));
    symlinkSync("/proc", join(root, "raw/p"));
    symlinkSync("p/self/cwd", join(root, "raw/here"));
    write("raw/m_master.h5");
    symlinkSync(target, join(root, "raw/m_data_000001.h5"));
    for (const name of ["x.h5", "again.h5", "p/self/cwd/a.h5", "here/a.h5", "here", "m_master.h5"]) {
      for (const path of [join(root, "raw", name), join(root, "same", name)])
        expect([name, giving(write("raw/b.h5"), path)]).toEqual([name, expect.stringMatching(/^outside 1 /)]);
    }
    expect(giving(join(root, "same/a.h5"), join(root, "raw/a.h5"))).toBe("good");
  });

  it("has no data file with a name that is two to whoever reads them line by line", () => {
    const master = write("raw/m_master.h5");
    symlinkSync("/", join(root, "raw/q\nq"));
    symlinkSync("q\nq/proc/self/cwd/a", join(root, "raw/m_data_1.h5"));
    expect(giving(master)).toMatch(/^outside 0 /);
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

describe("a text that such a job is told", () => {
  /** What is said of a job with this argument, and of which text. */
  const naming = (...argv: string[]) => {
    const plan = {
      ...{ paths: [], announcedPaths: [], causeResults: [], causeDirectory: null, session: null },
      ...{ argv, env: {}, workdir: null, stdin: null },
    } as unknown as JobPlan;
    const target = { dataHere: { folders: [root], secrets: [join(root, "shared/id_rsa")], ownJobs: [] } };
    const here = dataHere(plan, target as unknown as SubmitTarget);
    if (here === null) throw new Error("it runs as another account");
    const [, index = "", real] = /^outside (\d+) (.*)$/.exec(given(here)) ?? [];
    return real === undefined ? "good" : { text: checkedHere(here)[Number(index)], real };
  };

  it("may name what lies inside, and what is not there, in any form", () => {
    write("raw/a.h5");
    write("raw/b c,d.h5");
    symlinkSync("a.h5", join(root, "raw/link.h5"));
    for (const argument of [
      `${root}/raw/a.h5::/entry/data`,
      `--in=${root}/raw/a.h5,${root}/raw/b c,d.h5,${root}/raw/none.h5`,
      `${root}/raw/link.h5[0]`,
      `${root}/raw/`,
      `${root}//raw//a.h5`,
      `open('${root}/raw/a.h5')\n`.repeat(200),
      `${root}-other/raw/a.h5 and /etc/passwd`,
      `${root}/${"x".repeat(10_000)}/y`,
      `${root}/raw/a\r\n${root}/raw/b\r\n`,
    ])
      expect(naming(argument)).toBe("good");
  });

  it("names no link that leads out, whatever stands before it and behind it", () => {
    symlinkSync("/etc/passwd", join(root, "raw/p_mask.tif"));
    symlinkSync("/etc", join(root, "raw/etc"));
    symlinkSync("/proc/self/cwd", join(root, "raw/by_proc"));
    const many = "a,b:c;d?e=f&g|h<i>j(k)l\"m'n o-p.q#r[s]t{u}v@w%x+y~z";
    symlinkSync("/etc/passwd", join(root, `raw/${many}_mask.h5`));
    mkdirSync(join(root, `raw,${root}/raw`), { recursive: true });
    symlinkSync("/etc/passwd", join(root, `raw,${root}/raw/x`));
    mkdirSync(join(root, `raw${root}`), { recursive: true });
    symlinkSync("/etc/passwd", join(root, `raw${root}/y.h5`));
    const leadingOut = [
      ...["", "[0]", "/entry/data", "#1", ":1", "::/entry", "\n", "-x", ".bak", "~", "é", "@2:/x"].map(
        (behind) => `${root}/raw/p_mask.tif${behind}`,
      ),
      `${root}/raw/etc/passwd`,
      `${root}/raw/etc/none`,
      `${root}/raw/by_proc/a.h5`,
      `${root}/raw/by_proc`,
      `${root}/raw/etc,1/passwd`,
      `${root}/raw/${many}_mask.h5::/entry/mask`,
      `${root}/raw,${root}/raw/x`,
      `${root}/raw,${root}/raw/x;y`,
      `${root}/raw${root}/y.h5[1]`,
      `file://${root}/raw/p_mask.tif`,
      `${root}/raw/../raw/p_mask.tif`,
      `${root}/raw/../../../etc/passwd`,
      `${root}/${root}/raw/p_mask.tif`,
    ];
    for (const argument of leadingOut) expect([argument, naming(argument)]).not.toEqual([argument, "good"]);
    expect(naming("cat", `x=${root}/raw/p_mask.tif:3`)).toEqual({
      text: `${root}/raw/p_mask.tif:3`,
      real: "/etc/passwd",
    });
  });

  it("names no secret, and no master whose data files lead out", () => {
    mkdirSync(join(root, "shared"));
    write("shared/id_rsa", "a key");
    write("raw/copy", "a key");
    write("raw/m_master.h5");
    symlinkSync("/etc/passwd", join(root, "raw/m_data_000001.h5"));
    for (const name of ["shared/id_rsa", "raw/copy", "raw/m_master.h5"])
      expect(naming(`${root}/${name}::/x`)).not.toBe("good");
  });

  it("is looked at soon, however long it is, or is refused", () => {
    mkdirSync(join(root, "d".concat("/d".repeat(300))), { recursive: true });
    const started = performance.now();
    const list = Array.from({ length: 1000 }, (_, number) => `${root}/raw/scan_${number}.h5`).join(",");
    expect(naming(list)).toBe("good");
    expect(naming(`${root}/raw/${",".repeat(300_000)}`)).toBe("good");
    for (const text of [
      `${root}/`.repeat(30_000),
      "'".repeat(10) + `${root}/`.concat("'".repeat(4000)).repeat(60),
    ])
      expect(() => naming(text)).toThrow("name more than can be looked at");
    const deep = `${root}${"/d".repeat(300)}`;
    const here = { paths: [], folders: [root], secrets: [] };
    expect(given({ ...here, texts: [Array.from({ length: 200 }, () => deep)] })).toBe("too-long 0");
    expect(naming(`${root}/${"a,".repeat(2_000)}`)).toBe("good");
    expect(performance.now() - started).toBeLessThan(20_000);
  });
});
