import { spawn, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import type { CopyBack } from "../../src/jobs/copy-back.ts";
import { NOT_RUN, UNPREPARED, type RunScript } from "../../src/jobs/run-script.ts";
import { asSlurmJob, JobsInShells } from "../support/jobs-in-shells.ts";

const jobs = new JobsInShells();
const { top } = jobs;
afterAll(() => jobs.remove());
const makeJob = jobs.make.bind(jobs);
const run = jobs.run.bind(jobs);
const readRecords = jobs.records.bind(jobs);

describe("the run script, in a real shell", () => {
  it("hands the exit code through and records start and end", () => {
    const { status, records, jobId } = run(["sh", "-c", "echo it broke; exit 7"]);
    expect(status).toBe(7);
    expect(records?.started?.at).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    expect(records?.ended).toMatchObject({
      record: { code: 7, stoppedBy: null },
      log: "it broke",
      results: [],
    });
    expect(existsSync(join(top, ".spool", `${jobId}.ended`))).toBe(false);
  });

  it("runs no program whose data has become a link to somewhere else since the submit", () => {
    const data = join(top, "data");
    mkdirSync(join(data, "raw"), { recursive: true });
    writeFileSync(join(top, "secret"), "not for all");
    const dataHere = {
      paths: [join(data, "raw/a"), join(data, "raw/b")],
      texts: [],
      folders: [data],
      secrets: [],
    };
    writeFileSync(join(data, "raw/a"), "data");
    symlinkSync("a", join(data, "raw/b"));
    const given = ["cat", ...dataHere.paths];
    expect(run(given, { dataHere }).records?.ended).toMatchObject({ record: { code: 0 } });
    rmSync(join(data, "raw/a"));
    symlinkSync(join(top, "secret"), join(data, "raw/a"));
    for (const folder of ["raw", "moved"]) {
      const { status, records, directory } = run(given, { dataHere });
      expect(status).toBe(UNPREPARED);
      expect(records?.started).toBeUndefined();
      expect(records?.ended?.log).toContain("since its submit data has become a link to ");
      expect(readFileSync(join(directory, "job.log"), "utf8")).not.toContain("not for all");
      // A folder on the way is no better.
      if (folder === "moved") continue;
      renameSync(join(data, "raw"), join(top, "moved"));
      rmSync(join(top, "moved/a"));
      writeFileSync(join(top, "moved/a"), "not for all");
      symlinkSync(join(top, "moved"), join(data, "raw"));
    }
  });

  it("runs no program if its data cannot be looked at again", () => {
    const data = join(top, "unseen");
    mkdirSync(data);
    writeFileSync(join(data, "a"), "data");
    symlinkSync("a", join(data, "b"));
    const bin = join(top, "ending");
    mkdirSync(bin);
    writeFileSync(join(bin, "readlink"), "#!/bin/sh\nkill -9 $PPID\n", { mode: 0o755 });
    const dataHere = { paths: [join(data, "b")], texts: [], folders: [data], secrets: [] };
    const { status, records } = run(["true"], { dataHere }, `${bin}:`);
    expect(status).toBe(UNPREPARED);
    expect(records?.ended?.log).toContain("its data could not be looked at once more");
  });

  it("submitted again by hand leaves the records of the job alone", () => {
    const { records, jobId, script } = run(["sh", "-c", "exit $((SLURM_JOB_ID - 4711))"]);
    expect(spawnSync("sh", [script], { env: asSlurmJob("4714") }).status).toBe(3);
    expect(spawnSync("sh", [script]).status).not.toBe(0);
    expect(readRecords(jobId)).toEqual(records);
    expect(records?.ended?.record.code).toBe(0);
  });

  it("started again by Slurm takes back the end of its first run", async () => {
    const { jobId, script, directory } = run(["sh", "-c", "[ ${SLURM_RESTART_COUNT:-0} = 0 ] || sleep 5"]);
    expect(readRecords(jobId)?.ended).toBeDefined();
    const env = { ...asSlurmJob("4711"), SLURM_RESTART_COUNT: "1" };
    const child = spawn("sh", [script], { stdio: "ignore", env });
    while (existsSync(join(directory, "ended.4711"))) await sleep(20);
    expect(readRecords(jobId)?.ended).toBeUndefined();
    child.kill("SIGTERM");
  });

  it.each([
    ["000", 0o022, 0o000],
    ["002", 0o022, 0o002],
    ["027", 0o027, 0o027],
    ["077", 0o077, 0o077],
  ])(
    "leaves, as an account with umask %s, only to the program what others may write",
    (umask, ours, programs) => {
      const before = process.umask(Number.parseInt(umask, 8));
      try {
        const resultsDirectory = join(top, `results-${umask}`);
        const { directory, status } = run(
          ["sh", "-c", 'mkdir "$MENTO_RESULTS_DIR/a"; : > "$MENTO_RESULTS_DIR/a/b"'],
          {
            umask,
            resultsDirectory,
          },
        );
        expect(status).toBe(0);
        for (const name of readdirSync(directory)) {
          if (["run.sh", "job.log", "submitted"].includes(name)) continue;
          expect([name, statSync(join(directory, name)).mode & 0o777 & ours]).toEqual([name, 0]);
        }
        const modes = ["", "a", "a/b"].map((name) => statSync(join(resultsDirectory, name)).mode & 0o777);
        expect(modes).toEqual([0o777 & ~ours, 0o777 & ~programs, 0o666 & ~programs]);
      } finally {
        process.umask(before);
      }
    },
  );

  it("hands a signal through", () => {
    const { signal, records } = run(["sh", "-c", "kill -SEGV $$"]);
    expect(signal).toBe("SIGSEGV");
    expect(records?.ended?.record).toMatchObject({ code: 139, stoppedBy: null });
  });

  it("passes SIGTERM on to the program, waits for it, and records what stopped it", async () => {
    const job = makeJob([
      "sh",
      "-c",
      `trap 'sleep 0.3; echo tidied > "$MENTO_RESULTS_DIR/x"; exit 3' TERM; while :; do sleep 0.1; done`,
    ]);
    const child = spawn("sh", [job.script], { stdio: "ignore", env: asSlurmJob("4711") });
    while (!existsSync(join(job.directory, "started.4711"))) await sleep(20);
    await sleep(300);
    child.kill("SIGTERM");
    const code = await new Promise((resolve) => child.on("exit", resolve));
    expect(code).toBe(3);
    expect(readRecords(job.jobId)?.ended).toMatchObject({
      record: { code: 3, stoppedBy: "SIGTERM" },
      results: [{ path: join(job.resultsDirectory, "x"), bytes: 7, beamlinePath: null }],
    });
  });

  it("that is told to end when its program has completed has completed, with all results", async () => {
    const job = makeJob(["sh", "-c", 'echo 12345 > "$MENTO_RESULTS_DIR/x"']);
    const slow = join(top, "slow");
    mkdirSync(slow, { recursive: true });
    const collecting = join(job.directory, "collecting");
    writeFileSync(
      join(slow, "find"),
      `#!/bin/sh\n[ ! -e '${job.directory}/.results-before' ] || { : > '${collecting}'; sleep 1; }; PATH=\${PATH#*:} exec find "$@"\n`,
      { mode: 0o755 },
    );
    const env = { ...asSlurmJob("4711"), PATH: `${slow}:${process.env["PATH"] ?? ""}` };
    const child = spawn("sh", [job.script], { stdio: "ignore", env, detached: true });
    while (!existsSync(collecting)) await sleep(20);
    // To all of its processes, as Slurm does it.
    process.kill(-(child.pid ?? 0), "SIGTERM");
    const code = await new Promise((resolve) => child.on("exit", resolve));
    expect(code).toBe(0);
    expect(readRecords(job.jobId)?.ended).toMatchObject({
      record: { code: 0, stoppedBy: null },
      results: [{ path: join(job.resultsDirectory, "x"), bytes: 6 }],
    });
  });

  it.each(["/no/such/program", "no-such-program", "no 'such'"])(
    "reports that %s is not there as exit code 127, in one sentence",
    (program) => {
      const { status, records } = run([program, "x"]);
      expect(status).toBe(127);
      expect(records?.ended?.log).toBe(`mento: there is no program ${program} on ${hostname()}`);
    },
  );

  // Many nodes have bash as their sh, whose `command -v` passes over what may not be executed.
  it.each(["sh", "bash --posix"])(
    "leaves it to %s to say why a program that is there cannot be started",
    (shell) => {
      const { status, records } = run([top], {}, "", shell);
      expect(status).toBe(126);
      expect(records?.ended?.log).toContain(top);
    },
  );

  it("says that a program may not be run, also where its file system is mounted noexec", () => {
    const plain = join(top, "plain.sh");
    writeFileSync(plain, "#!/bin/sh\n", { mode: 0o644 });
    const { status, records } = run([plain]);
    expect(status).toBe(126);
    expect(records?.ended?.log).toContain(
      `mento: ${plain} cannot be run on ${hostname()}: it is not executable`,
    );

    const mounted = join(top, "mounted");
    mkdirSync(mounted);
    const job = makeJob([join(mounted, "true")]);
    const mount = `mount -t tmpfs -o noexec none '${mounted}' && cp /bin/true '${mounted}' || exit 77`;
    const { status: end, stderr } = spawnSync(
      "unshare",
      ["--user", "--map-root-user", "--mount", "sh", "-c", `${mount}; exec sh '${job.script}'`],
      { env: asSlurmJob("4711"), encoding: "utf8" },
    );
    // Not every machine lets a plain account mount.
    if (end === 126) expect(stderr).toContain("its file system is mounted noexec");
    else expect([77, 1]).toContain(end);
  });

  describe("copies results back", () => {
    /** The beamline's file system is a folder, of which a link leads out. */
    function copying(results: string, more: Partial<CopyBack> = {}, path = "") {
      const root = join(top, `beamline${jobs.count}`);
      const outside = join(top, `outside${jobs.count}`);
      for (const folder of [root, outside]) mkdirSync(folder);
      symlinkSync(outside, join(root, "linked"));
      const copyBack = {
        root,
        folder: "processed",
        view: "/gpfs/current",
        metadataFile: null,
        maxBytes: 1e6,
        maxFiles: 10,
        ...more,
      };
      const script = `cd "$MENTO_RESULTS_DIR" && ${results}`;
      const { records, directory } = run(["sh", "-c", script], { copyBack }, path);
      const log = readFileSync(join(directory, "job.log"), "utf8");
      return { root, outside, results: records?.ended?.results, log };
    }

    it("into folders that are made for them", () => {
      const { root, results } = copying("mkdir a && echo 1 > a/x");
      expect(results).toMatchObject([{ beamlinePath: "/gpfs/current/processed/a/x" }]);
      expect(readFileSync(join(root, "processed/a/x"), "utf8")).toBe("1\n");
    });

    it("but not where another session is open at the beamline by then", () => {
      const more = { metadataFile: "beamtime-metadata-11010000.json" };
      const { root, results, log } = copying("echo 1 > x", more);
      expect(results).toMatchObject([{ beamlinePath: null }]);
      expect(log).toContain("the session is not the one that is open at the beamline");
      expect(readdirSync(root)).not.toContain("processed");
    });

    it("but makes nothing outside the beamtime", () => {
      const { outside, results, log } = copying("mkdir a && echo 1 > a/x", { folder: "linked/deep" });
      expect(results).toMatchObject([{ beamlinePath: null }]);
      expect(log).toContain("leads out of the beamtime");
      expect(readdirSync(outside)).toEqual([]);
    });

    it.each([
      ["that others can write to", "chmod 755"],
      ...(process.getuid?.() === 0 ? [["of somebody else", "chown -R 65534"]] : []),
    ])("and not through a folder %s, put in place of the one for the copy", (_, change) => {
      const bin = join(top, `swapped${jobs.count}`);
      mkdirSync(bin);
      const swaps = `#!/bin/sh
made=$(/usr/bin/mktemp "$@") && mv "$made" "$made.gone" && mkdir -m 700 "$made" || exit
ln -s "$(pwd)/../../outside${jobs.count}/own" "$made/part"
${change} "$made"
echo "$made"
`;
      writeFileSync(join(bin, "mktemp"), swaps, { mode: 0o755 });
      const { outside, results, log } = copying("echo 1 > x", {}, `${bin}:`);
      expect(results).toMatchObject([{ beamlinePath: null }]);
      expect(log).toMatch(/could not be written/);
      expect(readdirSync(outside)).toEqual([]);
    });

    it("and leaves nothing of a copy that failed", () => {
      const bin = join(top, "full");
      mkdirSync(bin);
      const fails =
        '#!/bin/sh\nfor to; do :; done\necho half > "$to"\necho "cp: No space left on device" >&2\nexit 1\n';
      writeFileSync(join(bin, "cp"), fails, { mode: 0o755 });
      const { root, results, log } = copying("echo 1 > x", {}, `${bin}:`);
      expect(results).toMatchObject([{ beamlinePath: null }]);
      expect(log).toMatch(/not copied to the beamline: .*\/x: .*could not be written/);
      expect(readdirSync(join(root, "processed"))).toEqual([]);
    });
  });

  it("lists new files as results, whatever their names", () => {
    const name = "a b\n'c'=$(x).png";
    const { records, resultsDirectory } = run([
      "sh",
      "-c",
      'printf 12345 > "$MENTO_RESULTS_DIR/$1"',
      "x",
      name,
    ]);
    expect(records?.ended?.results).toEqual([
      { path: join(resultsDirectory, name), bytes: 5, beamlinePath: null },
    ]);
  });

  it("gives the program its arguments byte for byte", () => {
    const word = fc.string({ unit: "binary" }).filter((one) => !one.includes("\0") && one.isWellFormed());
    fc.assert(
      fc.property(fc.array(word, { maxLength: 5 }), (words) => {
        const { directory } = run(["sh", "-c", 'for a; do printf "%s\\0" "$a"; done', "x", ...words]);
        expect(readFileSync(join(directory, "job.log"), "utf8").split("\0").slice(0, -1)).toEqual(words);
      }),
      { numRuns: 25 },
    );
  });

  it.each(["sh", "bash"])(
    "leaves the program's environment as it was, whatever it is called: %s",
    (shell) => {
      const copyBack = { root: "/a", folder: "b", view: "/c", metadataFile: null, maxBytes: 1, maxFiles: 1 };
      const job = makeJob(["env", "-0"], { copyBack, env: { own: "x\r" }, resultGlobs: ["*"] });
      const text = readFileSync(job.script, "utf8");
      const assigned = text.matchAll(/\b([A-Za-z_]\w*)=|\bfor ([a-z_]+)\b|\bread -r ([a-z_ ]+)/g);
      const names = [...assigned].flatMap((found) => (found[1] ?? found[2] ?? found[3] ?? "").split(" "));
      expect(names).toEqual(expect.arrayContaining(["results", "code", "job", "number", "name", "signal"]));
      const kept = names.filter(
        (name) => name !== "" && name !== "own" && name !== "IFS" && !/^(MENTO_|mento_)/.test(name),
      );
      const values = Object.fromEntries(kept.map((name) => [name, `a 'b' "$(c)"\n export ${name}=d`]));
      const env = { ...process.env, ...values, SLURM_JOB_ID: "4711", UID: "5", SHELLOPTS: "braceexpand" };
      const { status } = spawnSync(
        shell,
        ["-c", 'exec "$0" "$1" >> "$2"', shell, job.script, `${job.directory}/job.log`],
        // From a socket, and without SHLVL, bash takes itself for a login over the network, and reads ~/.bashrc.
        { env, stdio: ["ignore", "pipe", "pipe"] },
      );
      expect(status).toBe(0);
      const printed = readFileSync(join(job.directory, "job.log"), "utf8").split("\0");
      const got: Record<string, string> = {};
      for (const one of printed) got[one.split("=", 1)[0] ?? ""] = one.slice(one.indexOf("=") + 1);
      expect(got).toMatchObject({ ...values, own: "x\r", MENTO_JOB_ID: job.jobId });
      const mine = [...Object.keys(env), "own", "PWD", "OLDPWD", "SHLVL", "_", ""];
      expect(
        Object.keys(got)
          .filter((name) => !mine.includes(name))
          .sort(),
      ).toEqual(["MENTO_JOB_ID", "MENTO_PARAMETERS", "MENTO_RESULTS", "MENTO_RESULTS_DIR"]);
    },
  );

  it("keeps the request in its second line, on one line", () => {
    const { script } = makeJob(["p", "a\nb"]);
    const line = readFileSync(script, "utf8").split("\n")[1] ?? "";
    expect(JSON.parse(line.replace("# mento-request: ", ""))).toEqual({ argv: ["p", "a\nb"] });
  });
});

describe("the run script of a job over Slurm's REST API", () => {
  function runIt(jobs: string[], more: Partial<RunScript> = {}, isCancelled = false) {
    const { directory, jobId } = makeJob(["sh", "-c", "echo ran"], { launch: "rest", ...more });
    const script = join(top, `${jobId}.sh`);
    renameSync(join(directory, "run.sh"), script);
    rmSync(directory, { recursive: true });
    if (isCancelled) {
      mkdirSync(directory);
      writeFileSync(join(directory, ".cancelled"), "");
    }
    const codes = jobs.map((id) => spawnSync("sh", [script], { env: asSlurmJob(id) }).status);
    return { codes, directory };
  }

  it("runs the program in one of two jobs of Slurm, and the other says by its exit code that it has not", () => {
    const { codes, directory } = runIt(["4711", "4712"]);
    expect(codes).toEqual([0, NOT_RUN.another]);
    expect(readFileSync(join(directory, "job.log"), "utf8")).toBe("ran\n");
  });

  it("runs nothing once the job was cancelled, and says so by its exit code", () => {
    const { codes, directory } = runIt(["4711"], {}, true);
    expect(codes).toEqual([NOT_RUN.cancelled]);
    expect(existsSync(join(directory, "job.log"))).toBe(false);
    expect(existsSync(join(directory, "started.4711"))).toBe(false);
  });

  it("hands no exit code of the program's own through that would say so", () => {
    for (const code of Object.values(NOT_RUN)) {
      const argv = ["sh", "-c", `exit ${code}`];
      const { codes, directory } = runIt(["4711"], { argv });
      expect(codes).toEqual([1]);
      expect(readFileSync(join(directory, "ended.4711"), "utf8")).toContain(`code=${code}\0`);
    }
  });

  it("sends no notification through a link that stands in the place of the folder for it", () => {
    const elsewhere = mkdtempSync(join(top, "elsewhere-"));
    const spool = join(top, "prepared-spool");
    symlinkSync(elsewhere, spool);
    const { codes, directory } = runIt(["4711"], { spool });
    expect(codes).toEqual([0]);
    expect(readFileSync(join(directory, "job.log"), "utf8")).toBe("ran\n");
    expect(existsSync(join(directory, "ended.4711"))).toBe(true);
    expect(readdirSync(elsewhere)).toEqual([]);
  });

  it("writes the program's output where it was asked to", () => {
    const log = join(top, "a folder", "it's.log");
    const { codes, directory } = runIt(["4711"], { log });
    expect(codes).toEqual([0]);
    expect(readFileSync(log, "utf8")).toBe("ran\n");
    expect(readlinkSync(join(directory, "job.log"))).toBe(log);
  });
});
