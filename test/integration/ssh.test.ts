import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { Deferred, MentoError, Unavailable } from "../../src/errors.ts";
import { SshShell } from "../../src/shells/ssh.ts";
import type { SshTarget } from "../../src/shells/ssh-connection.ts";
import { beamtime, eventually, facility } from "../support/site.ts";
import { openTcpProxy } from "../support/tcp-proxy.ts";

const limits = { connectTimeout: 2_000, commandTimeout: 10_000, maxChannels: 6 };
const node = beamtime.nodes[0] ?? "";
const pinned = { knownHosts: [], pinned: { [node]: [facility.ssh.hostKeyFingerprint] } };
const shells: SshShell[] = [];
const closing: (() => void)[] = [];

afterEach(() => {
  for (const shell of shells.splice(0)) shell.close();
  for (const close of closing.splice(0)) close();
});

function open(changes: Partial<SshTarget> = {}, changedLimits: Partial<typeof limits> = {}): SshShell {
  const target = {
    name: node,
    address: facility.ssh.address,
    port: facility.ssh.port,
    account: beamtime.account,
    privateKey: readFileSync(beamtime.privateKey),
    privateKeyFile: beamtime.privateKey,
    ...changes,
  };
  const shell = new SshShell(target, pinned, { ...limits, ...changedLimits });
  shells.push(shell);
  return shell;
}

async function openProxy() {
  const proxy = await openTcpProxy(facility.ssh.port, facility.ssh.address);
  closing.push(proxy.close);
  return proxy;
}

async function errorOf(work: Promise<unknown>): Promise<MentoError> {
  try {
    await work;
  } catch (error) {
    if (error instanceof MentoError) return error;
    throw error;
  }
  throw new Error("it succeeded");
}

describe("a shell over SSH", () => {
  it("runs a command as the beamtime's account and gives code, output and errors", async () => {
    const end = await open().run("id -un; echo oops >&2; exit 3");
    expect(end).toMatchObject({ code: 3, signal: null, stderr: "oops\n" });
    expect(end.stdout.toString()).toBe(`${beamtime.account}\n`);
  });

  it("tells a signal from an exit code", async () => {
    expect(await open().run("kill -9 $$")).toMatchObject({ code: null, signal: "SIGKILL" });
  });

  it("runs more commands at a time than sshd has sessions, by letting them wait", async () => {
    const shell = open();
    const ends = await Promise.all(
      Array.from({ length: 30 }, async (_, index) =>
        (await shell.run(`echo ${index}`)).stdout.toString().trim(),
      ),
    );
    expect(ends).toEqual(Array.from({ length: 30 }, (_, index) => String(index)));
  });

  it("gives output of a megabyte whole", async () => {
    const end = await open().run("head -c 1000000 /dev/zero");
    expect(end.stdout.length).toBe(1_000_000);
  });

  it("does not know the outcome of a command that takes too long, and works on with a new connection", async () => {
    const shell = open();
    const error = await errorOf(shell.run("sleep 5", { timeout: 300 }));
    expect(error).toBeInstanceOf(Unavailable);
    expect(error.code).toBe("ssh-lost");
    expect((await shell.run("echo on")).stdout.toString()).toBe("on\n");
  });

  it("does not know the outcome when the connection breaks, and works on with a new one", async () => {
    const proxy = await openProxy();
    const shell = open({ port: proxy.port });
    await shell.run("true");
    const running = errorOf(shell.run("sleep 5"));
    setTimeout(proxy.cut, 200);
    expect((await running).code).toBe("ssh-lost");
    expect((await shell.run("echo on")).stdout.toString()).toBe("on\n");
  });

  it("does not take the silence of a waiting shell that was killed for a command's answer", async () => {
    const shell = open();
    const sshd = (await shell.run("echo $PPID")).stdout.toString().trim();
    await eventually("a shell waits", () => {
      const children = spawnSync("pgrep", ["-P", sshd], { encoding: "utf8" }).stdout.trim();
      return children === "" ? undefined : children;
    });
    spawnSync("pkill", ["-KILL", "-P", sshd]);
    await sleep(300);
    // On a busy machine the news of the kill may come only now: then as a signal, not as an empty answer.
    const { code, stdout } = await shell.run("echo on");
    expect([code, stdout.toString()]).toEqual(code === null ? [null, ""] : [0, "on\n"]);
    expect((await shell.run("echo on")).stdout.toString()).toBe("on\n");
  });

  it("notices a half-open connection on which no channel opens", async () => {
    const proxy = await openProxy();
    const shell = open({ port: proxy.port }, { connectTimeout: 500 });
    await shell.run("true");
    proxy.freeze();
    const error = await errorOf(shell.run("echo never"));
    // Unknown if a shell was waiting, which then was given the script; else a new connection was tried, in vain.
    expect(["ssh-lost", "ssh-unreachable"]).toContain(error.code);
    proxy.thaw();
    expect((await shell.run("echo on")).stdout.toString()).toBe("on\n");
  });

  it("gives up a server that accepts and says nothing", async () => {
    const proxy = await openProxy();
    proxy.freeze();
    const error = await errorOf(open({ port: proxy.port }, { connectTimeout: 500 }).run("true"));
    expect(error.code).toBe("ssh-unreachable");
  });

  it("gives up a server that closes before it answers", async () => {
    const server = createServer((socket) => socket.destroy()).listen(0, "127.0.0.1");
    closing.push(() => server.close());
    await new Promise((resolve) => server.once("listening", resolve));
    const { port } = server.address() as { port: number };
    expect((await errorOf(open({ port }).run("true"))).code).toBe("ssh-unreachable");
  });

  it("says that the node does not accept the account: not now, perhaps later", async () => {
    const error = await errorOf(open({ account: "nobody" }).run("true"));
    expect(error).toBeInstanceOf(Deferred);
    expect(error.code).toBe("ssh-login-refused");
  });
});
