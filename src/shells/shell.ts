/** A place where commands run: a reserved node over SSH, or this machine. */
export interface Shell {
  /** The host's name, for messages. */
  readonly host: string;
  /** The account that commands run as. */
  readonly account: string;
  /**
   * Runs a script in `/bin/sh`. Quote every value that goes into it; NUL cannot.
   *
   * @throws Unavailable `ssh-unreachable` before the command could start;
   *   `ssh-lost` when its outcome is unknown: it may have run
   * @throws Deferred `login-shell` if the account's login shell runs no commands
   */
  run(script: string, options?: RunOptions): Promise<CommandEnd>;
  /** The programs of this host do not work: if there is another, it is taken from now on. */
  leaveHost?(): void;
}

export interface RunOptions {
  /** Milliseconds for the whole command, the opening of its channel included. */
  timeout?: number;
}

export interface CommandEnd {
  /** null if a signal ended it. */
  code: number | null;
  signal: string | null;
  stdout: Buffer;
  stderr: string;
}
