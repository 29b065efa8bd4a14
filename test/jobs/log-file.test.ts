import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { submitCommand } from "../../src/jobs/directory.ts";
import { launchCommand } from "../../src/jobs/process.ts";
import { parseSubmitAnswer } from "../../src/jobs/submit-said.ts";
import { FakePrograms } from "../support/fake-programs.ts";

let programs: FakePrograms;
beforeEach(() => (programs = new FakePrograms()));
afterEach(() => programs.remove());

const commands: Record<string, (log: string) => string> = {
  Slurm: (log) =>
    submitCommand({ ...common(log), program: null, maxPending: null, sbatchArguments: [] }, "bttest"),
  "a process": (log) => launchCommand({ ...common(log), host: "here" }),
};

const common = (log: string) => ({
  ...{ jobsDirectory: programs.jobsDirectory, jobId: "k3f7", data: null, permits: null, log },
  script: `#!/bin/sh\n# mento-request: {}\necho "$$;here" > "\${0%/*}/submitted"\necho hello\n`,
});

describe.each(Object.entries(commands))("the log file of a job of %s", (_, command) => {
  const submit = (log: string) => parseSubmitAnswer(programs.run(command(log)).stdout, []);

  it("is made, and its folder too", () => {
    const log = join(programs.top, "a b/c/log");
    expect(submit(log)).toMatchObject({ kind: "submitted" });
    expect(readFileSync(log, "utf8")).toMatch(/^(hello\n)?$/);
  });

  it("that cannot be written is said before anything runs, and why", () => {
    mkdirSync(join(programs.top, "folder"));
    writeFileSync(join(programs.top, "file"), "");
    for (const [log, why] of [
      ["folder", "Is a directory"],
      ["file/log", "File exists|Not a directory"],
    ] as const) {
      const answer = submit(join(programs.top, log));
      expect(answer).toMatchObject({
        kind: "no-log",
        why: expect.stringMatching(new RegExp(why, "i")) as string,
      });
    }
    expect(programs.calls("sbatch")).toEqual([]);
  });
});
