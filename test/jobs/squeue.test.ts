import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isHeldForReservation, parseSqueue } from "../../src/jobs/squeue.ts";
import { slurmSeconds, slurmTime } from "../../src/jobs/slurm-time.ts";

/** Recorded from Slurm 22.05.8 when a reservation of 100 s ended. */
const SAID = `3|COMPLETED|0:01|1:00:00|max-p11-004|mento:a|/j/a|None
7|RESV_DEL_HOLD|0:00|1:00||mento:b|/j/b|Reservation short was deleted
1|TIMEOUT|1:10|1:00|max-p11-004|mento:c|/j/c|TimeLimit
5|TIMEOUT|1:48|1:00:00|max-p11-004|mento:d|/j/d|TimeLimit
`;

describe("squeue's listing", () => {
  const jobs = parseSqueue(SAID);

  it("tells a job that was killed with its reservation from one that ran into its limit", () => {
    expect(jobs.get("1")?.state).toBe("TIMEOUT");
    expect(jobs.get("5")?.state).toBe("DEADLINE");
  });

  it("tells a job that is held because its reservation was deleted, in Slurm's newer and older words", () => {
    const held = jobs.get("7");
    expect(held && isHeldForReservation(held)).toBe(true);
    const pending = { id: "8", state: "PENDING", nodes: "" };
    expect(isHeldForReservation({ ...pending, reason: "ReservationDeleted" })).toBe(true);
    expect(isHeldForReservation({ ...pending, reason: "Reservation" })).toBe(false);
    expect(isHeldForReservation({ ...pending, reason: "Resources" })).toBe(false);
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
