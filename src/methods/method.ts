import type { SessionReservation } from "../beamtime/metadata.ts";
import type { JobPlan } from "../triggers/plan.ts";
import type { Shell } from "../shells/shell.ts";

/** Where a job is to run: a node to submit from, and what Slurm is told. */
export interface Place {
  shell: Shell;
  /** The folder of all job directories of the session, on the core file system. */
  jobsDirectory: string;
  reservation: Pick<SessionReservation, "name" | "partition">;
}

export interface SubmittedJob {
  slurmJobId: string;
  /** When the submit that made the job was sent, RFC 3339. */
  submittedAt: string;
  /** The job's name in Slurm. */
  name: string;
  /** The job directory. */
  directory: string;
}

/** A way to run a job. */
export interface Method {
  /**
   * Submits the plan's job, or answers with the job that an earlier call for the same plan has submitted.
   *
   * @throws Rejected `submit-refused`
   * @throws Deferred `data-not-there`, `submit-in-flight`, `submit-not-now`, `ssh-login-refused`
   * @throws Unavailable `ssh-unreachable`, `ssh-lost`, `slurm-unavailable`
   */
  submit(plan: JobPlan, place: Place, now: Date): Promise<SubmittedJob>;
}
