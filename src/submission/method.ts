import type { Allocation } from "../beamtime/reservation.ts";
import type { MentoError } from "../errors.ts";
import type { DataHere } from "../jobs/link-check.ts";
import type { Permits } from "../jobs/permits.ts";
import type { EventError } from "../messages/job-event.ts";
import type { JobPlan } from "../triggers/plan.ts";
import type { TriggerSlurm } from "../triggers/trigger-config.ts";
import type { SbatchScript } from "./sbatch-script.ts";
import type { SlurmRest } from "../slurm/rest/slurm-rest.ts";
import type { Shell } from "../shells/shell.ts";

/** A user's own sbatch script. */
export interface UserScript extends SbatchScript {
  path: string;
}

/** What is asked of Slurm, whoever asks. */
export type TargetSlurm = TriggerSlurm & { time: string };

/** Where a job is to run: a host to submit from, and what Slurm is told. */
export interface SubmitTarget {
  shell: Shell;
  /** The session's folder on the core file system, which data must lie in; null: nobody looks at the data. */
  corePath: string | null;
  /** The folder of all its job directories. */
  jobsDirectory: string;
  /** Of a job that runs as the worker's account: where what it is given must lie. */
  dataHere?: Omit<DataHere, "paths" | "texts"> & {
    /** Where jobs that run as the worker's account have their directories. */
    ownJobs: readonly string[];
  };
  /** Of a process: hosts that it can be on, whatever its directory says. */
  hosts?: readonly string[];
  /** Where requests to cancel its jobs are, if not in their directories. */
  cancelRequests?: string;
  /** Or why there is none at the moment; null for a job outside Slurm. */
  allocation: Allocation | MentoError | null;
  slurm: TargetSlurm;
  /** null: the configuration has none. */
  rest: SlurmRest | null;
  /** null: the program is none. */
  userScript: UserScript | null;
  /** Fewer of our jobs than this must wait in Slurm; null: they are so few that nobody needs to look. */
  maxPending: number | null;
  /** That the slot is not one of the session's reservations, and why. */
  notice: EventError | null;
}

export interface SubmittedJob {
  /** null: it runs outside Slurm. */
  slurmJobId: string | null;
  process: { host: string; pid: number } | null;
  /** When a worker first had the message that it was made for, RFC 3339, as the following. */
  receivedAt: string;
  /** When Slurm had it, or its process began; over the REST API when the submit was sent. */
  submittedAt: string;
  /** When it had ended before this call, as its record says; null: it had not, or has left none. */
  endedAt: string | null;
  /** The job's name in Slurm. */
  name: string;
  /** The job directory. */
  directory: string;
  /** The array that it was submitted with as a task; null: it was by itself. */
  arrayId: string | null;
  /** Where it was submitted to; null if that is not known. */
  allocation: Pick<Allocation, "reservation" | "partition" | "passedOver"> | null;
  /** It was found, and had been submitted again since. */
  wasMoved?: true;
}

export interface SubmitOptions {
  /** Seconds that data may take to be whole. */
  dataTimeout: number;
  /** What was seen of the data before, if it is of unknown size. */
  dataCheck: string | undefined;
  /** What the job must have to be submitted, if its trigger's jobs are counted. */
  permits?: Permits | null;
  /** When a worker first had the message. */
  received: Date;
}

/** A way to run a job. */
export interface Method {
  /**
   * Submits the plan's job, or answers with the job that an earlier call for the same plan has submitted. Only the
   * latter is possible where the place has no slot: else its error is thrown.
   *
   * @throws Rejected `submit-refused`, `path-outside-beamtime`, `id-reused`
   * @throws Deferred `data-not-there`, `data-changing`, `submit-in-flight`, `submit-not-now`, `ssh-login-refused`,
   *   `trigger-full`, `session-full`
   * @throws Superseded a newer message has had its turn
   * @throws Unavailable `ssh-unreachable`, `ssh-lost`, `slurm-unavailable`, `too-many-pending`
   */
  submit(plan: JobPlan, target: SubmitTarget, options: SubmitOptions): Promise<SubmittedJob>;
  /**
   * Answers with the job that an earlier call has submitted, or with null if there is none and its data is whole. Makes
   * nothing. A method without it cannot count jobs. Throws what {@link submit} does for the data.
   */
  find?(plan: JobPlan, target: SubmitTarget, options: SubmitOptions): Promise<SubmittedJob | null>;
}
