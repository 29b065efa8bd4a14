import { posix } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { cancelAt, goneSince, requestFromHere, unknown } from "./cancel-at.ts";
import { isTerminal } from "./jobs/job.ts";
import type { CloudEvent } from "./messages/cloud-event.ts";
import type { CancelOutcome } from "./messages/job-cancel.ts";
import type { JobEventData } from "./messages/job-event.ts";
import type { Place } from "./methods/method.ts";
import { quote } from "./shells/quote.ts";

/** How often a log that is followed is read. */
const LOOK_AT_LOG_MS = 500;
const LOG_PIECE_BYTES = 1024 * 1024;

/** How a job has ended: its last event's data. */
export type EndedJob = JobEventData & {
  state: JobEventData["job"]["state"];
  exit: NonNullable<JobEventData["exit"]>;
};

/** A job that this program has started, and watches. */
export class Job {
  readonly id: string;
  /** null for a job outside Slurm. */
  readonly slurmJobId: string | null;
  readonly directory: string;
  /** What is known of it now: its last event's data. */
  data: JobEventData;
  readonly #place: Pick<Place, "shell" | "rest">;
  readonly #events: CloudEvent[] = [];
  #isLeft = false;
  #wake: (() => void)[] = [];

  constructor(data: JobEventData, place: Pick<Place, "shell" | "rest">) {
    this.data = data;
    this.id = data.job.id;
    this.slurmJobId = data.slurm.jobId;
    this.directory = data.job.directory;
    this.#place = place;
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

  /**
   * Cancels it: it waits no more, or its program is told to end. Says whether it was there, or gone already, and how;
   * `ended()` then resolves as after any end.
   *
   * @param reason why; its last event has it, beside who runs this program
   * @throws Unavailable `ssh-unreachable`, `ssh-lost`, `slurm-unavailable`
   */
  async cancel(reason?: string): Promise<CancelOutcome> {
    const { id, directory, data } = this;
    const { shell, rest } = this.#place;
    const gone = goneSince(data);
    if (gone !== undefined) return gone;
    const place = {
      jobsDirectory: posix.dirname(directory),
      ...{ shell, methods: [data.job.method], shellOn: () => Promise.resolve(shell) },
      rest: data.job.method === "slurm-rest-api" ? rest : null,
    };
    const outcomes = await cancelAt(place, [id], requestFromHere(reason));
    return outcomes.get(id) ?? unknown(id, `Job ${id} is not in ${directory}.`, "Its directory was removed.");
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

  /** What the program prints, as it comes, until the job has ended and all is read. Pieces end where a line or more ends. */
  async *logs(): AsyncGenerator<string, void, undefined> {
    const decoder = new TextDecoder();
    let offset = 0;
    for (;;) {
      const isLast = this.hasEnded;
      const end = await this.#place.shell.run(
        `tail -c +${offset + 1} ${quote(this.directory)}/job.log 2>/dev/null | head -c ${LOG_PIECE_BYTES}`,
      );
      offset += end.stdout.length;
      const text = decoder.decode(end.stdout, { stream: true });
      if (text !== "") yield text;
      if (end.stdout.length === LOG_PIECE_BYTES) continue;
      if (isLast) return;
      await Promise.race([sleep(LOOK_AT_LOG_MS), this.#until(() => this.hasEnded)]);
    }
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
      if (this.#isLeft) throw new Error(`job ${this.id} is not watched any more: its trigger was closed`);
      await new Promise<void>((resolve) => this.#wake.push(resolve));
    }
  }

  #wakeAll(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }
}
