import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { accountingCommand, parseAccounting } from "../../src/jobs/accounting.ts";

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
    expect([...parseAccounting(said).values()]).toMatchObject([{ id: "4711_3", exitCode: "7:0" }]);
  });

  it("says nothing where its lines are no records", () => {
    expect(parseAccounting("sacct: error: Problem talking to the database\n||||\n").size).toBe(0);
  });
});
