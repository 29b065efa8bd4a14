/**
 * @typedef {{
 *   seed: number, command: string, verdict: "passed" | "failed", messages: number, workers: number,
 *   jobs: { inSlurm: number, run: number, notLaunched: number }, events: ReturnType<typeof import("./tally.mjs").countEvents>,
 *   published: { duplicates: number, repeatedByDetector: number }, startedInVain: number,
 *   faults: Record<string, { done: number, skipped: number }>, deadLetters: number,
 *   seconds: { total: number, chaos: number, drain: number },
 *   violations: import("./tally.mjs").Violation[], directory: string | null
 * }} Report
 */

/** @param {Report} report */
export function printReport(report) {
  const { events, faults, jobs, published, seconds, violations } = report;
  const rows = [
    ["seed", report.seed],
    ["messages", report.messages],
    ["  published again as a fault", published.duplicates],
    ["  published again by the detector, outcome unknown", published.repeatedByDetector],
    ["jobs in Slurm", jobs.inSlurm],
    ["programs run", jobs.run],
    ["  not launched by Slurm, and announced so", jobs.notLaunched],
    ...Object.entries(events).map(([kind, { different, again }]) => [
      `event ${kind}`,
      `${different}${again === 0 ? "" : `, ${again} of them announced again`}`,
    ]),
    ["messages deferred", events["message.deferred"]?.different ?? 0],
    ["dead letters", report.deadLetters],
    ["workers", report.workers],
    ["  could not start, because a server was away", report.startedInVain],
    ...Object.entries(faults).map(([kind, { done, skipped }]) => [
      `fault ${kind}`,
      `${done}${skipped === 0 ? "" : `, ${skipped} skipped`}`,
    ]),
    ["wall time", `${seconds.total} s: ${seconds.chaos} s of faults, ${seconds.drain} s until all was done`],
  ];
  for (const [name, value] of rows) console.log(`${String(name).padEnd(52)}${value}`);
  console.log();
  for (const { what, message, job, seen } of violations) {
    const whose = [message && `message ${message}`, job && `job ${job}`].filter(Boolean).join(", ");
    console.log(`VIOLATED: ${what}${whose && ` (${whose})`}: ${seen}`);
  }
  if (report.directory !== null) console.log(`logs: ${report.directory}`);
  if (violations.length === 0) console.log("passed: each message became one job, and each job had one end");
  else console.log(`failed: ${violations.length} violations. Again with: ${report.command}`);
}
