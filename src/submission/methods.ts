import type { JobMethod } from "../messages/job-event.ts";
import { command } from "./command.ts";
import type { Method } from "./method.ts";
import { sbatch } from "./sbatch.ts";
import { slurmRest } from "./slurm-rest.ts";

/** How each method's jobs are started; where, the place says. */
export const METHODS: Readonly<Record<JobMethod, Method>> = {
  "remote-sbatch-script": sbatch,
  "local-sbatch-script": sbatch,
  "slurm-rest-api": slurmRest,
  "remote-command": command,
  "local-bash-script": command,
};
