import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import {
  ASAPO_READ_TOKEN_PATH,
  ASAPO_TOKEN_PATH,
  PRIVATE_KEY_PATH,
  PUBLIC_KEY_PATH,
} from "./metadata-file.ts";
import { runChecked } from "./processes.ts";
import { type Account, type OpenSession, placesOf, readText, writeFileAtomically } from "./state.ts";

/** A session's key pair and tokens: `<dir>/secrets/<id>/`, from where they are copied into each `shared/`. */
type Owner = Pick<OpenSession, "id" | "account" | "asapo">;

/** Makes what the session is to have and does not have yet: a start after a pre-start keeps the key. */
export async function makeSecrets(dir: string, { id, account, asapo }: Owner): Promise<void> {
  mkdirSync(secretsOf(dir, id), { recursive: true, mode: 0o700 });
  const privateKey = secret(dir, id, PRIVATE_KEY_PATH);
  if (account !== null && !existsSync(privateKey)) {
    const comment = `${account.name}@mento-facility`;
    await runChecked("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", privateKey]);
  }
  for (const path of asapo ? [ASAPO_TOKEN_PATH, ASAPO_READ_TOKEN_PATH] : []) {
    const token = secret(dir, id, path);
    if (!existsSync(token)) writeFileSync(token, `${randomBytes(32).toString("hex")}\n`, { mode: 0o600 });
  }
}

/**
 * Copies them below `root`: the private key for the workers' account, the tokens for the session's.
 *
 * @param workerUid undefined: the present user's
 */
export function placeSecrets(
  dir: string,
  { id, account, asapo }: Owner,
  root: string,
  workerUid: number | undefined,
): void {
  const place = (path: string, mode: number, owner?: { uid: number; gid?: number }) => {
    writeFileAtomically(join(root, path), readText(secret(dir, id, path)), mode, owner);
  };
  if (account !== null) {
    place(PRIVATE_KEY_PATH, 0o600, workerUid === undefined ? undefined : { uid: workerUid });
    place(PUBLIC_KEY_PATH, 0o644);
  }
  for (const path of asapo ? [ASAPO_TOKEN_PATH, ASAPO_READ_TOKEN_PATH] : []) {
    place(path, 0o600, account?.own === true ? account : undefined);
  }
}

export function removeSecrets(dir: string, id: string): void {
  rmSync(secretsOf(dir, id), { recursive: true, force: true });
}

/** Lets the session's key in. Without root, all sessions have the present user's account, and so one file. */
export function allowLogin(dir: string, { id, account }: Owner): void {
  if (account === null) return;
  const key = readText(secret(dir, id, PUBLIC_KEY_PATH)).trim();
  const others = loginsOf(dir, account).filter((other) => other !== key);
  writeLogins(dir, account, [...others, key]);
}

export function forbidLogin(dir: string, { id, account }: Owner): void {
  if (account === null || !existsSync(secret(dir, id, PUBLIC_KEY_PATH))) return;
  const key = readText(secret(dir, id, PUBLIC_KEY_PATH)).trim();
  const others = loginsOf(dir, account).filter((other) => other !== key);
  writeLogins(dir, account, others);
}

function loginsOf(dir: string, account: Account): string[] {
  const file = authorizedKeysOf(dir, account);
  return existsSync(file) ? readText(file).trim().split("\n") : [];
}

function writeLogins(dir: string, account: Account, keys: readonly string[]): void {
  const file = authorizedKeysOf(dir, account);
  if (keys.length === 0) rmSync(file, { force: true });
  else writeFileAtomically(file, `${keys.join("\n")}\n`, 0o644);
}

/** sshd looks for an account's keys here. */
function authorizedKeysOf(dir: string, account: Account): string {
  return join(placesOf(dir).authorizedKeys, account.name);
}

function secret(dir: string, id: string, path: string): string {
  return join(secretsOf(dir, id), basename(path));
}

function secretsOf(dir: string, id: string): string {
  return join(placesOf(dir).secrets, id);
}
