import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { parseTaskList } from "../../src/slurm/array-tasks.ts";
import { accountingCommand, parseAccounting } from "../../src/slurm/accounting.ts";

const bin = mkdtempSync(join(tmpdir(), "mento-sacct-"));
afterAll(() => rmSync(bin, { recursive: true }));
writeFileSync(join(bin, "sacct"), '#!/bin/sh\nprintf "%s\\n" "$@"\n');
chmodSync(join(bin, "sacct"), 0o755);

/** What `sacct` is called with, on a node in that time zone. */
function called(since: number, zone: string): string[] {
  const env = { PATH: `${bin}:/usr/bin:/bin`, TZ: zone };
  const { stdout } = spawnSync("/bin/sh", ["-c", accountingCommand("bt1", ["4711", "4712"], since)], {
    env,
    encoding: "utf8",
  });
  return stdout.trim().split("\n");
}

describe("accounting", () => {
  it("is asked from before the submit on, by the node's clock: a job that runs past midnight is not lost", () => {
    const evening = Date.UTC(2026, 10, 21, 23, 59, 50) / 1000;
    expect(called(evening, "UTC")).toContain("2026-11-21T23:59:50");
    expect(called(evening, "Europe/Berlin")).toContain("2026-11-22T00:59:50");
    expect(called(evening, "UTC")).toEqual(expect.arrayContaining(["-u", "bt1", "-j", "4711,4712"]));
  });

  it("knows an array's tasks by the array's id and their index", () => {
    const said =
      "4711_3|FAILED|7:0|max-p11-003|mento:array:a|/j\n4711_[4-9%10]|PENDING|0:0||mento:array:a|/j\n";
    expect([...parseAccounting(said, []).values()]).toMatchObject([{ id: "4711_3", exitCode: "7:0" }]);
  });

  it("tells when a job ended", () => {
    const said = "4711|COMPLETED|0:0|n|mento:a|/j|1763801234\n4712|RUNNING|0:0|n|mento:b|/j|Unknown\n";
    const jobs = parseAccounting(said, []);
    expect(jobs.get("4711")?.endedAt).toBe(new Date(1763801234_000).toISOString());
    expect(jobs.get("4712")).toMatchObject({ state: "RUNNING", endedAt: undefined });
  });

  it("is asked for tasks by their array's id", () => {
    const { stdout } = spawnSync(
      "/bin/sh",
      ["-c", accountingCommand("bt1", ["4711_3", "4711_4", "4712"], 0)],
      {
        env: { PATH: `${bin}:/usr/bin:/bin` },
        encoding: "utf8",
      },
    );
    expect(stdout).toContain("\n4711,4712\n");
  });

  it.each([
    ["4711_[0-4%2]", [0, 1, 2, 3, 4]],
    ["4711_[1,3,5-9:2]", [1, 3, 5, 7, 9]],
    ["4711_[7]", [7]],
    ["4711_[0-3,9%1]", [0, 1, 2, 3, 9]],
    ["4711_[0,2,4,...]", [0, 2, 4, 5, 6, 7, 8, 9, 10, 11]],
    ["4711_[0,2,4-...]", [0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]],
    ["4711_[0,2,1...]", [0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]],
    ["4711_[0,2", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]],
    ["4711_[]", []],
    ["4711_[2-1]", []],
    ["4711_[x]", []],
    ["4712_[0-9]", []],
  ])("knows which tasks %s tells of together", (id, tasks) => {
    const wanted = Array.from({ length: 12 }, (_, index) => `4711_${index}`);
    const jobs = parseAccounting(`${id}|CANCELLED by 1000|0:0|None assigned||/j/.arrays/a\n`, wanted);
    expect([...jobs.keys()]).toEqual(tasks.map((index) => `4711_${index}`));
    for (const [key, job] of jobs)
      expect(job).toMatchObject({ id: key, state: "CANCELLED by 1000", nodes: "" });
  });

  it("takes a task's own entry before that of its array, and no list for a job that is no task", () => {
    const said =
      "4711_[0-4]|CANCELLED by 1|0:0|||\n4711_2|COMPLETED|0:0|n1||\n4712_[0-4]|CANCELLED by 1|0:0|||\n";
    const jobs = parseAccounting(said, ["4711_2", "4711_3", "4711_5", "4712"]);
    expect([...jobs].map(([id, { state }]) => [id, state])).toEqual([
      ["4711_2", "COMPLETED"],
      ["4711_3", "CANCELLED by 1"],
    ]);
  });

  // Slurm 22.05.8 with a slow slurmdbd: the tasks that never began, as `1|CANCELLED by 0`.
  it("takes an array's entry without a list for its tasks that have none of their own", () => {
    const said = "1_0|RUNNING|0:0|n1||\n1|CANCELLED by 0|0:0|None assigned||\n";
    const jobs = parseAccounting(said, ["1_0", "1_4", "2_1"]);
    expect([...jobs].filter(([id]) => id !== "1").map(([id, { state }]) => [id, state])).toEqual([
      ["1_0", "RUNNING"],
      ["1_4", "CANCELLED by 0"],
    ]);
  });

  it("knows any list that Slurm writes, whole or cut anywhere", () => {
    const range = fc.tuple(fc.nat(30), fc.nat(8), fc.integer({ min: 1, max: 4 }));
    fc.assert(
      fc.property(fc.array(range, { minLength: 1, maxLength: 6 }), fc.nat(60), (ranges, cut) => {
        let from = 0;
        const members = new Set<number>();
        const parts = ranges.map(([gap, length, step]) => {
          const first = (from += gap + 1);
          for (let at = 0; at <= length; at++) members.add((from = first + at * step));
          return length === 0 ? `${first}` : step === 1 ? `${first}-${from}` : `${first}-${from}:${step}`;
        });
        const list = parts.join(",");
        const isCut = cut < list.length;
        const text = isCut ? `${list.slice(0, cut)}...` : list;
        const tasks = parseTaskList(`4711_[${text}%3]`);
        for (let index = 0; index < 300; index++) {
          const has = tasks?.has(index);
          if (has !== undefined || !isCut) expect([index, has]).toEqual([index, members.has(index)]);
        }
      }),
    );
  });

  it("says nothing where its lines are no records", () => {
    expect(parseAccounting("sacct: error: Problem talking to the database\n||||\n", ["4711"]).size).toBe(0);
  });
});
