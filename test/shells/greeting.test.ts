import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { behindGreeting, withoutGreeting } from "../../src/shells/greeting.ts";
import { wholeOrNot } from "../../src/shells/shell.ts";

/** As sshd runs it: the login shell's start files, then a shell that reads the script. */
function run(greeting: string, script: string) {
  const { stdout, stderr } = spawnSync("sh", ["-c", `${greeting}\nexec /bin/sh`], {
    input: behindGreeting(wholeOrNot(script)),
  });
  return [withoutGreeting(stdout), withoutGreeting(stderr)].map(String);
}

describe("what a login shell prints before a command", () => {
  it.each([
    "",
    "echo Welcome; echo 'try --help' >&2",
    "printf '\\033]0;node\\007'; printf 'no line end' >&2",
    "printf 'mento:submitted 1\\n'",
  ])("is no output of the command: %s", (greeting) => {
    expect(run(greeting, "echo out; echo err >&2")).toEqual(["out\n", "err\n"]);
    expect(run(greeting, ":")).toEqual(["", ""]);
  });

  it("leaves the command's bytes as they are", () => {
    expect(run("echo hello", "printf '\\n\\nmento-begins\\n'")[0]).toBe("\n\nmento-begins\n");
  });

  it("is all there is to tell of an account that runs no command", () => {
    expect(withoutGreeting(Buffer.from("This account is not available.\n")).toString()).toContain(
      "not available",
    );
  });
});
