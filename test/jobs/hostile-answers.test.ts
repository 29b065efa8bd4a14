import { cpuTime } from "../support/cpu-time.ts";
import { describe, expect, it } from "vitest";
import { chooseReservation } from "../../src/beamtime/reservation.ts";
import { parseAccounting } from "../../src/slurm/accounting.ts";
import { lastLines } from "../../src/shells/answer-lines.ts";
import { parseCancelQuery } from "../../src/jobs/cancel.ts";
import { parseCancelled, parseProcesses } from "../../src/jobs/process.ts";
import { parseRecords } from "../../src/jobs/records.ts";
import { parseRecord } from "../../src/jobs/run-script.ts";
import { parseSlurmNow } from "../../src/slurm/slurm-now.ts";
import { parseExit, parseSqueue } from "../../src/slurm/squeue.ts";

const MEBI = 1024 * 1024;
/** While one session's answer is read, no other's is. */
const SOON_MS = 30_000;
const base64 = (text: string) => Buffer.from(text).toString("base64");
const lines = (count: number, line: (number: number) => string) =>
  Array.from({ length: count }, (_, number) => line(number)).join("\n");

/** Milliseconds of the processor for the least that anybody could do with a text. */
function cutIntoFields(text: string): number {
  const used = cpuTime();
  const fields = text.split("\n").map((line) => line.split("|"));
  expect(fields.length).toBeGreaterThan(0);
  return used();
}

/** Programs of the account that stand in front of Slurm's print up to 16 MiB. */
describe(
  "what an account's own programs print is read soon, and takes a bounded room:",
  { timeout: SOON_MS },
  () => {
    it("reservations that each have all nodes", () => {
      const said = lines(
        250_000,
        (number) => `ReservationName=r_${number} Nodes=a[1-65536] StartTime=1 EndTime=Unknown`,
      );
      const nodes = lines(60_000, (number) => `a${number}|idle|x|0/1/0/1`);
      const now = parseSlurmNow(`@2\n${nodes}\n${said}\n@end\n`);
      expect(now).toBeUndefined();
      const some = parseSlurmNow(`@2\n@end\n${nodes}\n${said}\n`);
      if (some === undefined) throw new Error("not parsed");
      expect(some.reservations.size).toBeLessThanOrEqual(1_000);
      const reservations = [{ name: "r", partition: "p", nodes: [] }];
      chooseReservation({ time: "1:00", constraint: "none" }, { account: "a", reservations }, some);
    });

    it("reservations of nothing but fields", () => {
      const said = lines(260, (number) => `ReservationName=r${number}${" ".repeat(64_000)}Users=a`);
      const now = parseSlurmNow(`@1\n@end\n${said}\n`);
      expect([...(now?.reservations.values() ?? [])].every(({ users }) => users.length === 0)).toBe(true);
    });

    it("nodes and features without end", () => {
      const said = `@1\n@end\nn|idle|${"a,".repeat(7 * MEBI)}|0/1/0/1\n${"\n".repeat(MEBI)}`;
      expect(parseSlurmNow(said)?.nodes.size).toBe(0);
    });

    it.each([
      ["jobs without end", lines(1_400_000, (number) => `${number}|R`)],
      ["empty lines", "\n".repeat(15 * MEBI)],
      ["fields without end", `1|${"|".repeat(15 * MEBI)}`],
    ])("%s", (_, said) => {
      expect(parseSqueue(said).size).toBeLessThanOrEqual(65_536);
      const jobIds = Array.from({ length: 50 }, (_one, number) => `j${number}`);
      const look = parseCancelQuery(Buffer.from(`${said}\nmento-directories\n`), {
        ...{ jobsDirectory: "/j", jobIds, account: "a" },
      });
      expect(look.found.size).toBe(0);
    });

    it.each([
      ["one job's request again and again", lines(700_000, () => "mento-request j1 e30=")],
      ["requests of jobs of nobody", lines(600_000, (number) => `mento-request x${number} e30=`)],
      [
        "records of jobs of nobody",
        lines(350_000, (number) => `mento-record x${number} begin\nmento-record x${number} end 1`),
      ],
      [
        "a request of nothing",
        `mento-request j1 ${base64(`# mento-request: [${"[],".repeat(3_900_000)}1]`)}`,
      ],
    ])("of jobs that are to be cancelled, %s", (_, said) => {
      const jobIds = Array.from({ length: 1_000 }, (_one, number) => `j${number}`);
      const output = Buffer.from(`mento-directories\n${said}\n`);
      const used = cpuTime();
      const { found } = parseCancelQuery(output, { jobsDirectory: "/j", jobIds, account: "a" });
      expect(used() / cutIntoFields(said)).toBeLessThan(30);
      expect(found.size).toBeLessThanOrEqual(1);
      expect(found.get("j1")?.method).toBeUndefined();
    });

    it("of jobs that are to be cancelled, all of Slurm's under one name", () => {
      const jobIds = Array.from({ length: 1_000 }, (_one, number) => `j${number}`);
      const said = lines(140_000, (number) => `${number}|RUNNING|1|2|n|mento:j1|/d|N/A|${"r".repeat(60)}`);
      const used = cpuTime();
      const { found } = parseCancelQuery(Buffer.from(`${said}\nmento-directories\n`), {
        ...{ jobsDirectory: "/j", jobIds, account: "a" },
      });
      expect(used() / cutIntoFields(said)).toBeLessThan(30);
      expect(found.get("j1")?.inSlurm.length).toBeLessThanOrEqual(64);
    });

    it("processes that were cancelled, without end", () => {
      expect(
        parseCancelled(lines(900_000, (number) => `mento-cancelled ${number}`)).size,
      ).toBeLessThanOrEqual(65_536);
    });

    it.each([
      ["one list of an array's tasks", `12_[${"1,".repeat(7 * MEBI)}]|CANCELLED|0:0`],
      ["lists of an array's tasks", lines(700_000, (number) => `12_[${number}]|CANCELLED|0:0`)],
      ["long lists of them", lines(250, () => `12_[${"1,".repeat(30_000)}]|CANCELLED|0:0`)],
      ["long lists that are none", lines(250, () => `12_[${"1,".repeat(30_000)}x]|CANCELLED|0:0`)],
    ])("%s", (_, said) => {
      const wanted = Array.from({ length: 2_000 }, (_one, number) => `12_${number + 2_000_000}`);
      expect(parseAccounting(said, wanted).size).toBe(0);
    });

    it("processes of nobody", () => {
      const jobs = Array.from({ length: 2_000 }, (_, number) => ({ pid: number + 2, directory: "/j" }));
      const said = lines(800_000, (number) => `mento-process ${number + 1_000_000} R`);
      expect(parseProcesses(said, jobs, "n").size).toBe(0);
    });

    it.each([
      ["fields of nothing", "\0".repeat(512 * 1024)],
      ["one field again and again", "code=0\0".repeat(75_000)],
      ["results of nothing", `at=2026-01-01T00:00:00Z\0code=0\0stoppedBy=\0${"result=1 /\0".repeat(47_000)}`],
    ])("records of jobs with %s", (_, record) => {
      const line = `ended 4711 ${Buffer.from(record).toString("base64")}`;
      const said = lines(6, (number) =>
        ["begin", "submitted x NDcxMQo=", line, `real x ${Buffer.alloc(400_000).toString("base64")}`, "end"]
          .map((one) => `mento-record j${number} ${one}`)
          .join("\n"),
      );
      const read = parseRecords(Buffer.from(`${said}\n`));
      expect(parseRecord(Buffer.from(record)).length).toBeLessThanOrEqual(4_000);
      expect(read.size).toBe(6);
      for (const { realPaths } of read.values()) expect(realPaths.length).toBeLessThanOrEqual(2_000);
    });

    it("why a command failed, in empty lines", () => {
      expect(lastLines(`${"\n".repeat(15 * MEBI)}why\n`).at(-1)).toBe("why");
      expect(lastLines("x\n".repeat(8 * MEBI)).length).toBeLessThan(65_536);
    });

    it("exit codes that are none", () => {
      expect(parseExit(` ExitCode=${"9".repeat(400)}:0`).exitCode).toBeUndefined();
      expect(parseAccounting(`1|FAILED|${"9".repeat(400)}:0|n||/j`, ["1"]).size).toBe(0);
    });
  },
);
