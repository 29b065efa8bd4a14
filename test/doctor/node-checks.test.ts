import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { brokerTimeOf } from "../../src/broker/broker-time.ts";
import {
  checkClock,
  checkClocks,
  checkHostKeys,
  checkLogins,
  type NodeAnswer,
} from "../../src/doctor/node-checks.ts";
import { MentoError, type ErrorCode } from "../../src/errors.ts";
import type { Shell } from "../../src/shells/shell.ts";

function node(host: string, code?: ErrorCode): NodeAnswer {
  const shell: Shell = { host, account: "bt", run: () => Promise.reject(new Error("not called")) };
  const error = code && new MentoError({ code, message: `${host}: ${code}`, hint: `about ${code}` });
  return { shell, error };
}

describe("the host keys of the reserved nodes", () => {
  it("are good if every node that answers shows the known one", () => {
    const answers = [node("a"), node("b", "ssh-unreachable"), node("c", "ssh-login-refused")];
    expect(checkHostKeys(answers)).toMatchObject({ state: "ok", message: "a, c show the known key" });
  });

  it("fail if one is unknown: the worker would stop at it", () => {
    expect(checkHostKeys([node("a"), node("b", "host-key-unknown")])).toMatchObject({
      ...{ state: "failed", code: "host-key-unknown", message: "b: host-key-unknown" },
    });
  });

  it("are not known if no node answers", () => {
    expect(checkHostKeys([node("a", "ssh-unreachable")])).toMatchObject({ state: "skipped" });
  });
});

describe("the logins", () => {
  it("are good with one node, and name the dead ones", () => {
    const finding = checkLogins([node("a", "ssh-unreachable"), node("b")]);
    expect(finding).toMatchObject({ state: "warning", message: "b takes bt\na: ssh-unreachable" });
    expect("value" in finding && finding.value.host).toBe("b");
  });

  it("fail if no node takes the account, with each one's reason", () => {
    expect(checkLogins([node("a", "ssh-unreachable"), node("b", "ssh-login-refused")])).toMatchObject({
      ...{ state: "failed", message: "a: ssh-unreachable\nb: ssh-login-refused", code: "ssh-unreachable" },
    });
  });

  it("leave wrong host keys to the check before", () => {
    expect(checkLogins([node("a", "host-key-unknown"), node("b", "ssh-unreachable")])).toMatchObject({
      ...{ state: "failed", message: "b: ssh-unreachable" },
    });
  });

  it("are not judged where only host keys are wrong", () => {
    expect(checkLogins([node("a", "host-key-changed")])).toMatchObject({ state: "skipped" });
  });
});

describe("clocks", () => {
  it.each([
    [0.4, "ok", "0.4 s ahead of"],
    [-1.9, "ok", "1.9 s behind"],
    [2.5, "warning", "2.5 s ahead of"],
    [-61, "failed", "61.0 s behind"],
  ])("%d s is %s", (ahead, state, words) => {
    for (const clocks of [
      [{ of: "max-1", ahead }],
      [
        { of: "max-1", ahead: 0.1 },
        { of: "/core", ahead },
      ],
    ]) {
      const finding = checkClocks(clocks);
      expect(finding.state).toBe(state);
      expect(finding.message).toContain(words);
    }
  });

  it.each([
    ["true", "\\d\\.\\d s", "ok"],
    ["date() { command date -d '10 minutes ago' \"$@\"; }", "(59|60)\\d\\.\\d s behind", "failed"],
  ])("are asked for in a shell: of the node and of the file system", async (before, words, state) => {
    const folder = mkdtempSync(join(tmpdir(), "mento-clock-"));
    const run = (script: string) => {
      const { stdout, status } = spawnSync("sh", ["-c", `echo hello\n${before}\n${script}`]);
      return Promise.resolve({ stdout, stderr: "", code: status });
    };
    const finding = await checkClock({ host: "max-1", run } as unknown as Shell, folder);
    // As far as a busy machine lets be told.
    expect(finding).toMatchObject({ state });
    expect(finding.message).toMatch(
      new RegExp(`of max-1 is ${words}.*, that of ${folder}'s file system is \\d\\.`),
    );
    expect(readdirSync(folder)).toEqual([]);
    rmSync(folder, { recursive: true });
  });

  it("of a broker is known if it stamps messages", () => {
    expect(brokerTimeOf({ headers: { timestamp_in_ms: 1_764_400_000_123 }, timestamp: 1 })).toBe(
      1_764_400_000_123,
    );
    expect(brokerTimeOf({ headers: {}, timestamp: 1_764_400_000 })).toBe(1_764_400_000_500);
    expect(brokerTimeOf({ headers: {}, timestamp: undefined })).toBeUndefined();
  });
});
