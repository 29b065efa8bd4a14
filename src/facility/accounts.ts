import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chownSync, mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { userInfo } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { MentoError, Misconfigured } from "../errors.ts";
import { findProgram } from "./packages.ts";
import { run } from "./processes.ts";
import { type Account, makeDirectory, placesOf } from "./state.ts";

/** The account that a session's jobs run as: one of its own if we may make one, else the present user. */
export async function makeAccount(dir: string, id: string): Promise<Account> {
  const { username, uid, gid } = userInfo();
  if (uid !== 0) return { name: username, uid, gid, own: false };
  return restoreAccount(dir, { name: accountName(dir, id), uid: -1, gid: -1, own: true });
}

/** Different in each facility's directory, for two facilities may have the same beamtime open. */
function accountName(dir: string, id: string): string {
  const hash = createHash("sha256").update(dir).digest("hex").slice(0, 4);
  return `bt${id.toLowerCase()}${hash}`;
}

/** Makes an account of ours, with the same number as before if that is still free. */
export async function restoreAccount(dir: string, account: Account): Promise<Account> {
  if (!account.own) return account;
  const present = findAccount(account.name);
  if (present !== undefined) {
    if (present.comment !== commentOf(dir)) throw nameTaken(account.name);
    return { ...account, uid: present.uid, gid: present.gid };
  }
  const home = join(placesOf(dir).homes, account.name);
  makeDirectory(placesOf(dir).homes);
  const sameNumber = account.uid > 0 && !isNumberTaken(account.uid) ? ["--uid", String(account.uid)] : [];
  const shell = findProgram("/bin/bash") ?? "/bin/sh";
  await changeAccounts("useradd", [
    ...["--no-create-home", "--home-dir", home, "--shell", shell],
    ...["--user-group", "--comment", commentOf(dir), ...sameNumber, account.name],
  ]);
  // Without a password field sshd takes the account for locked, and refuses its key too.
  await changeAccounts("usermod", ["-p", "*", account.name]);
  const made = findAccount(account.name);
  if (made === undefined) throw new Error(`useradd did not make ${account.name}.`);
  mkdirSync(home, { recursive: true, mode: 0o700 });
  chownSync(home, made.uid, made.gid);
  return { ...account, uid: made.uid, gid: made.gid };
}

/**
 * Removes an account, but only if this facility made it, and when none of its processes is left: the next account gets its
 * number.
 */
export async function removeAccount(dir: string, name: string): Promise<void> {
  const account = findAccount(name);
  if (account?.comment !== commentOf(dir)) return;
  await endAllOf(account);
  await changeAccounts("userdel", [name]);
}

const END_ATTEMPTS = 50;

/** The kernel ends all processes of an account at once, however fast they start others: only from that account itself. */
async function endAllOf({ uid, gid }: { uid: number; gid: number }): Promise<void> {
  for (let attempt = 0; hasProcesses(uid); attempt++) {
    if (attempt === END_ATTEMPTS) throw stillThere(uid);
    spawnSync("/bin/sh", ["-c", "kill -KILL -1"], { uid, gid, cwd: "/" });
    await sleep(100);
  }
}

function hasProcesses(uid: number): boolean {
  return readdirSync("/proc").some((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    const status = readProc(pid);
    // What has ended, and is only not taken note of yet, does nothing any more.
    return !/^State:\s+[ZX]/m.test(status) && new RegExp(`^Uid:.*\\b${uid}\\b`, "m").test(status);
  });
}

function readProc(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/status`, "utf8");
  } catch {
    // It has ended.
    return "";
  }
}

function stillThere(uid: number): MentoError {
  return new MentoError({
    code: "system-error",
    message: `Processes of the account with the number ${uid} cannot be ended.`,
    hint: `See them with \`ps -U ${uid}\`; end them, and call this again: the account stays until then.`,
  });
}

/** All accounts that this facility made. */
export function ownAccounts(dir: string): { name: string; uid: number }[] {
  return allAccounts().filter(({ comment }) => comment === commentOf(dir));
}

/** Throws if the accounts of beamtimes could not reach the directory. */
export function requireTraversable(dir: string): void {
  for (let path = dir; ; path = dirname(path)) {
    if ((statSync(path).mode & 0o001) === 0) {
      throw new Misconfigured({
        code: "wrong-configuration",
        message: `The accounts of beamtimes cannot reach ${dir}, since others may not enter ${path}.`,
        hint: `Choose another directory, for example below /tmp or /srv, or run: chmod o+x ${path}`,
      });
    }
    if (path === "/") return;
  }
}

function commentOf(dir: string): string {
  return `mento facility ${dir}`;
}

/** Several programs change the accounts at the same time, and those that meet the lock simply give up. */
async function changeAccounts(program: string, args: readonly string[]): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const output = await run(program, args);
    if (output.exitCode === 0) return;
    const mayPass = /lock|currently used/.test(output.stderr);
    if (!mayPass || attempt === 30) {
      throw new Error(`${program} ${args.join(" ")} failed: ${output.stderr.trim()}`);
    }
    await sleep(200);
  }
}

function allAccounts(): { name: string; uid: number; gid: number; comment: string }[] {
  const lines = readFileSync("/etc/passwd", "utf8").split("\n");
  return lines.map((line) => {
    const [name = "", , uid, gid, comment = ""] = line.split(":");
    return { name, uid: Number(uid), gid: Number(gid), comment };
  });
}

function findAccount(name: string) {
  return allAccounts().find((account) => account.name === name);
}

function isNumberTaken(uid: number): boolean {
  return allAccounts().some((account) => account.uid === uid);
}

function nameTaken(name: string): Misconfigured {
  return new Misconfigured({
    code: "facility-beamtime",
    message: `The Unix account ${name} exists, and this facility did not make it.`,
    hint: "Take another beamtime id.",
  });
}
