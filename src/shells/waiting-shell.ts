import { randomBytes } from "node:crypto";
import type { ClientChannel } from "ssh2";
import { framed, newMark, readFramed } from "./script.ts";
import type { CommandEnd } from "./shell.ts";

/** Output of a command beyond this is a mistake, not an answer: 16 MiB. */
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;
/** A login shell that prints more before a command has no end. */
const MAX_GREETING_BYTES = 256 * 1024;

/** What a channel came to: `notReady` if the account's login shell has not come to run a command. */
export type ShellEnd =
  | ({ kind: "ended" } & CommandEnd)
  | { kind: "notReady"; said: string }
  /** It ended before the script was sent. */
  | { kind: "notSent" }
  /** Without a status, or before its end: its outcome is unknown. */
  | { kind: "lost"; how: string };

/**
 * A shell on a channel, which waits for its script. Whatever the account's login shell is, it is a POSIX one; and where
 * that is dash, it starts processes quicker than bash. No script is sent before it has answered: a login shell, or a
 * program in its start files, that reads its input would eat a part of it.
 */
export class WaitingShell {
  /** What the server is asked to run. */
  readonly command: string;
  readonly #word = randomBytes(8).toString("hex");
  readonly #mark = newMark();
  readonly #stdout: Buffer[] = [];
  readonly #stderr: Buffer[] = [];
  #channel: ClientChannel | undefined;
  #onReady: () => void = () => undefined;
  #onEnded: (end: ShellEnd) => void = () => undefined;
  #bytes = 0;
  #isReady = false;
  #isSent = false;
  /** Settles when it can take its script, or cannot any more. */
  readonly ready = new Promise<void>((resolve) => (this.#onReady = resolve));
  /** Settles when the channel has closed. */
  readonly ended = new Promise<ShellEnd>((resolve) => (this.#onEnded = resolve));

  constructor() {
    this.command = `exec /bin/sh -s ${this.#word}`;
  }

  /** Asks what has come up on the channel whether it is there. */
  begin(channel: ClientChannel): this {
    this.#channel = channel;
    channel.on("data", (chunk: Buffer) => this.#take(this.#stdout, chunk));
    channel.stderr.on("data", (chunk: Buffer) => this.#take(this.#stderr, chunk));
    channel.on("close", (code?: number | null, signal?: string) => {
      this.#onEnded(this.#end(code, signal ?? null));
      this.#onReady();
    });
    // The answer differs by quotes from the question, which may come back. Another shell may have been started instead.
    channel.write(`echo mento-'ready'-${this.#word}; test "$1" = ${this.#word} || exec /bin/sh\n`);
    return this;
  }

  run(script: string): void {
    this.#isSent = this.#isReady;
    this.#channel?.end(framed(script, this.#mark));
  }

  get isReady(): boolean {
    return this.#isReady;
  }

  /** `exit` comes when nothing can be run on it any more, `close` perhaps later. */
  once(event: "exit" | "close", listener: () => void): this {
    this.#channel?.once(event, listener);
    return this;
  }

  /** What it has printed so far without being ready. */
  get greeting(): string {
    return [...this.#stdout, ...this.#stderr].join("").trim();
  }

  #take(into: Buffer[], chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#bytes > (this.#isReady ? MAX_OUTPUT_BYTES : MAX_GREETING_BYTES)) {
      this.#channel?.close();
      return;
    }
    into.push(chunk);
    if (this.#isReady || into !== this.#stdout) return;
    if (!Buffer.concat(this.#stdout).includes(`mento-ready-${this.#word}`)) return;
    this.#isReady = true;
    this.#onReady();
  }

  #end(code: number | null | undefined, signal: string | null): ShellEnd {
    // Whoever killed it may have meant another: that says nothing of the next one.
    if (!this.#isReady && signal !== null) return { kind: "notSent" };
    if (!this.#isReady && (code !== undefined || this.#bytes > MAX_GREETING_BYTES)) {
      return { kind: "notReady", said: this.greeting };
    }
    if (this.#bytes > MAX_OUTPUT_BYTES) return { kind: "lost", how: "the command's output had no end" };
    if (code === undefined) return { kind: "lost", how: "the command ended without a status" };
    if (!this.#isSent) return { kind: "notSent" };
    const { output, isWhole } = readFramed(Buffer.concat(this.#stdout), this.#mark);
    const stderr = readFramed(Buffer.concat(this.#stderr), this.#mark).output.toString("utf8");
    if (isWhole || signal !== null) return { kind: "ended", code, signal, stdout: output, stderr };
    return { kind: "lost", how: "the command did not come to its end" };
  }
}
