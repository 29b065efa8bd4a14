import { MentoError } from "../errors.ts";
import type { CommandEnd, RunOptions, Shell } from "./shell.ts";

/** A shell on one node that can be closed for good. */
export interface NodeShell extends Shell {
  close(): void;
}

const NOT_STARTED = new Set<string>([
  "ssh-unreachable",
  "ssh-login-refused",
  "login-shell",
  "host-key-unknown",
  "host-key-changed",
]);

/**
 * The reserved nodes of a session as one shell: the first that answers is kept, until it answers no more. A node that
 * is down, or that Slurm has replaced in the reservation, does not stop the work.
 */
export class ReservedNodes implements Shell {
  readonly account: string;
  readonly #nodes: readonly NodeShell[];
  #current = 0;

  /** @param nodes at least one, in the order in which they are tried */
  constructor(nodes: readonly NodeShell[], account: string) {
    this.#nodes = nodes;
    this.account = account;
  }

  get host(): string {
    return this.#nodes[this.#current]?.host ?? "no node";
  }

  /**
   * Tries the next node only where the command cannot have started: the node is away, shows a key that is not its own,
   * does not let the account in, or runs no commands for it. If none works, the trouble that a person can mend is told first.
   */
  async run(script: string, options?: RunOptions): Promise<CommandEnd> {
    const first = this.#current;
    const failures: MentoError[] = [];
    for (let tried = 0; tried < this.#nodes.length; tried++) {
      const index = (first + tried) % this.#nodes.length;
      const node = this.#nodes[index];
      if (node === undefined) break;
      try {
        const end = await node.run(script, options);
        if (index !== first) this.#current = index;
        return end;
      } catch (error) {
        if (!(error instanceof MentoError) || !NOT_STARTED.has(error.code)) throw error;
        failures.push(error);
      }
    }
    throw (
      failures.find(({ code }) => code !== "ssh-unreachable") ?? failures[0] ?? new Error("no reserved node")
    );
  }

  /** The node that answers now, by itself. Throws as {@link run}. */
  async answering(): Promise<Shell> {
    await this.run(":");
    const node = this.#nodes[this.#current];
    if (node === undefined) throw new Error("no reserved node");
    return node;
  }

  leaveHost(): void {
    this.#current = (this.#current + 1) % this.#nodes.length;
  }

  close(): void {
    for (const node of this.#nodes) node.close();
  }
}
