import type { JobMethod } from "../messages/job-event.ts";
import { command } from "./command.ts";
import type { Method } from "./method.ts";
import { sbatch } from "./sbatch.ts";

/** How each method's jobs are started; where, the place says. */
export const METHODS: Readonly<Partial<Record<JobMethod, Method>>> = {
  "remote-sbatch-script": sbatch,
  "local-sbatch-script": sbatch,
  "remote-command": command,
  "local-bash-script": command,
};
