import { setTimeout as sleep } from "node:timers/promises";
import ssh2, { type Client, type ClientChannel, type ServerHostKeyAlgorithm } from "ssh2";
import { Deferred, MentoError, Unavailable, errorText } from "../errors.ts";
import { ChannelRefused, Channels } from "./channels.ts";
import { checkHostKey, knownKeyTypes, knownOfNode, type HostKeyRules } from "./known-hosts.ts";
import type { CommandEnd } from "./shell.ts";
import { WaitingShell, type ShellEnd } from "./waiting-shell.ts";

export interface SshTarget {
  /** The node's name, as the metadata file has it. */
  name: string;
  address: string;
  port: number;
  account: string;
  privateKey: Buffer;
  /** For messages. */
  privateKeyFile: string;
}

/** RFC 4254, 5.1: connect failed, which is what sshd says beyond its MaxSessions, and resource shortage. */
const REASONS_OF_REFUSAL: unknown[] = [2, 4];

/** sshd closed the connection before the login: MaxStartups, PerSourcePenalties, or it just stops. */
class Dropped extends Unavailable {}

const FIRST_PAUSE_MS = 100;

/** Server and client say goodbye in much less. */
const CLOSE_MS = 1_000;

/**
 * One connection to a node. It keeps one shell waiting ahead of the next command: starting one takes sshd some
 * milliseconds, a third of what a submit costs. Every step has a timeout; when one passes, the connection is given up,
 * because a half-open link answers nothing at all.
 */
export class SshConnection {
  /** The key that the node showed, and that was accepted. */
  readonly hostKey: Buffer;
  readonly #client: Client;
  readonly #target: SshTarget;
  readonly #openTimeout: number;
  readonly #channels: Channels<WaitingShell>;
  /** What is told when the connection breaks: every command and opening under way. */
  readonly #underWay = new Set<(what: string) => void>();
  readonly #onEnded: () => void;
  #spare: Promise<WaitingShell> | undefined;
  /** Commands that have come to it and not ended. */
  #running = 0;
  #isLeft = false;
  #isClosed = false;
  /** A login shell has come to run a command on it. */
  #hasServed = false;

  private constructor(
    client: Client,
    target: SshTarget,
    hostKey: Buffer,
    openTimeout: number,
    onEnded: () => void,
  ) {
    this.hostKey = hostKey;
    this.#client = client;
    this.#target = target;
    this.#openTimeout = openTimeout;
    this.#channels = new Channels(() => this.#openShell(), openTimeout);
    this.#onEnded = onEnded;
    client.on("close", () => this.#end("the connection broke"));
  }

  /**
   * A connection that sshd drops before the login is tried again until the time has passed.
   *
   * @param timeout milliseconds to connect and log in, and for each opening of a channel
   * @param onEnded called when the connection is of no more use
   * @throws Unavailable `ssh-unreachable`
   * @throws Deferred `ssh-login-refused`
   * @throws Misconfigured `host-key-unknown`, `host-key-changed`
   */
  static async open(
    target: SshTarget,
    hostKeys: HostKeyRules,
    timeout: number,
    onEnded: () => void,
  ): Promise<SshConnection> {
    const until = Date.now() + timeout;
    for (let longest = 2 * FIRST_PAUSE_MS; ; longest *= 2) {
      try {
        return await SshConnection.#openOnce(target, hostKeys, timeout, onEnded);
      } catch (error) {
        // At random, so that those who were dropped together do not come back together.
        const pause = longest * (0.5 + Math.random() / 2);
        if (!(error instanceof Dropped) || Date.now() + pause > until) throw error;
        await sleep(pause);
      }
    }
  }

  static async #openOnce(
    target: SshTarget,
    hostKeys: HostKeyRules,
    timeout: number,
    onEnded: () => void,
  ): Promise<SshConnection> {
    const known = await knownOfNode(target, hostKeys);
    return new Promise((resolve, reject) => {
      // A new client for each connection: one that has failed does not connect again.
      const client = new ssh2.Client();
      let refusal: MentoError | undefined;
      let hostKey = Buffer.alloc(0);
      client.on("error", (error: Error & { level?: string }) => {
        reject(refusal ?? connectError(target, error));
        client.destroy();
      });
      client.on("close", () => reject(refusal ?? dropped(target, "without a word")));
      client.on("ready", () => resolve(new SshConnection(client, target, hostKey, timeout, onEnded)));
      try {
        client.connect({
          host: target.address,
          port: target.port,
          username: target.account,
          privateKey: target.privateKey,
          readyTimeout: timeout,
          algorithms: { serverHostKey: hostKeyAlgorithms(knownKeyTypes(target, known, hostKeys)) },
          keepaliveInterval: 10_000,
          keepaliveCountMax: 3,
          hostVerifier: (key: Buffer) => {
            try {
              checkHostKey(key, target, known, hostKeys);
              hostKey = Buffer.from(key);
              return true;
            } catch (error) {
              refusal = error instanceof MentoError ? error : undefined;
              return false;
            }
          },
        });
        // Without it each small packet waits for a delayed ACK: 92 ms a command instead of 7.
        client.setNoDelay(true);
      } catch (cause) {
        reject(cause instanceof MentoError ? cause : unreachable(target, errorText(cause), cause));
      }
    });
  }

  /**
   * Runs a script, and starts the shell for the next one meanwhile.
   *
   * @throws Unavailable `ssh-unreachable` if it was not started: there was no channel for it; `ssh-lost`
   * @throws Deferred `login-shell` if it was not started, and none before it on this connection
   */
  async run(script: string, timeout: number): Promise<CommandEnd> {
    this.#running += 1;
    try {
      return await this.#run(script, timeout);
    } finally {
      this.#running -= 1;
      if (this.#isLeft && this.#running === 0) this.#client.end();
    }
  }

  async #run(script: string, timeout: number): Promise<CommandEnd> {
    const spare = this.#spare;
    this.#spare = undefined;
    const shell = await (spare ?? this.#takeShell());
    this.#keepSpare();
    const notBegun = (what: string) =>
      shell.greeting === "" ? this.#notStarted(what) : runsNothing(this.#target, shell.greeting);
    await this.#within(this.#openTimeout, "no command began", notBegun, (resolve) => {
      void shell.ready.then(() => resolve(shell));
    });
    const lost = (what: string) => this.#lost(what);
    return this.#within(timeout, "a command did not end", lost, (resolve, reject) => {
      shell.run(script);
      void shell.ended.then((end) => this.#conclude(end, resolve, reject));
    });
  }

  #conclude(end: ShellEnd, resolve: (end: CommandEnd) => void, reject: (error: Error) => void): void {
    switch (end.kind) {
      case "ended": {
        const { code, signal, stdout, stderr } = end;
        this.#hasServed = true;
        resolve({ code, signal, stdout, stderr });
        return;
      }
      case "notReady":
        reject(runsNothing(this.#target, end.said || "it ended without a word"));
        this.#leave();
        return;
      case "notSent":
        reject(this.#notStarted("the shell that waited for a command was ended"));
        this.#leave();
        return;
      case "lost":
        reject(this.#lost(end.how));
        this.#leave();
    }
  }

  /** A server that was stopped never closes its side: its socket would keep this process alive. */
  close(): void {
    this.#isClosed = true;
    this.#client.end();
    setTimeout(() => this.#client.destroy(), CLOSE_MS).unref();
  }

  #keepSpare(): void {
    if (this.#spare !== undefined || !this.#channels.hasRoom) return;
    const spare = this.#takeShell();
    this.#spare = spare;
    const forget = () => {
      if (this.#spare === spare) this.#spare = undefined;
    };
    // A waiting shell that was killed must not be used.
    spare.then((shell) => shell.once("exit", forget).once("close", forget), forget);
  }

  async #takeShell(): Promise<WaitingShell> {
    try {
      return await this.#channels.open();
    } catch (error) {
      if (!(error instanceof ChannelRefused)) throw error;
      // None of ours is open: another connection may do better.
      this.#giveUp("it opens no channels");
      throw unreachable(this.#target, `it opens no channels (${error.message})`, error);
    }
  }

  #openShell(): Promise<WaitingShell> {
    const shell = new WaitingShell();
    const notOpened = (what: string, cause?: unknown) => this.#notStarted(what, cause);
    return this.#within(this.#openTimeout, "no channel opened", notOpened, (resolve, reject) => {
      const onChannel = (error: (Error & { reason?: unknown }) | undefined, channel: ClientChannel) => {
        if (error) {
          const isRefused = REASONS_OF_REFUSAL.includes(error.reason);
          reject(
            isRefused
              ? new ChannelRefused(error.message, { cause: error })
              : notOpened(`it opened no channel (${error.message})`, error),
          );
          return;
        }
        channel.on("error", () => undefined);
        resolve(shell.begin(channel));
      };
      try {
        this.#client.exec(shell.command, onChannel);
      } catch (cause) {
        reject(notOpened(errorText(cause), cause));
      }
    });
  }

  /** A step under way: it ends by itself, or with the connection, which is given up when the time has passed. */
  #within<T>(
    milliseconds: number,
    what: string,
    errorOf: (what: string) => MentoError,
    start: (resolve: (value: T) => void, reject: (error: Error) => void) => void,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#giveUp(`${what} in ${milliseconds} ms`), milliseconds);
      const end = () => {
        clearTimeout(timer);
        this.#underWay.delete(onBroken);
      };
      const fail = (error: Error) => {
        end();
        reject(error);
      };
      const onBroken = (why: string) => fail(errorOf(why));
      this.#underWay.add(onBroken);
      start((value) => {
        end();
        resolve(value);
      }, fail);
    });
  }

  /**
   * The next command is for another connection, since this one keeps the login shell that the account had when it was
   * made. Commands that have come to it go on.
   */
  #leave(): void {
    this.#isLeft = true;
    this.#onEnded();
  }

  #giveUp(what: string): void {
    this.#end(what);
    this.#client.destroy();
  }

  #end(what: string): void {
    this.#onEnded();
    for (const onBroken of this.#underWay) onBroken(what);
    this.#channels.end(this.#notStarted(what));
  }

  /**
   * An account that is let in, and whose start files then end, kill or stop what serves it, keeps nobody else from the
   * node. On a connection that has served it, it is the connection's trouble, until a new one has shown the same.
   */
  #notStarted(what: string, cause?: unknown): MentoError {
    const isOurs = this.#hasServed || this.#isClosed;
    return isOurs ? unreachable(this.#target, what, cause) : runsNothing(this.#target, what, cause);
  }

  #lost(what: string): Unavailable {
    return new Unavailable({
      code: "ssh-lost",
      message: `The outcome of a command on ${this.#target.name} is unknown: ${what}.`,
      hint: `Mento connects again and looks what became of it. If that goes on, see the start files of ${this.#target.account}, such as ~/.bashrc.`,
    });
  }
}

/** What a node may show, the types that are known for it first. */
const HOST_KEY_ALGORITHMS: Record<string, ServerHostKeyAlgorithm[]> = {
  "ssh-ed25519": ["ssh-ed25519"],
  "ecdsa-sha2-nistp256": ["ecdsa-sha2-nistp256"],
  "ecdsa-sha2-nistp384": ["ecdsa-sha2-nistp384"],
  "ecdsa-sha2-nistp521": ["ecdsa-sha2-nistp521"],
  "ssh-rsa": ["rsa-sha2-512", "rsa-sha2-256"],
};

function hostKeyAlgorithms(knownTypes: readonly string[]): ServerHostKeyAlgorithm[] {
  const first = knownTypes.flatMap((type) => HOST_KEY_ALGORITHMS[type] ?? []);
  return [...new Set([...first, ...Object.values(HOST_KEY_ALGORITHMS).flat()])];
}

function connectError(target: SshTarget, error: Error & { level?: string; code?: unknown }): MentoError {
  const { account, name, privateKeyFile } = target;
  if (error.message === "Connection lost before handshake" || error.code === "ECONNRESET") {
    return dropped(target, error.message, error);
  }
  if (error.level !== "client-authentication") return unreachable(target, error.message, error);
  return new Deferred({
    code: "ssh-login-refused",
    message: `${name} does not accept ${account} with the key ${privateKeyFile}.`,
    hint: "The beamtime may have ended, or its account is not ready yet; `ssh -i KEY ACCOUNT@NODE` tells more.",
    giveUpAfterSeconds: 24 * 3600,
    cause: error,
  });
}

/** It lets the account in, and that is all. */
function runsNothing({ account, name }: SshTarget, said: string, cause?: unknown): Deferred {
  const words = said.replace(/\s+/g, " ").slice(-200);
  return new Deferred({
    code: "login-shell",
    message: `${name} accepts ${account}, but its login shell runs no command: ${words.replace(/\.$/, "")}.`,
    hint: `Its login shell (getent passwd ${account}) and its start files, such as ~/.bashrc, must let \`ssh ${account}@${name} true\` end well.`,
    giveUpAfterSeconds: 24 * 3600,
    cause,
  });
}

function dropped(target: SshTarget, how: string, cause?: unknown): Dropped {
  const hint =
    "sshd may have too many logins at once (MaxStartups), or take none from here for a while after refused ones " +
    "(PerSourcePenalties, OpenSSH 9.8 and later); it was tried again for some seconds.";
  return new Dropped({
    ...outOfReach(target, `it closed the connection before the login (${how})`, cause),
    hint,
  });
}

function unreachable(target: SshTarget, what: string, cause?: unknown): Unavailable {
  return new Unavailable(outOfReach(target, what, cause));
}

function outOfReach({ name, address, port }: SshTarget, what: string, cause: unknown) {
  return {
    code: "ssh-unreachable",
    message: `The node ${name} (${address}:${port}) cannot be reached over SSH: ${what}.`,
    hint: "Is the node up, and is its address right? ssh.hosts in the configuration maps a name to an address.",
    cause,
  } as const;
}
