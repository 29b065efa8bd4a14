import { MentoError } from "../errors.ts";
import type { CommandEnd, RunOptions, Shell } from "./shell.ts";

/** A shell on one node that can be closed for good. */
export interface NodeShell extends Shell {
  close(): void;
}

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

  /** Tries the next node only where the command cannot have started: its connection could not be made. */
  async run(script: string, options?: RunOptions): Promise<CommandEnd> {
    const first = this.#current;
    for (let tried = 0; ; tried++) {
      const index = (first + tried) % this.#nodes.length;
      const node = this.#nodes[index];
      if (node === undefined) throw new Error("a session has no reserved nodes");
      try {
        const end = await node.run(script, options);
        this.#current = index;
        return end;
      } catch (error) {
        const isAway = error instanceof MentoError && error.code === "ssh-unreachable";
        if (!isAway || tried + 1 >= this.#nodes.length) throw error;
      }
    }
  }

  close(): void {
    for (const node of this.#nodes) node.close();
  }
}
