import { randomBytes } from "node:crypto";
import type { ClientChannel } from "ssh2";
import { MAX_OUTPUT_BYTES, Output, REST_MS } from "./output.ts";
import { endOf, framed, newMark, readFramed } from "./script.ts";
import type { CommandEnd } from "./shell.ts";

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
  readonly #stdout = new Output();
  readonly #stderr = new Output();
  /** Those that have come to their end mark. */
  readonly #whole = new Set<Output>();
  #channel: ClientChannel | undefined;
  #onReady: () => void = () => undefined;
  #onEnded: (end: ShellEnd) => void = () => undefined;
  #bytes = 0;
  #isReady = false;
  #isSent = false;
  #isEnded = false;
  #exit: { code: number | null; signal: string | null } | undefined;
  #rest: NodeJS.Timeout | undefined;
  /** Settles when it can take its script, or cannot any more. */
  readonly ready = new Promise<void>((resolve) => (this.#onReady = resolve));
  /** Settles when nothing more is to come from it. */
  readonly ended = new Promise<ShellEnd>((resolve) => (this.#onEnded = resolve));

  constructor() {
    // Where it is bash, `-p` keeps it from taking functions out of the environment, which stay there for jobs.
    this.command = `exec /bin/sh -c '(set -p) 2> /dev/null && exec /bin/sh -p -s ${this.#word}; exec /bin/sh -s ${this.#word}'`;
  }

  /** Asks what has come up on the channel whether it is there. */
  begin(channel: ClientChannel): this {
    this.#channel = channel;
    channel.on("data", (chunk: Buffer) => this.#take(this.#stdout, chunk));
    channel.stderr.on("data", (chunk: Buffer) => this.#take(this.#stderr, chunk));
    // sshd closes when nobody holds the outputs any more; a program that a start file has left behind may for days.
    channel.on("exit", (code: number | null, signal?: string) => {
      this.#exit = { code, signal: signal ?? null };
      this.#rest = setTimeout(() => this.#conclude(code, signal), REST_MS);
      this.#concludeIfWhole();
    });
    channel.on("close", (code?: number | null, signal?: string) => this.#conclude(code, signal));
    // The answer differs by quotes from the question, which may come back. Another shell may have been started instead.
    channel.write(`echo mento-'ready'-${this.#word}; test "$1" = ${this.#word} || ${this.command}\n`);
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
    return [this.#stdout, this.#stderr]
      .map(({ bytes }) => bytes.toString())
      .join("")
      .trim();
  }

  #take(into: Output, chunk: Buffer): void {
    if (this.#isEnded) return;
    this.#bytes += chunk.length;
    if (this.#bytes > (this.#isReady ? MAX_OUTPUT_BYTES : MAX_GREETING_BYTES)) {
      this.#conclude(undefined);
      return;
    }
    this.#rest?.refresh();
    const awaited = this.#isReady ? `${endOf(this.#mark)}\n` : `mento-ready-${this.#word}`;
    into.add(chunk);
    if (!into.hasJustGot(awaited, chunk)) return;
    if (this.#isReady) {
      this.#whole.add(into);
      this.#concludeIfWhole();
    } else if (into === this.#stdout) {
      this.#isReady = true;
      this.#onReady();
    }
  }

  #concludeIfWhole(): void {
    if (this.#exit !== undefined && this.#whole.size === 2)
      this.#conclude(this.#exit.code, this.#exit.signal);
  }

  #conclude(code: number | null | undefined, signal: string | null = null): void {
    clearTimeout(this.#rest);
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#onEnded(this.#end(code, signal));
    this.#onReady();
    this.#channel?.close();
  }

  #end(code: number | null | undefined, signal: string | null): ShellEnd {
    // Whoever killed it may have meant another: that says nothing of the next one.
    if (!this.#isReady && signal !== null) return { kind: "notSent" };
    if (!this.#isReady && (code !== undefined || this.#bytes > MAX_GREETING_BYTES)) {
      return { kind: "notReady", said: this.greeting };
    }
    if (!this.#isSent) return { kind: "notSent" };
    if (this.#bytes > MAX_OUTPUT_BYTES) return { kind: "lost", how: "the command's output had no end" };
    if (code === undefined) return { kind: "lost", how: "the command ended without a status" };
    const { output, isWhole } = readFramed(this.#stdout.bytes, this.#mark);
    const stderr = readFramed(this.#stderr.bytes, this.#mark).output.toString("utf8");
    if (isWhole || signal !== null) return { kind: "ended", code, signal, stdout: output, stderr };
    return { kind: "lost", how: "the command did not come to its end" };
  }
}
