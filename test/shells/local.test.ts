import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { LocalShell } from "../../src/shells/local.ts";

const shell = new LocalShell(20_000);

it.each(["yes", "yes >&2", "trap '' PIPE TERM; while :; do head -c 100000 /dev/zero; done"])(
  "a command whose output has no end is ended, and has no outcome: %s",
  async (script) => {
    await expect(shell.run(`echo $$; ${script}`)).rejects.toMatchObject({
      code: "ssh-lost",
      message: expect.stringContaining("output had no end") as string,
    });
  },
);

it("a command's output of some megabytes is given whole", async () => {
  const { code, stdout } = await shell.run("head -c 10000000 /dev/zero; exit 3");
  expect([code, stdout.length]).toEqual([3, 10_000_000]);
});

it("a command ends though something that it has started holds its outputs", async () => {
  const { code, stdout } = await shell.run("setsid sleep 60 & echo $!; exit 3");
  expect(code).toBe(3);
  process.kill(Number(stdout.toString()), "SIGKILL");
});

it("a command that takes too long is given up, with what it has started", async () => {
  const endless = shell.run("setsid sleep 60 & sleep 60", { timeout: 300 });
  await expect(endless).rejects.toMatchObject({ code: "ssh-lost" });
});

it.each([
  [0o000, ["755", "644"]],
  [0o002, ["755", "644"]],
  [0o027, ["750", "640"]],
  [0o077, ["700", "600"]],
])("what commands make here, with a umask of %o, is for nobody else to write to", async (umask, modes) => {
  const top = mkdtempSync(join(tmpdir(), "mento-umask-"));
  const before = process.umask(umask);
  try {
    const { stdout } = await shell.run(`mkdir ${top}/d; : > ${top}/d/f; stat -c %a ${top}/d ${top}/d/f`);
    expect(stdout.toString().trim().split("\n")).toEqual(modes);
  } finally {
    process.umask(before);
    rmSync(top, { recursive: true });
  }
});
