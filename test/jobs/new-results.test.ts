import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { RunScript } from "../../src/jobs/run-script.ts";
import { JobsInShells } from "../support/jobs-in-shells.ts";

const jobs = new JobsInShells();
afterAll(() => jobs.remove());

const old = new Date("2001-02-03T04:05:06Z");
const source = join(jobs.top, "source");
mkdirSync(source);
writeFileSync(join(source, "kept"), "1\n");
utimesSync(join(source, "kept"), old, old);
spawnSync("tar", ["-C", source, "-cf", join(jobs.top, "packed.tar"), "kept"]);
const hasRsync = spawnSync("rsync", ["--version"]).status === 0;

/** Runs in the results folder, after `before` has; the names of the results. */
function resultsOf(script: string, before = "true", more: Partial<RunScript> = {}) {
  const job = jobs.make(["sh", "-c", `cd "$MENTO_RESULTS_DIR" && ${script}`, "sh", source], more);
  mkdirSync(job.resultsDirectory, { recursive: true });
  spawnSync("sh", ["-ec", before, "sh", source], { cwd: job.resultsDirectory });
  jobs.start(job);
  return namesOf(job.jobId);
}

const namesOf = (jobId: string) =>
  (jobs.records(jobId)?.ended?.results ?? []).map((one) => basename(one?.path ?? ""));

describe("a file is a result that was not there before, or is another now, whatever its times say", () => {
  it.each([
    ["cp -p", 'cp -p "$1/kept" .'],
    ["cp -a of a folder", 'cp -a "$1" a'],
    ["touch -d", "echo 1 > kept; touch -d 2001-01-01 kept"],
    ["tar", "tar -xf ../../packed.tar"],
    ["mv of an old file", 'cp -p "$1/kept" .. && mv ../kept .'],
    ["mv of a folder that was there before", 'mv "$PWD.before" a'],
    ["ln of an old file", 'ln "$1/kept" .'],
    ...(hasRsync ? [["rsync -a", 'rsync -a "$1/kept" .'] as [string, string]] : []),
  ])("%s", (_, script) => {
    expect(resultsOf(script, 'cp -a "$1" "$PWD.before"')).toEqual(["kept"]);
  });

  it.each([
    ["is written to", "echo 2 >> there"],
    ["is written to at its old length and time of day", "echo 2 > there"],
    ["is replaced by a rename of one with the same size and time", "cp -p there new && mv new there"],
    ["is unpacked over", 'cp -p "$1/kept" there'],
  ])("one that was there and %s", (_, script) => {
    expect(resultsOf(script, "echo 1 > there; touch -d 2020-01-01 there")).toEqual(["there"]);
  });

  it.each([
    ["nothing is done to", "true"],
    ["is read", "cat there"],
    ["is opened to all, or linked, or renamed to what it was", "chmod 777 there; ln there x; rm x"],
  ])("but none that was there a moment ago and %s", (_, script) => {
    expect(resultsOf(script, "echo 1 > there")).toEqual([]);
  });

  it("also where the results folder is a link", () => {
    const job = jobs.make(["sh", "-c", 'echo 1 > "$MENTO_RESULTS_DIR/x"']);
    const real = join(jobs.top, "elsewhere");
    mkdirSync(real);
    mkdirSync(join(jobs.top, "results"), { recursive: true });
    symlinkSync(real, job.resultsDirectory);
    jobs.start(job);
    expect(namesOf(job.jobId)).toEqual(["x"]);
  });

  it("and what a first run has left counts, if the job is started again", () => {
    const job = jobs.make([
      "sh",
      "-c",
      'cd "$MENTO_RESULTS_DIR"; [ -e a ] && echo 2 > b || { echo 1 > a; exit 1; }',
    ]);
    jobs.start(job);
    jobs.start(job);
    expect(namesOf(job.jobId)).toEqual(["a", "b"]);
  });

  it("whatever the names are", () => {
    const name = " 1 2 3.4\n/a\\b\u{e9}".replace("/", "");
    const job = jobs.run(["sh", "-c", 'touch -d 2001-01-01 "$MENTO_RESULTS_DIR/$1"', "sh", name]);
    expect(namesOf(job.jobId)).toEqual([name]);
  });
});

describe("all results are counted, and listed in the job directory", () => {
  const listed = (directory: string) =>
    readFileSync(join(directory, "all-results.4711"), "utf8").split("\0").slice(0, -1);

  it("also those that are too many for an event", () => {
    const { records, directory, resultsDirectory } = jobs.run([
      ...["sh", "-c", 'cd "$MENTO_RESULTS_DIR" && seq -w 1300 | xargs touch'],
    ]);
    expect(records?.ended).toMatchObject({ cut: 300, areUnknown: false });
    expect(records?.ended?.results).toHaveLength(1000);
    expect(listed(directory)).toHaveLength(1300);
    expect(listed(directory).at(-1)).toBe(join(resultsDirectory, "1300"));
  });

  it("also those whose names are too long for a record", () => {
    const script =
      'cd "$MENTO_RESULTS_DIR" && for i in $(seq -w 999); do mkdir -p "$1/$1/$1" && : > "$1/$1/$1/$i"; done';
    const { records, directory } = jobs.run(["sh", "-c", script, "sh", "n".repeat(200)]);
    const { results = [], cut } = records?.ended ?? {};
    expect(results.length).toBeLessThan(999);
    expect(results.length + (cut ?? 0)).toBe(999);
    expect(listed(directory)).toHaveLength(999);
  });

  it("and so are those that are not copied to the beamline", () => {
    const root = join(jobs.top, "beamline");
    mkdirSync(root);
    const copyBack = {
      root,
      folder: "processed",
      view: "/gpfs/current",
      metadataFile: null,
      maxBytes: 1e6,
      maxFiles: 3,
    };
    const touch = (count: number) => ["sh", "-c", `cd "$MENTO_RESULTS_DIR" && seq -w ${count} | xargs touch`];
    const { records, directory } = jobs.run(touch(1010), { copyBack });
    expect(records?.ended).toMatchObject({ cut: 10, notCopied: 1007 });
    expect(readFileSync(join(directory, "job.log"), "utf8").match(/not copied/g)?.length).toBeLessThan(5);
    rmSync(root, { recursive: true });
    mkdirSync(root);
    expect(jobs.run(touch(3), { copyBack }).records?.ended?.notCopied).toBe(0);
    expect(jobs.run(touch(3)).records?.ended?.notCopied).toBe(0);
  });

  it.each([
    ["there is no room for the list", 'ln -s /dev/full "$1/.found.4711"'],
    ["the job directory was emptied meanwhile", 'rm -f "$1"/.results-before*'],
  ])("or said to be unknown: %s", (_, spoil) => {
    const script = `echo 1 > "$MENTO_RESULTS_DIR/x"; set -- "\${MENTO_PARAMETERS%/*}"; ${spoil}`;
    const { records } = jobs.run(["sh", "-c", script]);
    expect(records?.ended).toMatchObject({ results: [], areUnknown: true, record: { code: 0 } });
  });
});
