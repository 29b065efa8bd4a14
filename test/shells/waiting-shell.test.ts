import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { framed, newMark, readFramed } from "../../src/shells/script.ts";
import { WaitingShell } from "../../src/shells/waiting-shell.ts";

const folder = mkdtempSync(join(tmpdir(), "mento-waiting-"));
afterAll(() => rmSync(folder, { recursive: true }));

it.each([
  // What its jobs find.
  ["bash", "BASH_FUNC_cat%%=() {  :\n"],
  // It hands no such names on.
  ["dash", ""],
])(
  "functions that an account exports stand in for none of our programs where /bin/sh is %s",
  (shell, left) => {
    // As sh, which is bash on many systems.
    const sh = join(folder, shell, "sh");
    mkdirSync(join(folder, shell));
    symlinkSync(`/bin/${shell}`, sh);
    const names = ["echo", "printf", "test", "[", "eval", "unset", "cat", "mkdir", "export"];
    const functions = names.map((name) => `${name}() { :; }; export -f ${name}\n`).join("");
    const command = new WaitingShell().command.replaceAll("/bin/sh", sh);
    const mark = newMark();
    const script = framed("echo own; cat /dev/null && [ 1 = 2 ] || env | grep '^BASH_FUNC_cat'", mark);
    const { stdout } = spawnSync("bash", ["-c", functions + command], { input: script });
    expect(readFramed(stdout, mark)).toEqual({
      output: Buffer.from(`own\n${left}`),
      isWhole: true,
    });
  },
);
