import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { SshShell } from "../../src/shells/ssh.ts";
import { startSshd } from "../support/sshd.ts";

const limits = { connectTimeout: 3_000, commandTimeout: 20_000, maxChannels: 6 };

let home: string;
let sshd: Awaited<ReturnType<typeof startSshd>>;
let shell: SshShell;

beforeEach(async () => {
  home = mkdtempSync(join(tmpdir(), "mento-home-"));
  // The account's shell is bash, which reads ~/.bashrc for each command, as long as SHLVL is not set.
  sshd = await startSshd([`SetEnv HOME=${home}`]);
  shell = new SshShell(sshd.target, sshd.hostKeys, limits);
});
afterEach(async () => {
  shell.close();
  await sshd.stop();
  for (const pid of read("pids").split("\n").filter(Boolean)) kill(Number(pid));
  rmSync(home, { recursive: true });
});

function read(name: string): string {
  try {
    return readFileSync(join(home, name), "utf8");
  } catch {
    return "";
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended.
  }
}

/** `.bashrc`; what it leaves behind is ended with the test. */
function startFile(text: string): void {
  writeFileSync(join(home, ".bashrc"), text.replaceAll("NOTE $!", 'echo $! >> "$HOME/pids"'));
}

async function outputs(script: string) {
  const { code, signal, stdout, stderr } = await shell.run(script);
  return { code, signal, stdout: stdout.toString(), stderr };
}

describe("a command ends, with all that it has printed, though a start file", () => {
  it.each([
    ["leaves a program that holds both outputs", "sleep 1000 & NOTE $!"],
    ["leaves a program that holds stdout", "sleep 1000 2> /dev/null & NOTE $!"],
    [
      "leaves a program that holds all, and takes no signals",
      "(trap '' HUP TERM PIPE; sleep 1000) & NOTE $!",
    ],
    ["sends errors to stdout", "exec 2>&1"],
    ["sets options and traps", "set -aefuxC; trap 'echo bye' EXIT ERR DEBUG; trap '' TERM HUP PIPE"],
    [
      "has functions named like programs",
      "printf() { :; }; echo() { :; }; mkdir() { :; }; export -f printf echo mkdir",
    ],
  ])("%s", async (_, start) => {
    startFile(start);
    const large = await shell.run("head -c 3000000 /dev/zero; exit 3");
    expect([large.code, large.stdout.length]).toEqual([3, 3_000_000]);
    const numbers = Array.from({ length: 30 }, (_, index) => String(index));
    const ends = await Promise.all(numbers.map((one) => outputs(`echo ${one}; exit 1`)));
    expect(ends.map(({ stdout }) => stdout)).toEqual(numbers.map((one) => `${one}\n`));
    for (const one of numbers) expect((await outputs(`echo ${one}`)).stdout).toBe(`${one}\n`);
    expect(await outputs("kill -9 $$")).toMatchObject({ code: null, signal: "SIGKILL" });
  });

  it("leaves a program that prints on", async () => {
    startFile("while sleep 0.05; do echo more; done & NOTE $!");
    for (let count = 0; count < 10; count++) {
      const { code, stdout } = await outputs("echo own; exit 3");
      expect([code, stdout.replaceAll("more\n", "")]).toEqual([3, "own\n"]);
    }
  });
});

describe("the login shell is named when no command begins, for a start file", () => {
  it.each([
    ["kills the connection's server", "kill -9 $PPID; sleep 1"],
    ["stops the connection's server", "kill -STOP $PPID; echo $PPID >> $HOME/pids; sleep 1"],
    ["kills itself", "kill -9 $$"],
    ["ends, and leaves a program that holds the outputs", "sleep 1000 & NOTE $!\nexit 3"],
    ["becomes a program that says nothing", "echo $$ >> $HOME/pids; exec sleep 1000"],
    ["becomes a program that says what it is told", "exec cat"],
    ["closes its input", "exec < /dev/null"],
    ["sends its output elsewhere", "exec > /dev/null"],
    ["reads its input", "cat > /dev/null"],
    ["prints without end", "yes"],
    [
      "prints without end, bit by bit, whoever listens",
      "trap '' PIPE HUP; echo $$ >> $HOME/pids\nwhile :; do printf x; done",
    ],
    ["leaves a program that prints without end", "yes & NOTE $!\nsleep 1"],
    ["runs nothing any more", "set -n"],
  ])("%s", async (_, start) => {
    startFile(start);
    await expect(shell.run("true")).rejects.toMatchObject({
      code: "login-shell",
      hint: expect.stringContaining(".bashrc") as string,
    });
    startFile("");
    expect((await outputs("echo on")).stdout).toBe("on\n");
  });
});

it("a start file that answers for the shell, and ends, is the account's own affair", async () => {
  startFile(
    `case "$BASH_EXECUTION_STRING" in *"/bin/sh -s "*) w=\${BASH_EXECUTION_STRING##*-s }; echo "mento-ready-\${w%?}"; exit 0 ;; esac`,
  );
  for (let count = 0; count < 5; count++) {
    const error: unknown = await shell.run("true").catch((reason: unknown) => reason);
    expect(["login-shell", "ssh-lost"]).toContain((error as { code?: string }).code);
  }
});

it("commands beside others that did not come to their end are not cut off", async () => {
  for (let round = 0; round < 10; round++) {
    const codes = Array.from({ length: 24 }, async (_, index) =>
      shell.run(index % 2 === 0 ? "exec true" : "echo on").then(
        ({ stdout }) => stdout.toString(),
        (error: unknown) => String(error),
      ),
    );
    const expected = [
      "Unavailable: The outcome of a command on node is unknown: the command did not come to its end.",
      "on\n",
    ];
    expect(new Set(await Promise.all(codes))).toEqual(new Set(expected));
  }
});
