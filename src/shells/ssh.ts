import ssh2, { type Client, type ClientChannel } from "ssh2";
import { Deferred, MentoError, Misconfigured, Unavailable, errorText } from "../errors.ts";
import { checkHostKey, type HostKeyRules } from "./known-hosts.ts";
import type { CommandEnd, RunOptions, Shell } from "./shell.ts";

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

export interface SshLimits {
  /** Milliseconds to connect, log in and open a channel. */
  connectTimeout: number;
  /** Milliseconds for a command, unless it says otherwise. */
  commandTimeout: number;
  /** Commands at the same time on one connection; sshd's MaxSessions is 10 by default. */
  maxChannels: number;
}

/** Output of a command beyond this is a mistake, not an answer: 16 MiB. */
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

/**
 * One warm connection to a node, made when first needed and made again when it broke. Commands beyond `maxChannels`
 * wait for their turn. Every step has a timeout; a connection on which one passes is given up, because a half-open
 * link answers nothing at all.
 */
export class SshShell implements Shell {
  readonly host: string;
  readonly account: string;
  readonly #target: SshTarget;
  readonly #hostKeys: HostKeyRules;
  readonly #limits: SshLimits;
  #connection: Promise<Client> | undefined;
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(target: SshTarget, hostKeys: HostKeyRules, limits: SshLimits) {
    this.host = target.name;
    this.account = target.account;
    this.#target = target;
    this.#hostKeys = hostKeys;
    this.#limits = limits;
  }

  async run(command: string, options: RunOptions = {}): Promise<CommandEnd> {
    await this.#takeTurn();
    try {
      const client = await this.#connected();
      return await this.#execute(client, command, options);
    } finally {
      this.#running -= 1;
      this.#waiting.shift()?.();
    }
  }

  /** Closes the connection. Commands that still run end as `ssh-lost`. */
  close(): void {
    const connection = this.#connection;
    this.#connection = undefined;
    connection?.then(
      (client) => client.end(),
      () => undefined,
    );
  }

  async #takeTurn(): Promise<void> {
    while (this.#running >= this.#limits.maxChannels) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    this.#running += 1;
  }

  #connected(): Promise<Client> {
    this.#connection ??= this.#connect();
    return this.#connection;
  }

  #forget(connection: Promise<Client> | undefined): void {
    if (this.#connection === connection) this.#connection = undefined;
  }

  #connect(): Promise<Client> {
    const target = this.#target;
    const connection = new Promise<Client>((resolve, reject) => {
      // A new client for each connection: one that has failed does not connect again.
      const client = new ssh2.Client();
      let refusal: MentoError | undefined;
      client.on("error", (error: Error & { level?: string }) => {
        reject(refusal ?? this.#connectError(error));
        client.destroy();
      });
      // sshd may close before it answers (MaxStartups): then there is no `error`.
      client.on("close", () => {
        this.#forget(connection);
        reject(refusal ?? this.#unreachable("it closed the connection"));
      });
      client.on("ready", () => resolve(client));
      try {
        client.connect({
          host: target.address,
          port: target.port,
          username: target.account,
          privateKey: target.privateKey,
          readyTimeout: this.#limits.connectTimeout,
          keepaliveInterval: 10_000,
          keepaliveCountMax: 3,
          hostVerifier: (key: Buffer) => {
            try {
              checkHostKey(key, target, this.#hostKeys);
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
        reject(
          new Misconfigured({
            code: "private-key-format",
            message: `The private key ${target.privateKeyFile} cannot be used: ${errorText(cause)}.`,
            hint: `Use an OpenSSH or PEM key without a passphrase; "ssh-keygen -p -f ${target.privateKeyFile}" converts.`,
            cause,
          }),
        );
      }
    });
    connection.catch(() => {
      this.#forget(connection);
    });
    return connection;
  }

  #connectError(error: Error & { level?: string }): MentoError {
    const { account, name, privateKeyFile } = this.#target;
    if (error.level !== "client-authentication") return this.#unreachable(error.message, error);
    return new Deferred({
      code: "ssh-login-refused",
      message: `${name} does not accept ${account} with the key ${privateKeyFile}.`,
      hint: "The beamtime may have ended, or its account is not ready yet; `ssh -i KEY ACCOUNT@NODE` tells more.",
      giveUpAfterSeconds: 600,
      cause: error,
    });
  }

  #unreachable(what: string, cause?: unknown): Unavailable {
    const { name, address, port } = this.#target;
    return new Unavailable({
      code: "ssh-unreachable",
      message: `The node ${name} (${address}:${port}) cannot be reached over SSH: ${what}.`,
      hint: "Is the node up, and is its address right? ssh.hosts in the configuration maps a name to an address.",
      cause,
    });
  }

  #execute(client: Client, command: string, options: RunOptions): Promise<CommandEnd> {
    const connection = this.#connection;
    return new Promise((resolve, reject) => {
      const give = (error: MentoError) => {
        clearTimeout(timer);
        reject(error);
      };
      const abandon = (what: string) => {
        this.#forget(connection);
        client.destroy();
        give(this.#lost(what));
      };
      const onClose = () => give(this.#lost("the connection broke"));
      let timer = setTimeout(
        () => abandon(`no channel opened in ${this.#limits.connectTimeout} ms`),
        this.#limits.connectTimeout,
      );
      client.once("close", onClose);

      const onChannel = (error: Error | undefined, channel: ClientChannel) => {
        clearTimeout(timer);
        if (error) {
          client.off("close", onClose);
          give(this.#unreachable(`it opened no channel (${error.message})`, error));
          return;
        }
        const milliseconds = options.timeout ?? this.#limits.commandTimeout;
        timer = setTimeout(() => abandon(`a command did not end in ${milliseconds} ms`), milliseconds);
        collect(channel, options.stdin, (end) => {
          client.off("close", onClose);
          clearTimeout(timer);
          if (end === undefined) give(this.#lost("the command ended without a status"));
          else resolve(end);
        });
      };
      try {
        client.exec(command, onChannel);
      } catch (cause) {
        client.off("close", onClose);
        this.#forget(connection);
        give(this.#unreachable(errorText(cause), cause));
      }
    });
  }

  #lost(what: string): Unavailable {
    return new Unavailable({
      code: "ssh-lost",
      message: `The outcome of a command on ${this.host} is unknown: ${what}.`,
      hint: "Mento connects again and looks what became of it.",
    });
  }
}

/** Calls back once, when the channel has closed; without a status if the connection broke. */
function collect(
  channel: ClientChannel,
  stdin: string | undefined,
  done: (end: CommandEnd | undefined) => void,
): void {
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  let bytes = 0;
  let tooMuch = false;
  const take = (into: Buffer[]) => (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= MAX_OUTPUT_BYTES) into.push(chunk);
    else if (!tooMuch) {
      tooMuch = true;
      channel.close();
    }
  };
  channel.on("data", take(stdout));
  channel.stderr.on("data", take(stderr));
  channel.on("error", () => undefined);
  channel.on("close", (code?: number | null, signal?: string) => {
    if (code === undefined || tooMuch) {
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
  channel.end(stdin ?? "");
}
