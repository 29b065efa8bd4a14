import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { run } from "../dist/facility/processes.js";
import { slurmEnvironment } from "../dist/facility/slurm.js";

const EVERY_MS = 3000;
const LAST_LOOK_SECONDS = 60;

/** @typedef {{ comment: string, state: string }} SlurmJob */

/**
 * Remembers every job that Slurm has ever had: Slurm itself forgets a job 300 s after its end (MinJobAge in the
 * facility's slurm.conf), so it is asked all along.
 */
export class SlurmWatch {
  /** By Slurm's job id. @type {Map<string, SlurmJob>} */
  jobs = new Map();
  #dir;
  #isStopped = false;
  #watching = Promise.resolve();

  /** @param {string} dir the facility's */
  constructor(dir) {
    this.#dir = dir;
  }

  start() {
    this.#watching = (async () => {
      while (!this.#isStopped) {
        await this.look().catch(() => undefined);
        await sleep(EVERY_MS);
      }
    })();
  }

  async stop() {
    this.#isStopped = true;
    await this.#watching;
  }

  /** A last look, which must succeed. */
  async finish() {
    await this.stop();
    for (let attempt = 1; ; attempt++) {
      try {
        await this.look();
        return;
      } catch (error) {
        if (attempt === LAST_LOOK_SECONDS) throw error;
        await sleep(1000);
      }
    }
  }

  async look() {
    const listing = await run("squeue", ["--noheader", "--states=all", "--format=%A|%T|%k"], {
      env: slurmEnvironment(this.#dir),
    });
    if (listing.exitCode !== 0) throw new Error(`squeue failed: ${listing.stderr.trim()}`);
    for (const line of listing.stdout.split("\n").filter((one) => one !== "")) {
      const [id = "", state = "", comment = ""] = line.split("|");
      this.jobs.set(id, { comment, state });
    }
  }
}

/**
 * The second witness, which Slurm's memory has no part in: the program of each job adds a line to a file of its Slurm
 * job's own, `<job id>.<Slurm's job id>`. More lines than one: Slurm has run it more than once.
 *
 * @param {string} folder
 * @returns {{ jobId: string, slurmJobId: string, starts: number }[]}
 */
export function readLedger(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder).map((name) => {
    const [jobId = "", slurmJobId = ""] = name.split(".");
    const starts = readFileSync(join(folder, name), "utf8").trimEnd().split("\n").length;
    return { jobId, slurmJobId, starts };
  });
}
