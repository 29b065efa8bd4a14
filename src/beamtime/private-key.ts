import { renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { accountHere } from "../files/account-here.ts";
import { Deferred, MentoError, errorText } from "../errors.ts";
import { NoAnswer } from "../files/file-queue.ts";
import { isMissing, readIfChanged, type FileRules } from "../files/plain-file.ts";
import type { RuntimeDirectory } from "../shells/runtime-directory.ts";
import { privateKeyIn, type KeyText } from "./key-text.ts";

export interface PrivateKey {
  /** Where the facility has put it. */
  source: string;
  /** Our copy, which only this account can read: ssh(1) takes no other. */
  file: string;
  /** The key alone, without what else the file may hold. */
  key: Buffer;
  /** As OpenSSH names it, e.g. `ssh-ed25519`. */
  type: string;
}

/** Where a session's key is, and the folder that it must not lie outside of. */
export interface KeyLocation {
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
  async read(sessionId: string, place: KeyLocation): Promise<PrivateKey> {
    const { file: source } = place;
    const known = this.#read.get(sessionId);
    try {
      const isKnown = known?.source === source;
      const read = await readIfChanged(source, rulesFor(place), isKnown ? known.version : undefined);
      if (isKnown && read === "unchanged") return known;
      if (read === "unchanged") throw new Error("a key that was never read is unchanged");
      const { key, type } = usable(privateKeyIn(read.bytes, source), source);
      const { mode, version } = read;
      const file = copyInto(this.#runtime.ofProcess, sessionId, key);
      if ((mode & 0o077) !== 0) {
        this.#warn(
          `The private key ${source} can be read by other accounts (mode ${(mode & 0o777).toString(8)}).`,
        );
      }
      const taken = { source, file, key, type, version };
      this.#read.set(sessionId, taken);
      return taken;
    } catch (cause) {
      // What hangs with the file system is not the connection to the nodes: jobs that run go on being watched.
      if (cause instanceof NoAnswer && known?.source === source) return known;
      this.forget(sessionId);
      if (cause instanceof MentoError) throw cause;
      throw new Deferred({
        code: "private-key-unreadable",
        message: `The beamtime's private key ${source} cannot be read: ${errorText(cause)}.`,
        hint: isMissing(cause)
          ? "The metadata file names a key that is not there: have the beamtime started again with --online, or the key put there."
          : `The account that Mento runs as, here ${accountHere()}, must be able to read it.`,
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
  writeFileSync(partial, key, { mode: 0o600, flag: "wx" });
  renameSync(partial, file);
  return file;
}

/** OpenSSH reads no more of a key file (authfile.c, MAX_KEY_FILE_SIZE). */
const LARGEST_KEY_FILE = 1024 * 1024;

/** Users can write to the folder that a session's key is in: a link there must not make us use another key. */
function rulesFor({ within }: KeyLocation): FileRules {
  return { maxBytes: LARGEST_KEY_FILE, links: within === null ? "follow" : "refuse", within };
}

function usable(text: KeyText, source: string): { key: Buffer; type: string } {
  if ("key" in text) return text;
  throw new Deferred({
    code: "private-key-format",
    message: `The private key ${source} cannot be used: ${text.problem}.`,
    hint: text.hint,
    giveUpAfterSeconds: 24 * 3600,
  });
}
