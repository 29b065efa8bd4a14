import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { parseAccounting } from "../../src/slurm/accounting.ts";
import { endFromRecord } from "../../src/jobs/job.ts";
import { parseSqueue } from "../../src/slurm/squeue.ts";
import { decide, type Known } from "../../src/tracking/decision.ts";
import { meaningOf, SLURM_STATES } from "../../src/slurm/job-states.ts";

interface State {
  long: string;
  short: string;
}

interface Recorded {
  states: { base: State[]; flags: State[] };
  cases: {
    name: string;
    what: string;
    squeue: { line: string }[];
    scontrol: string | null;
    sacct?: string[];
    records: {
      started: object | null;
      ended: { code: number; stoppedBy: string | null } | null;
      jobLog: string | null;
    } | null;
  }[];
}

/** What Slurm 22.05.8 said of jobs that ended in every way that it could be brought to; see its README. */
const { cases, states } = JSON.parse(
  readFileSync(new URL("../recorded/slurm-22.05.json", import.meta.url), "utf8"),
) as Recorded;

/** How each is announced: state and reason; `goes-on`: it has not ended. */
const EXPECTED: Record<string, string[]> = {
  cancelled: [
    "cancel-running-by-root",
    "cancel-running",
    "cancel-pending",
    "cancel-exit-3",
    "cancel-clean",
    "signal-kill-full",
    "signal-kill",
    "cancel-stubborn",
    "suspend-cancel",
    "hold",
    "cgroup-cancel",
    "cgroup-cancel-clean",
  ],
  "failed signal": [
    "signal-usr1-batch",
    "signal-usr1-full",
    "signal-term-batch",
    "kill-9",
    "segv",
    "signal-kill-batch",
    "exit-137",
    "signal-int-full",
    "cgroup-kill-9",
  ],
  completed: [
    "exit-0",
    "suspend",
    "requeue-refused-completed",
    "requeuehold-completed-held",
    "requeue-refused",
    "requeue-refused-user",
    "requeue-completed",
    "requeuehold-completed",
    "no-chdir",
    "preempt-clean",
    "node-stepd",
    "memory-default",
    "cgroup-exit-0",
    "restart-pending",
  ],
  "failed exit-code": [
    "exit-7",
    "not-found",
    "requeue-running",
    "requeuehold-running",
    "requeue-user",
    "special-exit",
    "preempt-requeue",
    "node-down-requeue",
    "node-power-requeue",
    "cgroup-exit-7",
    "restart-short",
    "restart-long",
    "array",
  ],
  "goes-on": [
    "signal-usr1",
    "requeuehold-running-held",
    "special-exit-held",
    "signal-term-plain",
    "deadline-held",
    "unknown-account",
    "prolog-requeue",
    "spool-requeue",
  ],
  "failed timeout": ["time-limit-clean", "time-limit", "time-limit-stubborn"],
  "failed deadline": ["reservation-ended", "deadline"],
  "failed launch-failed": ["no-output-folder", "directory-removed", "output-not-writable", "prolog", "spool"],
  "failed preempted": ["preempt", "preempt-cancel", "preempt-stubborn"],
  "failed node-failure": ["node-slurmd", "node-slurmd-back", "node-reboot", "node-power", "node-down"],
  "failed out-of-memory": [
    "memory",
    "memory-requeue",
    "memory-stubborn",
    "memory-child",
    "cgroup-memory",
    "cgroup-memory-requeue",
    "cgroup-memory-survived",
    "cgroup-memory-child",
  ],
};
const expectedOf = (name: string) => Object.keys(EXPECTED).find((end) => EXPECTED[end]?.includes(name));

function endOf({ name, squeue, scontrol, records }: Recorded["cases"][number]): string {
  const { ended = null, started = null, jobLog = null } = records ?? {};
  const line = squeue.at(-1)?.line ?? "";
  const [word] = parseSqueue(line).values();
  // What the kernel counts was not recorded: it had killed one of them in these.
  const outOfMemory = name.startsWith("cgroup-memory");
  const record = ended === null ? undefined : { ...ended, at: "", outOfMemory };
  const byRecord = record && endFromRecord(record);
  if (byRecord !== undefined) return `${byRecord.state} ${byRecord.reason ?? ""}`.trim();
  const known: Known = {
    endRecord: record && { record, since: 0 },
    endedWithoutRecordSince: 0,
    seenAt: 0,
    hasStarted: started !== null,
    forgottenSince: undefined,
    isBeingResubmitted: false,
  };
  const exitCode = / ExitCode=(\d+:\d+)/.exec(scontrol ?? "")?.[1] ?? "0:0";
  const decision = decide(known, word && { ...word, exitCode, log: jobLog ?? "" }, 60_000, 86_400_000);
  return typeof decision === "string"
    ? decision
    : `${decision.end.state} ${decision.end.reason ?? ""}`.trim();
}

describe("a job that, in a real Slurm,", () => {
  it.each(cases.map((one) => [one.what, one] as const))("%s", (_, one) => {
    expect(endOf(one)).toBe(expectedOf(one.name));
  });
});

it("the table has every state of Slurm's source, long and short, and knows ends from what goes on", () => {
  for (const { long, short } of [...states.base, ...states.flags]) {
    expect(SLURM_STATES.find(([, one]) => one === long)?.[0], long).toBe(short);
    expect(meaningOf(short), short).toEqual(meaningOf(long));
  }
  for (const { long } of states.flags) expect(meaningOf(long), long).toBe("goes-on");
});

it("accounting's lines are read with their suffixes, and a job of an array by its own id", () => {
  const lines = cases
    .flatMap(({ sacct = [] }) => sacct)
    .map((line) => {
      const [id, , state, exitCode, , , , directory, comment] = line.split("|");
      return [id, state, exitCode, "None assigned", comment, directory].join("|");
    });
  const jobs = parseAccounting(lines.join("\n"), []);
  expect(jobs.size).toBeGreaterThan(40);
  for (const { state } of jobs.values()) expect(meaningOf(state), state).toBeDefined();
  expect([...jobs.values()].some(({ state }) => state.startsWith("CANCELLED by "))).toBe(true);
});
