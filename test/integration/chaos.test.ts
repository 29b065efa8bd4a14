import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { FAULT_KINDS } from "../../chaos/schedule.mjs";
import { runNode } from "../support/mento.ts";

const MAIN = fileURLToPath(new URL("../../chaos/main.mjs", import.meta.url));

/** What `npm run chaos -- --json` prints, as far as it is looked at here. */
interface Report {
  decision: string;
  jobs: { inSlurm: number; run: number; notLaunched: number };
  events: Record<string, { different: number; again: number }>;
  faults: Record<string, { done: number; skipped: number }>;
  deadLetters: number;
  violations: object[];
  command: string;
  directory: string | null;
}

/** Without what is taken up only after 150 s, the longest that sbatch can take; resilience.test.ts has that. */
const quick = FAULT_KINDS.filter((kind) => kind !== "break-sbatch");

it("60 messages through three workers and a fault a second: one job each, one end each", async () => {
  const { code, stdout, stderr } = await runNode([
    ...[MAIN, "--messages", "60", "--seed", "2", "--faults", quick.join(","), "--json"],
  ]);
  const report = JSON.parse(stdout) as Report;
  const seen = `${report.command}\n${report.directory ?? ""}\n${stderr}`;
  expect(report.violations, seen).toEqual([]);
  const { events, faults } = report;
  const { notLaunched } = report.jobs;
  const ends = (events["job.completed"]?.different ?? 0) + (events["job.failed"]?.different ?? 0);
  expect({ jobs: report.jobs, submitted: events["job.submitted"]?.different, ends }).toEqual({
    jobs: { inSlurm: 60, run: 60 - notLaunched, notLaunched },
    submitted: 60,
    ends: 60,
  });
  expect(report.deadLetters).toBe(0);
  expect(Object.values(faults).reduce((sum, { done }) => sum + done, 0)).toBeGreaterThan(10);
  expect(code).toBe(0);
}, 360_000);

it("refuses options that it does not understand, in a sentence", async () => {
  const { code, stderr } = await runNode([MAIN, "--faults", "earthquake"]);
  expect(code).toBe(2);
  expect(stderr).toContain('there is no "earthquake"');
});
