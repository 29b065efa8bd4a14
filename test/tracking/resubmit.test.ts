import { describe, expect, it } from "vitest";
import { Deferred, Rejected, Unavailable } from "../../src/errors.ts";
import { isGivenUp } from "../../src/tracking/resubmit.ts";

const MINUTE = 60_000;
const held = "2026-01-01T00:00:00.000Z";
const after = (minutes: number) => Date.parse(held) + minutes * MINUTE;

describe("a job whose reservation was deleted is given up", () => {
  it("at once if its trigger does not wait", () => {
    const fails = new Rejected({ code: "no-reservation-fits", message: "", hint: "" });
    expect(isGivenUp(fails, held, after(0))).toBe(true);
  });

  it("after a day if none fits", () => {
    const waits = new Deferred({ code: "no-reservation-fits", message: "", hint: "", giveUpAfterSeconds: 1 });
    expect(isGivenUp(waits, held, after(23 * 60))).toBe(false);
    expect(isGivenUp(waits, held, after(25 * 60))).toBe(true);
  });

  it("when its session has ended, but not in the moment in which a start changes the reservations", () => {
    const ended = new Rejected({ code: "beamtime-ended", message: "", hint: "" });
    expect(isGivenUp(ended, held, after(1))).toBe(false);
    expect(isGivenUp(ended, held, after(11))).toBe(true);
  });

  it.each([
    new Unavailable({ code: "ssh-lost", message: "", hint: "" }),
    new Deferred({ code: "metadata-unreadable", message: "", hint: "", giveUpAfterSeconds: 1 }),
    new Rejected({ code: "unknown-beamtime", message: "", hint: "" }),
    new Error("sbatch failed"),
  ])("never because of what says nothing of reservations: %s", (error) => {
    expect(isGivenUp(error, held, after(48 * 60))).toBe(false);
  });
});
