import { execFile, execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  leaveCommand,
  overtakenCommand,
  parseOvertaken,
  roomCommand,
  takePermits,
  type Permits,
} from "../../src/jobs/permits.ts";

let jobs: string;
beforeEach(() => (jobs = join(mkdtempSync(join(tmpdir(), "mento-permits-")), "it's $HOME")));
afterEach(() => rmSync(join(jobs, ".."), { recursive: true, force: true }));

const row = (limit: number, name = "default.show.k", of: "trigger" | "session" = "trigger") => ({
  name,
  limit,
  of,
});
const permits = (limit: number): Permits => ({ semaphores: [row(limit)], newest: null });
/** The number is the message's place, the letter its job. */
const latest = (order: string, limit = 1): Permits => ({
  semaphores: [row(limit)],
  newest: { order, messageId: `m "${order}"\n` },
});

const asSubmit = (job: string, wanted: Permits) =>
  `say() { printf '%s\\n' "$1"; exit 0; }\n${takePermits(jobs, job, wanted)}\nmkdir -p "$jobs/$job"\nsay got`;

/** What the account's shell says. */
const take = (job: string, wanted: Permits, shell = "dash") =>
  execFileSync(shell, ["-c", asSubmit(job, wanted)], { encoding: "utf8" }).trim();
const sh = (script: string) => execFileSync("dash", ["-c", script], { encoding: "utf8" });

/** As a run script does at its end. */
function end(job: string, run = "7"): void {
  writeFileSync(join(jobs, job, "submitted"), `${run};cluster\n`);
  writeFileSync(join(jobs, job, `ended.${run}`), "");
}

function age(file: string, seconds: number): void {
  const then = Date.now() / 1000 - seconds;
  utimesSync(join(jobs, file), then, then);
}

const taken = () =>
  readdirSync(join(jobs, ".permits"), { recursive: true, withFileTypes: true })
    .filter((one) => one.isFile() && !one.parentPath.endsWith("newest"))
    .map(({ name }) => name)
    .sort();

describe.each(["dash", "bash"])("a job's permit, in %s", (shell) => {
  it("is had by as many as may, and by the same job again", () => {
    expect(take("a", permits(2), shell)).toBe("got");
    expect(take("b", permits(2), shell)).toBe("got");
    expect(take("c", permits(2), shell)).toBe("busy trigger");
    expect(take("a", permits(2), shell)).toBe("got");
    expect(taken()).toEqual(["a", "b"]);
  });

  it("is free when its job has left a record of its end, not one of a run by hand", () => {
    take("a", permits(1), shell);
    writeFileSync(join(jobs, "a", "submitted"), "7\n");
    writeFileSync(join(jobs, "a", "ended.by-hand"), "");
    expect(take("b", permits(1), shell)).toBe("busy trigger");
    end("a");
    expect(take("b", permits(1), shell)).toBe("got");
    expect(taken()).toEqual(["b"]);
  });

  it("is free when the tracker says so, and then nobody else's", () => {
    take("a", permits(1), shell);
    sh(leaveCommand(jobs, "a", ["default.show.k"]));
    expect(take("b", permits(1), shell)).toBe("got");
    sh(leaveCommand(jobs, "a", ["default.show.k"]));
    expect(taken()).toEqual(["b"]);
  });

  it("whose job was never made is free after a while", () => {
    take("a", permits(1), shell);
    rmSync(join(jobs, "a"), { recursive: true });
    expect(take("b", permits(1), shell)).toBe("busy trigger");
    const before = Date.now() / 1000 - 600;
    utimesSync(join(jobs, ".permits/default.show.k/1/a"), before, before);
    expect(take("b", permits(1), shell)).toBe("got");
  });

  it("whose job was never submitted is free after an hour, or soon if that has failed", () => {
    take("a", permits(1), shell);
    expect(take("b", permits(1), shell)).toBe("busy trigger");
    age(".permits/default.show.k/1/a", 3700);
    expect(take("b", permits(1), shell)).toBe("got");
    writeFileSync(join(jobs, "b", "submitted"), "");
    writeFileSync(join(jobs, "b", ".failed"), "");
    expect(take("c", permits(1), shell)).toBe("busy trigger");
    age(".permits/default.show.k/1/b", 300);
    expect(take("c", permits(1), shell)).toBe("got");
  });

  it.each(["stoppedBy=TERM\0", "stoppedBy=\0code=143\0", "stoppedBy=\0code=137\0"])(
    "is kept by a job whose record says %j: it may be submitted again",
    (record) => {
      take("a", permits(1), shell);
      end("a");
      writeFileSync(join(jobs, "a/ended.7"), `at=x\0${record}`);
      expect(take("b", permits(1), shell)).toBe("busy trigger");
      age("a/ended.7", 3700);
      expect(take("b", permits(1), shell)).toBe("got");
    },
  );

  it("is free when its job has ended by itself, whatever its record says", () => {
    take("a", permits(1), shell);
    end("a");
    writeFileSync(join(jobs, "a/ended.7"), "at=x\0code=1\0stoppedBy=\0log=code=143 stoppedBy=TERM\0");
    expect(take("b", permits(1), shell)).toBe("got");
  });

  it("is left by a job whose submit was cut off, and that was overtaken", () => {
    take("a", latest("001-a", 2), shell);
    take("b", latest("002-b", 2), shell);
    expect(take("a", latest("001-a", 2), shell)).toBe(String.raw`superseded "m \"002-b\"\n"`);
    expect(taken()).toEqual(["b"]);
  });

  it("is needed in each row: of the trigger, and of the session", () => {
    const both = (trigger: string): Permits => ({
      semaphores: [row(1, `default.${trigger}.k`), row(2, "default.s", "session")],
      newest: null,
    });
    expect(take("a", both("one"), shell)).toBe("got");
    expect(take("b", both("one"), shell)).toBe("busy trigger");
    expect(take("c", both("two"), shell)).toBe("got");
    expect(take("d", both("three"), shell)).toBe("busy session");
    // It keeps no permit of the one row while the other is full.
    end("a");
    expect(take("e", both("three"), shell)).toBe("got");
  });

  it("of the latest is for no message older than one that had it", () => {
    expect(take("c", latest("003-c"), shell)).toBe("got");
    end("c");
    // It came twice.
    expect(take("c", latest("001-c"), shell)).toBe("got");
    expect(take("b", latest("002-b"), shell)).toBe(String.raw`superseded "m \"003-c\"\n"`);
    expect(take("c", latest("003-c"), shell)).toBe("got");
    expect(take("d", latest("004-d"), shell)).toBe("got");
    expect(readdirSync(join(jobs, ".permits/default.show.k/newest"))).toEqual(["004-d"]);
  });
});

it("of many callers at the same moment as many get a permit as there are", async () => {
  const run = promisify(execFile);
  const callers = Array.from({ length: 40 }, (_, number) =>
    run("dash", ["-c", asSubmit(`job${number}`, permits(3))]).then(({ stdout }) => stdout.trim()),
  );
  const got = (await Promise.all(callers)).filter((one) => one === "got");
  expect(taken()).toHaveLength(got.length);
  expect(got.length).toBeGreaterThan(0);
  expect(got.length).toBeLessThanOrEqual(3);
});

describe("a look at the permits", () => {
  it("says whether there is room, and takes none", () => {
    const look = (job: string, wanted: Permits) => sh(roomCommand(jobs, job, wanted)).trim();
    expect(look("a", permits(1))).toBe("mento:none");
    expect(existsSync(jobs)).toBe(false);
    take("b", permits(1));
    expect(look("a", permits(1))).toBe("mento:busy trigger");
    // Its directory answers, whatever the permits are.
    mkdirSync(join(jobs, "a"));
    expect(look("a", permits(1))).toBe("mento:none");
    take("z", latest("003-z", 5));
    expect(look("c", latest("002-c", 5))).toBe(String.raw`mento:superseded "m \"003-z\"\n"`);
  });

  it("tells which of the overtaken have jobs, and frees the permits of the others", () => {
    take("a", permits(3));
    take("b", permits(3));
    rmSync(join(jobs, "b"), { recursive: true });
    const output = sh(overtakenCommand(jobs, ["a", "b", "c"], "default.show.k"));
    expect(parseOvertaken(output)).toEqual(new Set(["a"]));
    expect(taken()).toEqual(["a"]);
    expect(parseOvertaken("mento-job a\n")).toBeUndefined();
  });
});
