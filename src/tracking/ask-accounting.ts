import { errorText } from "../errors.ts";
import { accountingCommand, parseAccounting, type AccountedJob } from "../slurm/accounting.ts";
import type { Log } from "../log.ts";
import type { JobEventData } from "../messages/job-event.ts";
import type { Shell } from "../shells/shell.ts";

/** For the same jobs it is asked no more often, and after it has failed more seldom. */
const ASK_EVERY_MS = 60_000;
const ASK_AGAIN_AFTER_FAILURE_MS = 300_000;
/** The worker's clock may be so far from the cluster's. */
const CLOCKS_DIFFER_SECONDS = 3600;

/** Slurm's accounting, for the jobs of one session that `squeue` has forgotten. */
export class Accounting {
  readonly #log: Log;
  #askAt = 0;
  #jobs: ReadonlyMap<string, AccountedJob> = new Map();

  constructor(log: Log) {
    this.#log = log;
  }

  /** What it has said of this job by now. */
  of(slurmJobId: string): AccountedJob | undefined {
    return this.#jobs.get(slurmJobId);
  }

  /** Asks in the background, for it may hang. */
  ask(jobs: readonly JobEventData[], areNew: boolean, shell: Shell, time: number): void {
    if (time < this.#askAt && !areNew) return;
    this.#askAt = time + ASK_AGAIN_AFTER_FAILURE_MS;
    const submits = jobs.map(({ times }) => Date.parse(times.submitted ?? "")).filter(Number.isFinite);
    const since = Math.min(time, ...submits) / 1000 - CLOCKS_DIFFER_SECONDS;
    const ids = jobs.flatMap(({ slurm }) => slurm.jobId ?? []);
    const asked = shell.run(accountingCommand(shell.account, ids, since)).then((answer) => {
      if (answer.code !== 0) throw new Error(answer.stderr.trim() || "sacct gave no answer");
      this.#jobs = parseAccounting(answer.stdout.toString("utf8"), ids);
      this.#askAt = time + ASK_EVERY_MS;
    });
    asked.catch((error: unknown) => this.#log.info(`accounting does not tell: ${errorText(error)}`));
  }
}
