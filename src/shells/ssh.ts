import { Unavailable } from "../errors.ts";
import type { HostKeyRules } from "./known-hosts.ts";
import type { CommandEnd, Shell } from "./shell.ts";
import { SshConnection, type SshTarget } from "./ssh-connection.ts";

export interface SshLimits {
  /** Milliseconds to connect and log in, and to open a channel. */
  connectTimeout: number;
  /** Milliseconds for a command, unless it says otherwise. */
  commandTimeout: number;
  /** Commands at the same time. The connection has one channel more; sshd's MaxSessions is 10 by default. */
  maxChannels: number;
}

/**
 * A shell on a node, over one warm connection that is made when first needed, and made again when it broke. Commands
 * beyond `maxChannels` wait for their turn.
 */
export class SshShell implements Shell {
  readonly host: string;
  readonly account: string;
  readonly #target: SshTarget;
  readonly #hostKeys: HostKeyRules;
  readonly #limits: SshLimits;
  #connection: Promise<SshConnection> | undefined;
  #isClosed = false;
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(target: SshTarget, hostKeys: HostKeyRules, limits: SshLimits) {
    this.host = target.name;
    this.account = target.account;
    this.#target = target;
    this.#hostKeys = hostKeys;
    this.#limits = limits;
  }

  async run(script: string, options: { timeout?: number } = {}): Promise<CommandEnd> {
    await this.#acquire();
    try {
      return await this.#runOnce(script, options.timeout ?? this.#limits.commandTimeout);
    } finally {
      this.#running -= 1;
      this.#waiting.shift()?.();
    }
  }

  /** Closes the connection for good. Commands that still run end as `ssh-lost`. */
  close(): void {
    this.#isClosed = true;
    const connection = this.#connection;
    this.#connection = undefined;
    connection?.then(
      (one) => one.close(),
      () => undefined,
    );
  }

  /**
   * Once: a command that got no channel over a connection that others have used was not started. Such a connection is
   * given up, and the command gets a new one.
   */
  async #runOnce(script: string, timeout: number): Promise<CommandEnd> {
    const known = this.#connection;
    const connection = await this.#connected();
    try {
      return await connection.run(script, timeout);
    } catch (error) {
      const notStarted = error instanceof Unavailable && error.code === "ssh-unreachable";
      if (known === undefined || !notStarted) throw error;
    }
    return (await this.#connected()).run(script, timeout);
  }

  #connected(): Promise<SshConnection> {
    if (this.#isClosed) throw closed(this.host);
    return (this.#connection ??= this.#connect());
  }

  async #acquire(): Promise<void> {
    while (this.#running >= this.#limits.maxChannels) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    this.#running += 1;
  }

  #connect(): Promise<SshConnection> {
    const forget = () => {
      if (this.#connection === connection) this.#connection = undefined;
    };
    const { connectTimeout } = this.#limits;
    const connection = SshConnection.open(this.#target, this.#hostKeys, connectTimeout, forget);
    connection.catch(forget);
    return connection;
  }
}

function closed(host: string): Unavailable {
  return new Unavailable({
    code: "ssh-unreachable",
    message: `The connection to ${host} was closed, because the worker stops or the session has changed.`,
    hint: "The message is handled again.",
  });
}
