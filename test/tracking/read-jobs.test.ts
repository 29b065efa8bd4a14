import { expect, it } from "vitest";
import { watch } from "../../src/tracking/watched.ts";
import { jobsToRead, readJobs, takeNotifications } from "../../src/tracking/read-jobs.ts";
import { openSessionJobs } from "../../src/tracking/session-jobs.ts";
import type { Shell } from "../../src/shells/shell.ts";
import { slurmObserver } from "../../src/tracking/observer.ts";
import { pino } from "pino";
import { jobData } from "../support/job-data.ts";
import { recordsOf } from "../support/records-of.ts";

const now = new Date("2026-11-22T12:00:00Z");

function watched(id: string) {
  const data = jobData();
  const record = { version: 1 as const, data: { ...data, job: { ...data.job, id } }, jobsDirectory: "/j" };
  return watch(record, () => undefined, undefined, now);
}

/** A shell that gives these answers, one after the other: a file system that hangs cannot be had here. */
function shellThat(...answers: { code: number; stdout: string }[]) {
  const scripts: string[] = [];
  const shell: Shell = {
    ...{ host: "node", account: "account" },
    run: (script) => {
      scripts.push(script);
      const { code, stdout } = answers.shift() ?? { code: 0, stdout: "" };
      return Promise.resolve({ code, signal: null, stdout: Buffer.from(stdout), stderr: "" });
    },
  };
  return { shell, scripts };
}

const idOf = ({ record }: ReturnType<typeof watched>) => record.data.job.id;

it("a job whose files cannot be read in time is left for later, and the others are read", async () => {
  const jobs = ["a", "slow", "b", "c"].map(watched);
  const { shell, scripts } = shellThat(
    { code: 124, stdout: `${recordsOf("a", {})}mento-record slow begin\n` },
    { code: 0, stdout: recordsOf("b", {}) },
    { code: 0, stdout: recordsOf("c", {}) },
  );
  const read = [];
  for await (const one of readJobs(slurmObserver(shell), "/j", jobs, () => now)) read.push(idOf(one.watched));
  expect(read).toEqual(["a", "b", "c"]);
  expect(scripts).toHaveLength(3);
  const session = openSessionJobs(jobs[0]?.record ?? watched("").record, pino({ level: "silent" }));
  for (const job of jobs) session.jobs.set(idOf(job), job);
  const isRead = (seconds: number) =>
    jobsToRead(session, new Date(now.getTime() + seconds * 1000))
      .map(idOf)
      .includes("slow");
  expect([isRead(5), isRead(11)]).toEqual([false, true]);
});

it("where nothing can be read in time, not even one job's folder, no job is waited for without end", async () => {
  const jobs = ["a", "b"].map(watched);
  const late = { code: 124, stdout: "" };
  const read = [];
  const { shell, scripts } = shellThat(late, late, late);
  for await (const one of readJobs(slurmObserver(shell), "/j", jobs, () => now)) read.push(one);
  expect([read.length, scripts.length]).toEqual([0, 2]);
  expect(jobs.every(({ isNotified }) => isNotified)).toBe(true);
});

it("in a spool with more names than are listed each watched job's own notifications are looked for", async () => {
  const jobs = ["a", "b"].map(watched);
  for (const job of jobs) job.isNotified = false;
  const session = openSessionJobs(watched("a").record, pino({ level: "silent" }));
  for (const job of jobs) session.jobs.set(idOf(job), job);
  const flood = Array.from({ length: 5000 }, (_, at) => `${at}.ended\n`).join("");
  const { shell, scripts } = shellThat({ code: 0, stdout: flood }, { code: 0, stdout: "b.\n" });
  await takeNotifications(slurmObserver(shell), session);
  expect(jobs.map(({ isNotified }) => isNotified)).toEqual([false, true]);
  expect(scripts).toHaveLength(2);
});
