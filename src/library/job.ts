import { setTimeout as sleep } from "node:timers/promises";
import { Deferred, Unavailable } from "../errors.ts";
import { READ_SECONDS, within } from "../shells/bounded-file.ts";
import { isTerminal } from "../jobs/job.ts";
import type { CloudEvent } from "../messages/cloud-event.ts";
import type { JobEventData } from "../messages/job-event.ts";
import type { CancelOutcome } from "../messages/job-cancel.ts";
import { quote } from "../shells/quote.ts";
import type { CommandEnd } from "../shells/shell.ts";

/** How often a log that is followed is read. */
const LOOK_AT_LOG_MS = 500;
/** A log that cannot be seen is looked for again after so long; of a job that has ended, for a limited time. */
const LOOK_AGAIN_MS = 1_000;
const LOOK_AFTER_END_MS = 60_000;
export const LOG_PIECE_BYTES = 1024 * 1024;

/** How a job has ended: its last event's data. */
export type EndedJob = JobEventData & {
  state: JobEventData["job"]["state"];
  exit: NonNullable<JobEventData["exit"]>;
};

/** What a job needs of its trigger. */
export interface JobDeps {
  /** Runs a script where the job directory can be seen. */
  run: (script: string) => Promise<CommandEnd>;
  cancel: (reason: string | null) => Promise<CancelOutcome>;
  /** How much was in its log file before the job. */
  logBegins: number;
}

/** A job that this program has started, and watches. */
export class Job {
  readonly id: string;
  /** null for a job outside Slurm. */
  readonly slurmJobId: string | null;
  readonly directory: string;
  /** What is known of it now: its last event's data. */
  data: JobEventData;
  readonly #deps: JobDeps;
  readonly #events: CloudEvent[] = [];
  #isLeft = false;
  #wake: (() => void)[] = [];

  constructor(data: JobEventData, deps: JobDeps) {
    this.data = data;
    this.id = data.job.id;
    this.slurmJobId = data.slurm.jobId;
    this.directory = data.job.directory;
    this.#deps = deps;
  }

  get hasEnded(): boolean {
    return isTerminal(this.data.job.state);
  }

  /** Resolves when the program runs, or has ended without. */
  async started(): Promise<JobEventData> {
    await this.#until(() => this.data.job.state !== "submitted");
    return this.data;
  }

  /**
   * Resolves when the job has ended, in whichever way; `lost` is told too. It never rejects: what cannot be seen at the
   * moment goes on being watched.
   */
  async ended(): Promise<EndedJob> {
    await this.#until(() => this.hasEnded);
    const { data } = this;
    return { ...data, state: data.job.state, exit: data.exit ?? { code: null, signal: null, reason: null } };
  }

  /** Its events, from the first, until it has ended. */
  async *events(): AsyncGenerator<CloudEvent, void, undefined> {
    for (let at = 0; ; at++) {
      await this.#until(() => this.#events.length > at || this.hasEnded);
      const event = this.#events[at];
      if (event === undefined) return;
      yield event;
    }
  }

  /**
   * What the program prints, as it comes, until the job has ended and all is read. Pieces end where a line or more ends.
   * While it cannot be seen, it is looked for.
   *
   * @throws what kept it from being read for a minute after the job's end
   */
  async *logs(): AsyncGenerator<string, void, undefined> {
    const decoder = new TextDecoder();
    const ended = this.#until(() => this.hasEnded).catch(() => undefined);
    let offset = this.#deps.logBegins;
    let unseenSince: number | undefined;
    // What it has started may go on to print for ever: that is not the job's any more.
    let size: number | undefined;
    for (;;) {
      if (this.#isLeft && !this.hasEnded) throw this.#leftBehind();
      const isLast = this.hasEnded;
      let piece: Buffer;
      try {
        piece = await this.#readLog(offset);
        if (isLast && piece.length === LOG_PIECE_BYTES) size ??= await this.#logSize();
      } catch (error) {
        if (!(error instanceof Unavailable || error instanceof Deferred)) throw error;
        if (isLast) unseenSince ??= Date.now();
        if (unseenSince !== undefined && Date.now() - unseenSince >= LOOK_AFTER_END_MS) throw error;
        await sleep(LOOK_AGAIN_MS);
        continue;
      }
      unseenSince = undefined;
      offset += piece.length;
      const text = decoder.decode(piece, { stream: true });
      if (text !== "") yield text;
      if (piece.length === LOG_PIECE_BYTES && (size === undefined || offset < size)) continue;
      if (isLast) return;
      await Promise.race([sleep(LOOK_AT_LOG_MS), ended]);
    }
  }

  async #logSize(): Promise<number> {
    const log = `${quote(this.directory)}/job.log`;
    const end = await this.#deps.run(within(READ_SECONDS, `stat -Lc %s ${log} 2>/dev/null`));
    return Number(end.stdout.toString("utf8")) || 0;
  }

  async #readLog(offset: number): Promise<Buffer> {
    const log = `${quote(this.directory)}/job.log`;
    const end = await this.#deps.run(
      within(READ_SECONDS, `tail -c +${offset + 1} ${log} 2>/dev/null | head -c ${LOG_PIECE_BYTES}`),
    );
    return end.stdout;
  }

  /** Ends it: cancelled, gone (and how it had ended), unknown, or failed, and why. What then happened, {@link ended} tells. */
  cancel(reason: string | null = null): Promise<CancelOutcome> {
    return this.#deps.cancel(reason);
  }

  /** Takes in an event of its own. */
  take(data: JobEventData, event: CloudEvent): void {
    this.data = data;
    this.#events.push(event);
    this.#wakeAll();
  }

  /** Nobody watches it any more: who waits for it is told so. */
  leave(): void {
    this.#isLeft = true;
    this.#wakeAll();
  }

  async #until(isSo: () => boolean): Promise<void> {
    while (!isSo()) {
      if (this.#isLeft) throw this.#leftBehind();
      await new Promise<void>((resolve) => this.#wake.push(resolve));
    }
  }

  #leftBehind(): Error {
    return new Error(`job ${this.id} is not watched any more: its trigger was closed`);
  }

  #wakeAll(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }
}
