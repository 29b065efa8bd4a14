import { describe, expect, it } from "vitest";
import { Checklist, describeResult, NOTHING_NEEDED, type CheckResult } from "../../src/doctor/checklist.ts";
import { MentoError } from "../../src/errors.ts";

const error = new MentoError({ code: "ssh-unreachable", message: "no node", hint: "look" });

function newList() {
  const stop = new AbortController();
  const shown: CheckResult[] = [];
  return { list: new Checklist((result) => shown.push(result), stop.signal), shown, stop };
}

describe("a checklist", () => {
  it("gives what a check found to the next one", async () => {
    const { list, shown } = newList();
    const one = await list.check({ check: "one" }, NOTHING_NEEDED, () => ({
      state: "ok",
      message: "1",
      value: 1,
    }));
    await list.check({ check: "two" }, one, (value) => ({ state: "ok", message: String(value + 1), value }));
    expect(shown.map(({ message }) => message)).toEqual(["1", "2"]);
  });

  it("skips what needs a failed check, and names the first that failed", async () => {
    const { list, shown } = newList();
    const one = await list.check({ check: "login", session: "1" }, NOTHING_NEEDED, () => {
      throw error;
    });
    const two = await list.check({ check: "Slurm" }, one, () => ({ state: "ok", message: "", value: 2 }));
    await list.check({ check: "reservation" }, two, () => ({ state: "ok", message: "", value: 3 }));
    const because = 'not checked, because "login" failed';
    expect(shown).toEqual([
      {
        session: "1",
        check: "login",
        state: "failed",
        code: "ssh-unreachable",
        message: "no node",
        hint: "look",
      },
      { session: null, check: "Slurm", state: "skipped", code: null, message: because, hint: null },
      { session: null, check: "reservation", state: "skipped", code: null, message: because, hint: null },
    ]);
  });

  it("makes a warning of what the parts that a check uses warn of", async () => {
    const { list, shown } = newList();
    const done = await list.check({ check: "key" }, NOTHING_NEEDED, () => {
      list.warn("open to others");
      return { state: "ok", message: "a key", value: 1 };
    });
    expect(done).toEqual({ value: 1 });
    expect(shown).toMatchObject([{ state: "warning", message: "a key\nopen to others" }]);
  });

  it("calls a bug one", async () => {
    const { list, shown } = newList();
    await list.check({ check: "x" }, NOTHING_NEEDED, () => {
      throw new TypeError("oops");
    });
    expect(shown).toMatchObject([{ state: "failed", code: "internal-error", message: "oops" }]);
  });

  it("ends when it is stopped", async () => {
    const { list, shown, stop } = newList();
    const checking = list.check({ check: "x" }, NOTHING_NEEDED, () => {
      stop.abort();
      throw new Error("aborted");
    });
    await expect(checking).rejects.toThrow("aborted");
    expect(shown).toEqual([]);
  });
});

describe("a result for a person", () => {
  const result: CheckResult = {
    ...{ session: "11010000", check: "SSH login", state: "failed", code: "ssh-unreachable" },
    ...{ message: "one\ntwo", hint: "look" },
  };

  it("has what was found, and below it what to do", () => {
    expect(describeResult(result, 0).split("\n")).toEqual([
      "FAILED   SSH login            one",
      "                              two",
      "                              → look [ssh-unreachable]",
    ]);
  });

  it("names the session where there are several", () => {
    expect(describeResult(result, 8)).toMatch(/^FAILED {3}11010000: SSH login +one\n/);
  });
});
