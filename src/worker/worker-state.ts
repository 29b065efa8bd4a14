import type { Log } from "../log.ts";
import { hideReady, showReady } from "./ready-file.ts";

/**
 * How a worker stands:
 *
 * - `starting`: it has not taken up all of its work yet: it connects to the broker, and asks the open beamtime's node.
 * - `ready`: it takes messages and watches jobs, as far as its roles say.
 * - `reconnecting`: a link to the broker was lost, and is made again, for ever.
 * - `stopping`: it was told to stop, and finishes what is under way.
 * - `stopped`: nothing of it runs any more.
 */
export type WorkerState = "starting" | "ready" | "reconnecting" | "stopping" | "stopped";

const NEXT: Readonly<Record<WorkerState, readonly WorkerState[]>> = {
  starting: ["ready", "stopping", "stopped"],
  ready: ["reconnecting", "stopping", "stopped"],
  reconnecting: ["ready", "stopping", "stopped"],
  stopping: ["stopped"],
  stopped: [],
};

/** A worker's state, and the file that shows others whether it is ready. */
export class WorkerStatus {
  readonly #readyFile: string | null;
  readonly #log: Log;
  readonly #about: object;
  readonly #linesWanted: number;
  #state: WorkerState = "starting";
  #linesReady = 0;
  #noLongerReady: () => void = () => undefined;

  /**
   * @param lines how many links to the broker it works over
   * @param about what the log says of the worker beside its state
   */
  constructor(lines: number, readyFile: string | null, about: object, log: Log) {
    this.#linesWanted = lines;
    this.#about = about;
    this.#readyFile = readyFile;
    this.#log = log;
    hideReady(readyFile);
  }

  get state(): WorkerState {
    return this.#state;
  }

  /**
   * One of its lines takes work; what it returns, when it no longer does.
   *
   * @throws Misconfigured `wrong-configuration`: the ready file cannot be written, the first time
   */
  lineIsReady(): () => void {
    this.#linesReady += 1;
    if (this.#linesReady === this.#linesWanted) this.#become("ready");
    let isReady = true;
    return () => {
      if (!isReady) return;
      isReady = false;
      this.#linesReady -= 1;
      if (this.#state === "ready") this.#become("reconnecting");
    };
  }

  stopping(): void {
    this.#become("stopping");
  }

  stopped(): void {
    this.#become("stopped");
  }

  #become(state: WorkerState): void {
    if (!NEXT[this.#state].includes(state)) return;
    const isFirst = this.#state === "starting";
    if (this.#state === "ready") this.#noLongerReady();
    if (state === "ready") this.#noLongerReady = showReady(this.#readyFile, isFirst);
    this.#state = state;
    this.#log.info({ ...this.#about, state }, STATE_WORDS[state]);
  }
}

const STATE_WORDS: Readonly<Record<WorkerState, string>> = {
  starting: "starting",
  ready: "ready",
  reconnecting: "the link to RabbitMQ is made again",
  stopping: "stopping: what is under way is finished",
  stopped: "stopped",
};
