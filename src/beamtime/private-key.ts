import { createPrivateKey } from "node:crypto";
import { renameSync, rmSync, writeFileSync } from "node:fs";
import { readFile, realpath, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import ssh2 from "ssh2";
import { accountHere } from "../account-here.ts";
import { Deferred, MentoError, errorText } from "../errors.ts";
import type { RuntimeDirectory } from "../runtime-directory.ts";

export interface PrivateKey {
  /** Where the facility has put it. */
  source: string;
  /** Our copy, which only this account can read: ssh(1) takes no other. */
  file: string;
  key: Buffer;
  /** As OpenSSH names it, e.g. `ssh-ed25519`. */
  type: string;
}

/** Where a session's key is, and the folder that it must not lie outside of. */
export interface KeyPlace {
  file: string;
  within: string | null;
}

/**
 * Sessions' private keys. Each is read again when its file has changed; the copy in the runtime directory follows it,
 * and goes when the session ends.
 */
export class PrivateKeys {
  readonly #runtime: RuntimeDirectory;
  readonly #warn: (message: string) => void;
  readonly #read = new Map<string, PrivateKey & { version: string }>();

  constructor(runtime: RuntimeDirectory, warn: (message: string) => void) {
    this.#runtime = runtime;
    this.#warn = warn;
  }

  /**
   * @throws Deferred `private-key-unreadable`, `private-key-format`
   * @throws Misconfigured `runtime-directory-unsafe`
   */
  async read(sessionId: string, place: KeyPlace): Promise<PrivateKey> {
    const { file: source } = place;
    const known = this.#read.get(sessionId);
    try {
      const { mtimeMs, size, ino, mode } = await stat(source);
      const version = `${source} ${mtimeMs} ${size} ${ino} ${mode}`;
      if (known?.version === version) return known;
      await requireWithin(place);
      const key = await readFile(source);
      const type = usableType(key, source);
      const file = copyInto(this.#runtime.ofProcess, sessionId, key);
      if ((mode & 0o077) !== 0) {
        this.#warn(
          `The private key ${source} can be read by other accounts (mode ${(mode & 0o777).toString(8)}).`,
        );
      }
      const read = { source, file, key, type, version };
      this.#read.set(sessionId, read);
      return read;
    } catch (cause) {
      this.forget(sessionId);
      if (cause instanceof MentoError) throw cause;
      throw new Deferred({
        code: "private-key-unreadable",
        message: `The beamtime's private key ${source} cannot be read: ${errorText(cause)}.`,
        hint: `The account that Mento runs as, here ${accountHere()}, must be able to read it.`,
        giveUpAfterSeconds: 3600,
        cause,
      });
    }
  }

  /** Removes our copy. */
  forget(sessionId: string): void {
    const known = this.#read.get(sessionId);
    this.#read.delete(sessionId);
    if (known !== undefined) rmSync(known.file, { force: true });
  }
}

function copyInto(folder: string, sessionId: string, key: Buffer): string {
  const file = join(folder, `${encodeURIComponent(sessionId)}.key`);
  const partial = `${file}.partial`;
  rmSync(partial, { force: true });
  // ssh(1), unlike ssh2, reads no key without a last line end, or with DOS line ends ("error in libcrypto").
  const text = `${key.toString("latin1").trimEnd().replaceAll("\r\n", "\n")}\n`;
  writeFileSync(partial, text, { mode: 0o600, flag: "wx", encoding: "latin1" });
  renameSync(partial, file);
  return file;
}

/** Users can write to the folder that the key is in: a link there must not make us use another key. */
async function requireWithin({ file, within }: KeyPlace): Promise<void> {
  if (within === null) return;
  const [real, folder] = await Promise.all([realpath(file), realpath(within)]);
  if (real.startsWith(`${folder}/`)) return;
  throw new Error(`it is a link to ${real}, outside ${dirname(file)}`);
}

/** The key's type; throws if it cannot be used. */
function usableType(key: Buffer, source: string): string {
  const parsed = ssh2.utils.parseKey(key);
  if (!(parsed instanceof Error)) return parsed.type;
  const text = key.toString("latin1");
  const isPkcs8 = /-----BEGIN (ENCRYPTED )?PRIVATE KEY-----/.test(text);
  const isEncrypted = text.includes("ENCRYPTED") || /encrypted/i.test(parsed.message);
  const what = isEncrypted
    ? "it has a passphrase"
    : isPkcs8
      ? 'it is in the format PKCS#8 ("BEGIN PRIVATE KEY")'
      : parsed.message;
  throw new Deferred({
    code: "private-key-format",
    message: `The private key ${source} cannot be used: ${what}.`,
    hint: howToMend(key, source, { isPkcs8, isEncrypted }),
    giveUpAfterSeconds: 24 * 3600,
  });
}

/** As tried with OpenSSH 9.2, which converts RSA and ECDSA keys from PKCS#8, but no ed25519 key. */
function howToMend(key: Buffer, source: string, is: { isPkcs8: boolean; isEncrypted: boolean }): string {
  if (is.isPkcs8 && pkcs8Type(key) === "ed25519") {
    return `OpenSSH cannot convert it; make a new one: ssh-keygen -t ed25519 -N "" -f ${source}`;
  }
  if (is.isPkcs8) return `Convert it: ssh-keygen -p -N "" -f ${source}`;
  return is.isEncrypted
    ? `Take the passphrase off: ssh-keygen -p -N "" -f ${source}`
    : "It must be a private key in OpenSSH's format or in PEM: ed25519, ECDSA or RSA.";
}

function pkcs8Type(key: Buffer): string | undefined {
  try {
    return createPrivateKey(key).asymmetricKeyType;
  } catch {
    return undefined;
  }
}
