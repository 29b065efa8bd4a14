import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isCancelled, isHeldForReservation, parseSqueue } from "../../src/slurm/squeue.ts";
import type { TrackingRecord } from "../../src/tracking/tracking-record.ts";
import { isOurs, reportOn, type Watched } from "../../src/tracking/watched.ts";
import { slurmSeconds, slurmTime } from "../../src/slurm/slurm-time.ts";

/** Recorded from Slurm 22.05.8 when a reservation of 100 s ended. */
const SAID = `3|COMPLETED|0:01|1:00:00|max-p11-004|mento:a|/j/a|1763801234|None
7|RESV_DEL_HOLD|0:00|1:00||mento:b|/j/b|1763801234|Reservation short was deleted
1|TIMEOUT|1:10|1:00|max-p11-004|mento:c|/j/c|1763801234|TimeLimit
5|TIMEOUT|1:48|1:00:00|max-p11-004|mento:d|/j/d|1763801234|TimeLimit
`;

it.each([
  ["CANCELLED\n", true],
  ["12 users on 3 nodes\nCANCELLED\n7\n", true],
  ["PENDING\n", false],
  ["", false],
])("whether a held job was cancelled is told, though squeue greets: %j", (said, expected) => {
  expect(isCancelled(said)).toBe(expected);
});

describe("squeue's listing", () => {
  const jobs = parseSqueue(SAID);

  it("tells a job that was killed with its reservation from one that ran into its limit", () => {
    expect(jobs.get("1")?.state).toBe("TIMEOUT");
    expect(jobs.get("5")?.state).toBe("DEADLINE");
  });

  it("tells when a job ended, and of none that goes on when it will have to end", () => {
    expect(jobs.get("3")?.endedAt).toBe(new Date(1763801234_000).toISOString());
    expect(jobs.get("7")?.endedAt).toBeUndefined();
    const said = (end: string) => parseSqueue(`8|FAILED|0:01|1:00|n|mento:b|/j/b|${end}|None\n`).get("8");
    for (const end of ["N/A", "", "Unknown", "2026-01-01T00:00:00", "-1", "1e300", "9".repeat(400)]) {
      expect(said(end)).toMatchObject({ state: "FAILED", endedAt: undefined });
    }
  });

  it("tells a job that is held because its reservation was deleted, in Slurm's newer and older words", () => {
    const held = jobs.get("7");
    expect(held && isHeldForReservation(held)).toBe(true);
    const pending = { id: "8", state: "PENDING", nodes: "" };
    expect(isHeldForReservation({ ...pending, reason: "ReservationDeleted" })).toBe(true);
    expect(isHeldForReservation({ ...pending, reason: "Reservation" })).toBe(false);
    expect(isHeldForReservation({ ...pending, reason: "Resources" })).toBe(false);
  });

  it.each(["reservation", "reservation ", "reservation x was ", "x"])(
    "tells it of a reason that is %j a hundred thousand times, too, soon",
    (reports) => {
      const begun = performance.now();
      const reason = reports.repeat(100_000);
      expect(isHeldForReservation({ state: "PENDING", reason })).toBe(false);
      expect(parseSqueue(`8|PENDING|0:00|1:00||mento:b|/j/b|N/A|${reason}\n`).size).toBe(1);
      expect(performance.now() - begun).toBeLessThan(5000);
    },
  );
});

/** Recorded from Slurm 22.05.8: all tasks of 7 that waited were cancelled by `scancel --state=PENDING`, those of 6 by `scancel`. */
const ARRAYS = `6_2|CANCELLED|0:00|1:00:00||mento:array:x|/j/.arrays/x|1763801234|PartitionDown
7_0|COMPLETED|0:03|1:00:00|max-p11-004|mento:array:y|/j/.arrays/y|1763801234|None
7|CANCELLED|0:00|1:00:00||mento:array:y|/j/.arrays/y|1763801234|JobArrayTaskLimit
`;

describe("a task of an array", () => {
  const reports = parseSqueue(ARRAYS);
  const task = (jobId: string, arrayId: string, started: string | null = null) =>
    ({
      arrayId,
      data: { job: { id: "k3f7", directory: "/j/k3f7" }, slurm: { jobId }, times: { started } },
    }) as unknown as TrackingRecord;
  const isOf = (record: TrackingRecord) => {
    const reported = reportOn(record, reports);
    return reported && isOurs({ record } as Watched, reported);
  };

  it("is known by its array's id and its index", () => {
    expect(reportOn(task("6_2", "x"), reports)?.state).toBe("CANCELLED");
    expect(reportOn(task("6_3", "x"), reports)).toBeUndefined();
    expect(isOf(task("6_2", "x"))).toBe(true);
  });

  it("is not ours if the array is another of the same id", () => {
    expect(isOf(task("6_2", "z"))).toBe(false);
  });

  it("that never ran was cancelled with all that waited; one that has run was not", () => {
    expect(reportOn(task("7_5", "y"), reports)?.state).toBe("CANCELLED");
    expect(reportOn(task("7_0", "y"), reports)?.state).toBe("COMPLETED");
    expect(reportOn(task("7_1", "y", "2026-11-22T06:00:00Z"), reports)).toBeUndefined();
  });

  it("is no job that was submitted by itself", () => {
    expect(reportOn(task("7", "y"), reports)?.id).toBe("7");
    expect(reportOn(task("5", "y"), reports)).toBeUndefined();
  });
});

describe("Slurm's durations", () => {
  it.each([
    ["45", 2700],
    ["5:30", 330],
    ["0:01", 1],
    ["1:00:00", 3600],
    ["1-12", 129_600],
    ["1-12:30", 131_400],
    ["1-12:30:15", 131_415],
    ["UNLIMITED", Infinity],
    ["soon", undefined],
    ["", undefined],
    ["1-", undefined],
  ])("%s is %s seconds", (text, seconds) => {
    expect(slurmSeconds(text)).toBe(seconds);
  });

  it("are written so that they are read again, in whole minutes", () => {
    fc.assert(
      fc.property(fc.nat(100_000), (minutes) => {
        expect(slurmSeconds(slurmTime(minutes * 60 + 59))).toBe(minutes * 60);
      }),
    );
  });
});
