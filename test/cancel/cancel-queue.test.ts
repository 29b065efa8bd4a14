import { describe, expect, it } from "vitest";
import { CancelQueue } from "../../src/cancel/cancel-queue.ts";
import type { CancelOutcome } from "../../src/messages/job-cancel.ts";
import { eventually } from "../support/eventually.ts";

const request = (who: string, reason: string | null = null) => ({ who, reason, at: "2026-11-30T12:00:00Z" });
const cancelled = (job: string): CancelOutcome => ({
  ...{ job, id: job, outcome: "cancelled", end: null, cancelledBy: null, error: null },
});

/** Calls end when the test says so. */
function held() {
  interface Call {
    names: readonly string[];
    who: string;
    told: (outcome: CancelOutcome) => void;
    end: (error?: Error) => void;
  }
  const calls: Call[] = [];
  const queue = new CancelQueue(
    (names, { who }, told) =>
      new Promise((resolve, reject) => {
        const end = (error?: Error) => {
          if (error === undefined) resolve(names.map(cancelled));
          else reject(error);
        };
        calls.push({ names, who, told, end });
      }),
    16,
    () => 5,
  );
  return { calls, queue };
}

const settle = () => new Promise((resolve) => setImmediate(resolve));

describe("requests to cancel jobs", () => {
  it("are done one after the other; those alike that wait meanwhile are done together, each with its own outcomes", async () => {
    const { calls, queue } = held();
    const first = queue.run(["a"], request("daq"));
    const others = [
      queue.run(["b", "c", "b"], request("daq")),
      queue.run(["d"], request("someone")),
      queue.run(["c", "e"], request("daq")),
      queue.run(["f"], request("daq", "wrong mask")),
    ];
    expect(calls.map(({ names }) => names)).toEqual([["a"]]);
    for (let nth = 0; nth < 4; nth++) {
      calls[nth]?.end();
      await settle();
    }
    expect(calls.map(({ who, names }) => [who, ...names])).toEqual([
      ["daq", "a"],
      ["daq", "b", "c", "e"],
      ["someone", "d"],
      ["daq", "f"],
    ]);
    const jobsOf = async (work: Promise<CancelOutcome[]>) => (await work).map(({ job }) => job);
    expect(await jobsOf(first)).toEqual(["a"]);
    expect(await Promise.all(others.map(jobsOf))).toEqual([["b", "c"], ["d"], ["c", "e"], ["f"]]);
  });

  it("do not fail with others that are done before them, and look for 1,000 jobs at once at most", async () => {
    const { calls, queue } = held();
    const names = (count: number, name: string) => Array.from({ length: count }, (_, nth) => `${name}${nth}`);
    const works = [["x"], names(600, "a"), names(600, "b"), names(400, "c")].map((all) =>
      queue.run(all, request("daq")).then(
        (outcomes) => outcomes.length,
        (error: unknown) => (error as Error).message,
      ),
    );
    calls[0]?.end(new Error("the link is lost"));
    await settle();
    expect(calls[1]?.names).toHaveLength(1_000);
    calls[1]?.end();
    await settle();
    calls[2]?.end();
    expect(await Promise.all(works)).toEqual(["the link is lost", 600, 600, 400]);
  });

  it("beyond those that may be here come again, and none is lost", async () => {
    const { calls, queue } = held();
    const works = Array.from({ length: 20 }, (_, nth) => queue.run([`j${nth}`], request("daq")));
    const states = works.map((work) =>
      work.then(
        () => "done",
        (error: unknown) => error,
      ),
    );
    for (let nth = 0; nth < 2; nth++) {
      calls[nth]?.end();
      await settle();
    }
    const all = await Promise.all(states);
    expect(all.filter((state) => state === "done")).toHaveLength(16);
    for (const state of all.slice(16))
      expect(state).toMatchObject({ code: "cancel-busy", isSilent: true, waitSeconds: 5 });
    const next = queue.run(["next"], request("daq"));
    calls[2]?.end();
    expect(await next).toMatchObject([{ job: "next" }]);
  });

  it("do not wait for a node that hangs, which another request names", async () => {
    const { calls, queue } = held();
    const hangs = queue.run(["hangs"], request("daq", "a"));
    const other = queue.run(["other"], request("daq", "b"));
    await eventually("its turn comes", () => calls[1]);
    calls[1]?.end();
    expect(await other).toMatchObject([{ job: "other" }]);
    calls[0]?.end();
    expect(await hangs).toMatchObject([{ job: "hangs" }]);
  });

  it("that share a look are answered when their own jobs are settled, whatever the others' nodes do", async () => {
    const { calls, queue } = held();
    const first = queue.run(["a"], request("daq"));
    const hangs = queue.run(["hangs", "b"], request("daq"));
    const other = queue.run(["b", "c"], request("daq"));
    calls[0]?.end();
    await first;
    await settle();
    calls[1]?.told(cancelled("b"));
    calls[1]?.told(cancelled("c"));
    expect((await other).map(({ job }) => job)).toEqual(["b", "c"]);
    calls[1]?.end(new Error("the link is lost"));
    await expect(hangs).rejects.toThrow("the link is lost");
  });

  it("that wait are left to the broker when the worker stops", async () => {
    const { calls, queue } = held();
    const first = queue.run(["a"], request("daq", "a"));
    const second = queue.run(["b"], request("daq", "b"));
    queue.refuseWaiting(new Error("it stops"));
    await expect(second).rejects.toThrow("it stops");
    calls[0]?.end();
    expect(await first).toMatchObject([{ job: "a" }]);
    await settle();
    expect(calls).toHaveLength(1);
  });
});
