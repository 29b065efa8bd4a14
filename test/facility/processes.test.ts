import { spawn } from "node:child_process";
import { once } from "node:events";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  endProcesses,
  identify,
  isRunning,
  parseStat,
  run,
  sendSignal,
} from "../../src/facility/processes.ts";

describe("parseStat", () => {
  it("finds the fields behind any program's name", () => {
    const rest = ["S", "41", ...Array.from({ length: 17 }, () => "0"), "123456", "0"].join(" ");
    fc.assert(
      fc.property(fc.string(), (name) => {
        expect(parseStat(`77 (${name}) ${rest}`)).toEqual({ state: "S", parent: 41, startTicks: 123456 });
      }),
    );
  });

  it("gives nothing for text that is no stat line", () => {
    expect(parseStat("")).toBeUndefined();
  });
});

describe("a process's identity", () => {
  it("is that of a running process, and of no other with the same pid", () => {
    const own = identify(process.pid);
    expect(isRunning(own)).toBe(true);
    expect(isRunning(own && { ...own, startTicks: own.startTicks - 1 })).toBe(false);
    expect(isRunning(own && { ...own, bootId: "another boot" })).toBe(false);
    expect(isRunning(undefined)).toBe(false);
  });

  it("keeps a signal from a process that only got the pid", () => {
    const own = identify(process.pid);
    if (own === undefined) throw new Error("this process does not run");
    sendSignal({ ...own, startTicks: own.startTicks - 1 }, "SIGKILL");
    expect(isRunning(own)).toBe(true);
  });

  it("ends with the process", async () => {
    const child = spawn("sleep", ["60"]);
    const identity = identify(child.pid ?? 0);
    const exit = once(child, "exit");
    await endProcesses(identity ? [identity] : [], 5);
    await exit;
    expect(identity).toBeDefined();
    expect(isRunning(identity)).toBe(false);
  });
});

describe("run", () => {
  it("gives output and exit code", async () => {
    const output = await run("sh", ["-c", "echo out; echo err >&2; exit 3"]);
    expect(output).toEqual({ exitCode: 3, stdout: "out\n", stderr: "err\n" });
  });

  it("ends a program that takes too long", async () => {
    await expect(run("sleep", ["60"], { timeoutSeconds: 0.1 })).rejects.toThrow("did not end within 0.1 s");
  });

  it("says which program is missing", async () => {
    await expect(run("no-such-program", [])).rejects.toThrow("no-such-program cannot be run");
  });
});
