import { jobCommentOf } from "./directory.ts";
import { NOT_RUN } from "./run-script.ts";
import type { ReportedJob } from "../slurm/job-states.ts";

/** What Slurm's REST API says of a job. */
type Listed = Pick<ReportedJob, "comment" | "exitCode">;

/** Whether Slurm's job has ended without running the program, as its exit code says; see jobs/run-script.ts. */
export function hasNotRun({ exitCode }: Listed): boolean {
  return Object.values(NOT_RUN).some((code) => exitCode === `${code}:0`);
}

/** Whether it has ended because our job had been cancelled before. */
export function wasCancelledBefore({ exitCode }: Listed): boolean {
  return exitCode === `${NOT_RUN.cancelled}:0`;
}

/** Of Slurm's jobs that are this one, which can be two, that which runs the program, or may yet. */
export function runnerOf<Job extends Listed>(jobId: string, jobs: readonly Job[]): Job | undefined {
  const same = jobs.filter(({ comment }) => comment === jobCommentOf(jobId));
  return same.find((job) => !hasNotRun(job)) ?? same[0];
}
