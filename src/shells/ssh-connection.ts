import ssh2, { type Client, type ClientChannel, type ServerHostKeyAlgorithm } from "ssh2";
import { Deferred, MentoError, Unavailable, errorText } from "../errors.ts";
import { checkHostKey, knownKeyTypes, type HostKeyRules } from "./known-hosts.ts";
import type { CommandEnd } from "./shell.ts";

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

/** Output of a command beyond this is a mistake, not an answer: 16 MiB. */
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

/**
 * A shell that reads its script from its input: it can be started before there is one. Whatever the account's login
 * shell is, it is a POSIX one; and where that is dash, it starts processes quicker than bash.
 */
const WAITING_SHELL = "exec /bin/sh";

/** A script whose end was cut off with the connection must not run in part: as a function, it runs whole or not. */
function wholeOrNot(script: string): string {
  return `mento() {\n${script}\n}\nmento\n`;
}

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
  /** What is told when the connection breaks: every command and opening under way. */
  readonly #underWay = new Set<(error: Unavailable) => void>();
  readonly #onEnded: () => void;
  #spare: Promise<ClientChannel> | undefined;

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
    this.#onEnded = onEnded;
    client.on("close", () => this.#end("the connection broke"));
  }

  /**
   * @param timeout milliseconds to connect and log in, and for each opening of a channel
   * @param onEnded called when the connection is of no more use
   * @throws Unavailable `ssh-unreachable`
   * @throws Deferred `ssh-login-refused`
   * @throws Misconfigured `host-key-unknown`, `host-key-changed`
   */
  static open(
    target: SshTarget,
    hostKeys: HostKeyRules,
    timeout: number,
    onEnded: () => void,
  ): Promise<SshConnection> {
    return new Promise((resolve, reject) => {
      // A new client for each connection: one that has failed does not connect again.
      const client = new ssh2.Client();
      let refusal: MentoError | undefined;
      let hostKey = Buffer.alloc(0);
      client.on("error", (error: Error & { level?: string }) => {
        reject(refusal ?? connectError(target, error));
        client.destroy();
      });
      // sshd may close before it answers (MaxStartups): then there is no `error`.
      client.on("close", () => reject(refusal ?? unreachable(target, "it closed the connection")));
      client.on("ready", () => resolve(new SshConnection(client, target, hostKey, timeout, onEnded)));
      try {
        client.connect({
          host: target.address,
          port: target.port,
          username: target.account,
          privateKey: target.privateKey,
          readyTimeout: timeout,
          algorithms: { serverHostKey: hostKeyAlgorithms(knownKeyTypes(target, hostKeys)) },
          keepaliveInterval: 10_000,
          keepaliveCountMax: 3,
          hostVerifier: (key: Buffer) => {
            try {
              checkHostKey(key, target, hostKeys);
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
   * @throws Unavailable `ssh-unreachable`, `ssh-lost`
   */
  async run(script: string, timeout: number): Promise<CommandEnd> {
    const spare = this.#spare;
    this.#spare = undefined;
    const channel = await (spare ?? this.#openChannel());
    this.#keepSpare();
    return this.#within(timeout, "a command did not end", (resolve, reject) => {
      collect(channel, (end) => {
        if (end === undefined) reject(this.#lost("the command ended without a status"));
        else resolve(end);
      });
      channel.end(wholeOrNot(script));
    });
  }

  close(): void {
    this.#client.end();
  }

  #keepSpare(): void {
    if (this.#spare !== undefined) return;
    const spare = this.#openChannel();
    this.#spare = spare;
    const forget = () => {
      if (this.#spare === spare) this.#spare = undefined;
    };
    // `close` waits until somebody reads; `exit` tells at once of a waiting shell that was killed, and must not be used.
    spare.then((channel) => channel.on("exit", forget).on("close", forget), forget);
  }

  #openChannel(): Promise<ClientChannel> {
    return this.#within(this.#openTimeout, "no channel opened", (resolve, reject) => {
      const onChannel = (error: Error | undefined, channel: ClientChannel) => {
        if (error) {
          reject(unreachable(this.#target, `it opened no channel (${error.message})`, error));
          return;
        }
        channel.on("error", () => undefined);
        resolve(channel);
      };
      try {
        this.#client.exec(WAITING_SHELL, onChannel);
      } catch (cause) {
        reject(unreachable(this.#target, errorText(cause), cause));
      }
    });
  }

  /** A step under way: it ends by itself, or with the connection, which is given up when the time has passed. */
  #within<T>(
    milliseconds: number,
    what: string,
    start: (resolve: (value: T) => void, reject: (error: Unavailable) => void) => void,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      const giveUp = () => {
        this.#end(`${what} in ${milliseconds} ms`);
        this.#client.destroy();
      };
      const timer = setTimeout(giveUp, milliseconds);
      const fail = (error: Unavailable) => {
        clearTimeout(timer);
        this.#underWay.delete(fail);
        reject(error);
      };
      const succeed = (value: T) => {
        clearTimeout(timer);
        this.#underWay.delete(fail);
        resolve(value);
      };
      this.#underWay.add(fail);
      start(succeed, fail);
    });
  }

  #end(what: string): void {
    this.#onEnded();
    for (const fail of this.#underWay) fail(this.#lost(what));
  }

  #lost(what: string): Unavailable {
    return new Unavailable({
      code: "ssh-lost",
      message: `The outcome of a command on ${this.#target.name} is unknown: ${what}.`,
      hint: "Mento connects again and looks what became of it.",
    });
  }
}

/** Calls back once, when the channel has closed; without a status if the connection broke. */
function collect(channel: ClientChannel, done: (end: CommandEnd | undefined) => void): void {
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  let bytes = 0;
  const take = (into: Buffer[]) => (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= MAX_OUTPUT_BYTES) into.push(chunk);
    else channel.close();
  };
  channel.on("data", take(stdout));
  channel.stderr.on("data", take(stderr));
  channel.on("close", (code?: number | null, signal?: string) => {
    if (code === undefined || bytes > MAX_OUTPUT_BYTES) {
      done(undefined);
      return;
    }
    done({
      code,
      signal: signal ?? null,
      stdout: Buffer.concat(stdout),
      stderr: Buffer.concat(stderr).toString("utf8"),
    });
  });
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

function connectError(target: SshTarget, error: Error & { level?: string }): MentoError {
  const { account, name, privateKeyFile } = target;
  if (error.level !== "client-authentication") return unreachable(target, error.message, error);
  return new Deferred({
    code: "ssh-login-refused",
    message: `${name} does not accept ${account} with the key ${privateKeyFile}.`,
    hint: "The beamtime may have ended, or its account is not ready yet; `ssh -i KEY ACCOUNT@NODE` tells more.",
    giveUpAfterSeconds: 600,
    cause: error,
  });
}

function unreachable({ name, address, port }: SshTarget, what: string, cause?: unknown): Unavailable {
  return new Unavailable({
    code: "ssh-unreachable",
    message: `The node ${name} (${address}:${port}) cannot be reached over SSH: ${what}.`,
    hint: "Is the node up, and is its address right? ssh.hosts in the configuration maps a name to an address.",
    cause,
  });
}
