import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseRecords, readRecordsCommand } from "../../src/jobs/records.ts";
import { runScript, type RunScript } from "../../src/jobs/run-script.ts";

/** The environment of the job of Slurm with this id. */
export const asSlurmJob = (id: string) => ({ ...process.env, SLURM_JOB_ID: id });

/** Job directories whose run scripts real shells run, without Slurm. */
export class JobsInShells {
  readonly top: string;
  count = 0;

  /** @param top where the directories are; default: a folder of its own */
  constructor(top = mkdtempSync(join(tmpdir(), "mento-run script-"))) {
    this.top = top;
  }

  make(argv: string[], more: Partial<RunScript> = {}) {
    const jobId = `job${++this.count}`;
    const directory = join(this.top, jobId);
    mkdirSync(directory);
    mkdirSync(join(this.top, ".spool"), { recursive: true });
    const script = join(directory, "run.sh");
    const resultsDirectory = join(this.top, "results", jobId);
    writeFileSync(
      script,
      runScript({
        ...{ jobId, directory, argv, resultsDirectory, spool: join(this.top, ".spool"), request: { argv } },
        ...{ env: {}, workdir: null, stdin: null, parameters: {}, resultGlobs: ["**"], copyBack: null },
        ...{ launch: "slurm", directives: [], ...more },
      }),
    );
    writeFileSync(join(directory, "submitted"), "4711\n");
    return { jobId, directory, script, resultsDirectory };
  }

  run(argv: string[], more: Partial<RunScript> = {}, path = "", shell = "sh") {
    const job = this.make(argv, more);
    return { ...job, ...this.start(job, path, shell), records: this.records(job.jobId) };
  }

  start({ script, directory }: { script: string; directory: string }, path = "", shell = "sh") {
    const log = `exec ${shell} '${script}' > '${directory}/job.log' 2>&1`;
    const { status, signal } = spawnSync("sh", ["-c", log], {
      env: { ...asSlurmJob("4711"), PATH: `${path}${process.env["PATH"] ?? ""}` },
    });
    return { status, signal };
  }

  records(jobId: string) {
    const { stdout } = spawnSync("sh", ["-c", readRecordsCommand(this.top, [jobId])]);
    return parseRecords(stdout).get(jobId)?.records;
  }

  remove(): void {
    rmSync(this.top, { recursive: true });
  }
}
