import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { TcpProxy } from "../../src/facility/tcp-proxy.ts";
import { SshShell } from "../../src/shells/ssh.ts";
import { codeOf } from "../support/code-of.ts";
import { startSshd } from "../support/sshd.ts";

const limits = { connectTimeout: 5_000, commandTimeout: 20_000, maxChannels: 6 };
const closing: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function startWith(...settings: string[]) {
  const sshd = await startSshd(settings);
  closing.push(sshd.stop);
  const open = (port = sshd.target.port, changed: Partial<typeof limits> = {}) => {
    const shell = new SshShell({ ...sshd.target, port }, sshd.hostKeys, { ...limits, ...changed });
    closing.push(() => shell.close());
    return shell;
  };
  return { sshd, open };
}

/** What each of so many commands printed, all asked for at once; some are long, some short. */
async function runMany(shell: SshShell, count: number): Promise<string[]> {
  const run = async (index: number) =>
    (await shell.run(`sleep 0.${index % 3}; echo ${index}`)).stdout.toString().trim();
  return Promise.all(Array.from({ length: count }, (_, index) => run(index)));
}

const numbers = (count: number) => Array.from({ length: count }, (_, index) => String(index));

it("a login shell that greets is not taken for the command", async () => {
  const { open } = await startWith("ForceCommand printf Welcome; echo 'try --help' >&2; exec /bin/sh");
  const shell = open();
  for (const number of numbers(3)) {
    const { stdout, stderr } = await shell.run(`echo ${number}; echo no >&2`);
    expect([stdout.toString(), stderr]).toEqual([`${number}\n`, "no\n"]);
  }
});

describe("an sshd that has few sessions", () => {
  it.each([1, 2, 3])("MaxSessions %i: more commands at once wait, and all are run", async (maxSessions) => {
    const { open } = await startWith(`MaxSessions ${maxSessions}`);
    const shell = open();
    expect(await runMany(shell, 20)).toEqual(numbers(20));
    // One after the other: a shell that waits ahead is not in their way.
    for (const number of numbers(5)) {
      expect((await shell.run(`echo ${number}`)).stdout.toString()).toBe(`${number}\n`);
    }
    expect(await runMany(shell, 20)).toEqual(numbers(20));
  });

  it("is asked for more than it has only now and then", async () => {
    const { sshd, open } = await startWith("MaxSessions 2", "LogLevel DEBUG1");
    const shell = open();
    await runMany(shell, 10);
    const refused = () => sshd.log().split("no more sessions").length - 1;
    const before = refused();
    expect(before).toBeGreaterThan(0);
    await Promise.all(Array.from({ length: 6 }, () => shell.run("sleep 0.3")));
    // A session counts until sshd has reaped it: some are refused in that moment.
    expect(refused() - before).toBeLessThan(30);
  });

  it("has none at all: the node counts as out of reach, after a while", async () => {
    const { open } = await startWith("MaxSessions 0");
    expect(await codeOf(open(undefined, { connectTimeout: 500 }).run("true"))).toBe("ssh-unreachable");
  });
});

describe("an sshd that has too many logins at once", () => {
  it("drops connections (MaxStartups): they are tried again, and all get in", async () => {
    const { sshd, open } = await startWith("MaxStartups 1:100:1");
    const shells = Array.from({ length: 5 }, () => open(undefined, { connectTimeout: 30_000 }));
    const ends = await Promise.all(shells.map((shell) => shell.run("echo in")));
    expect(ends.map(({ stdout }) => stdout.toString())).toEqual(shells.map(() => "in\n"));
    // OpenSSH 9 writes MaxStartups, OpenSSH 10 Maxstartups.
    expect(sshd.log()).toMatch(/drop connection .* MaxStartups/i);
  });
});

describe("a half-open connection", () => {
  it("on which no channel opens is replaced, and the command runs over the new one, once", async () => {
    const { sshd, open } = await startWith("MaxSessions 1");
    const proxy = await TcpProxy.to(sshd.target.port);
    closing.push(() => proxy.close());
    const shell = open(proxy.port, { connectTimeout: 1_000 });
    await shell.run("true");
    proxy.set("half-open");
    const running = shell.run("echo on");
    // No channel opens in the first second; the next connection is just being made when the wire is good again.
    await sleep(1_300);
    proxy.set("pass");
    expect((await running).stdout.toString()).toBe("on\n");
  });

  it("with a command under way: its outcome is unknown after its time, and the next runs over a new one", async () => {
    const { sshd, open } = await startWith();
    const proxy = await TcpProxy.to(sshd.target.port);
    closing.push(() => proxy.close());
    const shell = open(proxy.port);
    await shell.run("true");
    const underWay = codeOf(shell.run("sleep 1; echo lost", { timeout: 2_000 }));
    await sleep(300);
    proxy.set("half-open");
    expect(await underWay).toBe("ssh-lost");
    const next = shell.run("echo on");
    proxy.set("pass");
    expect((await next).stdout.toString()).toBe("on\n");
  });
});
