import { newlyRefused, type Watched } from "./watched.ts";
import type { Log } from "../log.ts";
import { meaningOf } from "../slurm/job-states.ts";

/** What a tracker says of single jobs in the log, each thing once. */
export class JobLog {
  readonly #log: Log;

  constructor(log: Log) {
    this.#log = log;
  }

  ofState(watched: Watched, state: string): void {
    if (meaningOf(state) !== undefined || watched.run.unknownState === state) return;
    watched.run.unknownState = state;
    this.say(watched, `Slurm says ${state} of the job, which is not known here; it is watched on`);
  }

  once(watched: Watched, what: string): void {
    if (watched.run.said !== what) this.say(watched, what);
    watched.run.said = what;
  }

  refused(watched: Watched, refused: readonly string[]): void {
    for (const what of newlyRefused(watched, refused)) {
      this.say(watched, `what lies in its directory is left out: ${what}`);
    }
  }

  say({ record: { data } }: Watched, what: string): void {
    this.#log.warn({ job: data.job.id, slurmJob: data.slurm.jobId }, what);
  }
}
