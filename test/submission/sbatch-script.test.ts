import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { carriedOver, readCommand, readScript, valueOf } from "../../src/submission/sbatch-script.ts";

const read = (text: string) => {
  const script = readScript(text);
  if (script === undefined) throw new Error("no script");
  return script;
};
const scriptOf = (...lines: string[]) =>
  read(["#!/bin/bash", ...lines.map((one) => `#SBATCH ${one}`), "true"].join("\n"));
const linesOf = (...lines: string[]) => carriedOver(scriptOf(...lines), []).lines;
const notesOf = (lines: string[], args: string[] = []) => carriedOver(scriptOf(...lines), args).notes;

describe("directives of a user's own script", () => {
  it("are carried over", () => {
    expect(
      linesOf("--gres=gpu:4", "-t 10:00 --mem-per-cpu 2G", "--wait-all-nodes=1", "-Ok", "--nice"),
    ).toEqual([
      "#SBATCH --gres=gpu:4",
      "#SBATCH --time=10:00",
      "#SBATCH --mem-per-cpu=2G",
      "#SBATCH --wait-all-nodes=1",
      "#SBATCH --overcommit",
      "#SBATCH --no-kill",
      "#SBATCH --nice",
    ]);
  });

  it.each([
    ["an indented comment between", "  # for the GPU nodes\n#SBATCH --mem=3G", "3G"],
    ["blank and indented lines between", "\n \t\n\t#\n#SBATCH --mem=3G", "3G"],
    ["no blank behind the word", "#SBATCH--mem=3G", "3G"],
    ["a tab behind the word", "#SBATCH\t--mem=3G", "3G"],
    ["the old word", "#SLURM --mem=3G", "3G"],
    ["a comment behind", "#SBATCH --mem=3G# enough", "3G"],
    ["a quoted value", `#SBATCH --mem="3"'G'`, "3G"],
    ["the value in the next line", "#SBATCH --mem\n#SBATCH 3G", "3G"],
    ["a name cut short", "#SBATCH --mem=1G --comm=x\n#SBATCH --mem=3G", "3G"],
    ["an indented directive, which is a comment", "#SBATCH --mem=1G\n #SBATCH --mem=3G", "1G"],
    ["a disabled directive", "#SBATCH --mem=1G\n##SBATCH --mem=3G\n# SBATCH --mem=4G", "1G"],
    ["a command before", "#SBATCH --mem=1G\nset -e\n#SBATCH --mem=3G", "1G"],
    ["an empty word, which ends the line", "#SBATCH --mem=1G '' --mem=3G", "1G"],
    ["a separator's word, which ends the line", "#SBATCH --mem=1G hetjob --mem=3G", "1G"],
  ])("are found as sbatch finds them: %s", (_, lines, memory) => {
    expect(valueOf(read(`#!/bin/sh\n#SBATCH --time=5\n${lines}\ntrue\n`), "mem")).toBe(memory);
  });

  it("keep what sbatch is to refuse in its own words", () => {
    expect(linesOf("--no-such=1 word -Z", "--mem-per=1 --exp=NONE", "-t", "--array=0-3")).toEqual([
      '#SBATCH "--no-such=1"',
      '#SBATCH "word"',
      '#SBATCH "-Z"',
      '#SBATCH "--mem-per=1"',
      '#SBATCH "--exp=NONE"',
      "#SBATCH --time=--array=0-3",
    ]);
    expect(linesOf(`"hetjob"`, String.raw`--mail-user="a \"b\" \\ c"`)).toEqual([
      '#SBATCH "hetjob"',
      String.raw`#SBATCH --mail-user="a \"b\" \\ c"`,
    ]);
  });

  it.each([
    ...["array=0-9", "export=NONE", "wrap=x", "error=x", "output=x", "comment=x", "wait", "input=x", "uid=5"],
    ...["gid=5", "get-user-env", "help", "usage", "version", "reservation=x", "part=y", "clusters=c"],
    ...["arr=0-9", "err=x", "outp=x", "reser=x", "job=x", "cluster=c"],
  ])("that would keep Mento from its job are left out, and named: --%s", (option) => {
    const { lines, notes } = carriedOver(scriptOf(`--${option}`), []);
    expect(lines).toEqual([]);
    expect(notes).toEqual([expect.stringMatching(/^--[\w-]+(=.*)? is left out: ./)]);
  });

  it("that sbatch's arguments override are left out, and named if they say something else", () => {
    const args = ["--time=00:10:00", "--no-requeue", "--mem=4G", "--exclusive"];
    const lines = ["-t 10", "--time=5", "--no-requeue", "--mem-per-cpu=1G", "--exclusive", "-s"];
    expect(carriedOver(scriptOf(...lines), args)).toEqual({
      lines: [],
      notes: [
        "--time=5 is left out: sbatch is given --time=00:10:00",
        "--mem-per-cpu=1G is left out: sbatch is given --mem=4G",
        "--oversubscribe is left out: sbatch is given --exclusive",
      ],
    });
  });

  it("that make a job wait, and lines of other batch systems, are named", () => {
    expect(notesOf(["-H", "--begin=16:00"])).toEqual([
      expect.stringMatching(/^--hold: the job waits until .*release/),
      "--begin=16:00: the job waits until then",
    ]);
    const script = read("#!/bin/sh\n#PBS -l walltime=1:00\n#BSUB -q x\n#SBATCH -n2\ntrue\n");
    expect(carriedOver(script, []).notes).toEqual([
      "#PBS -l walltime=1:00 is left out: Mento reads #SBATCH lines alone",
      "#BSUB -q x is left out: Mento reads #SBATCH lines alone",
    ]);
  });
});

it.each([
  ["a heterogeneous job", "#!/bin/sh\n#SBATCH -n1\n#SBATCH hetjob\n#SBATCH -n2\n", /line 3: hetjob/],
  ["its old word", "#!/bin/sh\n#SBATCH PackJob -n2\n", /line 2: hetjob/],
  ["DOS line breaks", "#!/bin/sh\r\n#SBATCH -n1\r\n", /DOS line breaks/],
  ["one DOS line break, late", "#!/bin/sh\n#SBATCH -n1\ntrue\r\n", /DOS line breaks/],
  ["a byte order mark", "\uFEFF#!/bin/sh\n#SBATCH -n1\n", /byte order mark/],
  ["a NUL byte", "#!/bin/sh\n#SBATCH -n1\n\0", /NUL/],
  ["no interpreter", "#SBATCH -n1\n", /#!/],
  ["half of quotes", "#!/bin/sh\n#SBATCH --mail-user='me\n", /line 2: a ' without/],
  ["a colon", "#!/bin/sh\n#SBATCH -n1 : -n2\n", /line 2: unexpected :/],
  ["directives without end", `#!/bin/sh\n${"#SBATCH -H\n".repeat(300_000)}`, /more than 65536 characters/],
  ["words without end", `#!/bin/sh\n#SBATCH ${"a ".repeat(2_000_000)}\n`, /more than 65536 .*line 2/],
  ["another's directives without end", `#!/bin/sh\n${"#PBS -x\n".repeat(300_000)}`, /more than 65536/],
])("a script that sbatch would not take, or Mento not whole, says so: %s", (_, text, what) => {
  const { mistake } = read(text);
  expect(mistake?.what).toMatch(what);
  expect(mistake?.hint).toMatch(/\.$/);
});

it.each([
  "#!/bin/sh\n# no directive\ntrue\n",
  "#!/bin/sh\ncat <<E\n#SBATCH -n1\nE\n",
  "\x7fELF\0\n#SBATCH -n1\n",
])("a program without directives at its head is no sbatch script: %j", (text) =>
  expect(readScript(text)).toBeUndefined(),
);

it("only what may have directives is read, however long its head is", () => {
  const folder = mkdtempSync(join(tmpdir(), "mento-script-"));
  const printed = (content: string) => {
    const file = join(folder, "it's");
    writeFileSync(file, content);
    return execFileSync("/bin/sh", ["-c", readCommand(file)], { encoding: "utf8" });
  };
  const long = `#!/bin/sh\n${"# a licence\n".repeat(10_000)}#SBATCH -n2\n`;
  expect(printed(long)).toBe(long);
  expect(printed("#!/bin/sh\necho '#SBATCH -n2'\n")).toBe("");
  expect(execFileSync("/bin/sh", ["-c", readCommand("/nowhere")], { encoding: "utf8" })).toBe("");
  rmSync(folder, { recursive: true });
});
