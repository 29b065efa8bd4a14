import type { BrokerAddress, BrokerLink } from "../broker/connection.ts";
import { ConfirmedOfLate } from "../broker/confirmed-of-late.ts";
import { LinkCare } from "../broker/link-care.ts";
import { MentoError, Misconfigured, Unavailable, errorText } from "../errors.ts";
import type { Log } from "../log.ts";
import { within } from "../time/within.ts";
import { firstLink, isLost, nextLink } from "./worker-link.ts";

export interface WorkerLineOptions {
  address: BrokerAddress;
  /** Takes up the work over a new link; `stop` finishes what is under way. */
  open: (link: BrokerLink, care: LinkCare, confirmed: ConfirmedOfLate) => Promise<{ stop(): Promise<void> }>;
  /** Called when the work is taken up; what it returns, when the link is lost or the worker is to stop. */
  ready: () => () => void;
  graceSeconds: number;
  log: Log;
}

/**
 * A part of a worker's work, over a link to the broker of its own: what one part loses its links by does not send the
 * deliveries of the other back.
 */
export class WorkerLine {
  readonly #options: WorkerLineOptions;
  readonly #care = new LinkCare();
  readonly #confirmed = new ConfirmedOfLate();
  #link: BrokerLink | undefined;
  #hasServed = false;

  constructor(options: WorkerLineOptions) {
    this.#options = options;
  }

  /**
   * The first link, tried for a bounded time.
   *
   * @throws Unavailable `broker-unreachable`, `broker-refused`
   */
  async connect(stop: AbortSignal): Promise<void> {
    const { address, log } = this.#options;
    this.#link = await firstLink(address, log, stop);
  }

  /**
   * Works over one link after the other until `stop` aborts.
   *
   * @throws MentoError what keeps the work from being taken up and does not pass by itself
   */
  async serve(stop: AbortSignal): Promise<void> {
    const { address, log } = this.#options;
    while (this.#link !== undefined) {
      await this.#serveOver(this.#link, stop);
      this.#link = stop.aborted ? undefined : await nextLink(address, log, stop, this.#care.lostSoon);
    }
  }

  async close(): Promise<void> {
    await this.#link?.close();
  }

  async #serveOver(link: BrokerLink, stop: AbortSignal): Promise<void> {
    const { graceSeconds, log } = this.#options;
    const care = this.#care;
    // A broker that hangs meanwhile is not waited for.
    const giveUp = () => void link.close();
    let noLongerReady: (() => void) | undefined;
    care.opened();
    // Before anybody else: who handles what when the link is lost is known only then.
    void link.lost.then(() => care.lost(link.wasGivenUp));
    if (care.isCareful)
      log.warn("the link to RabbitMQ was lost soon, again: messages are handled one at a time");
    stop.addEventListener("abort", giveUp);
    try {
      const work = await this.#options.open(link, care, this.#confirmed);
      stop.removeEventListener("abort", giveUp);
      noLongerReady = this.#options.ready();
      this.#hasServed = true;
      const stopped = new Promise<undefined>((resolve) => {
        if (stop.aborted) resolve(undefined);
        stop.addEventListener("abort", () => resolve(undefined), { once: true });
      });
      const lost = await Promise.race([link.lost, stopped]);
      noLongerReady();
      if (lost !== undefined) log.warn({ code: lost.code }, lost.message);
      await within(graceSeconds * 1000, work.stop());
    } catch (error) {
      if (stop.aborted) return;
      const refused = error instanceof MentoError && error.code === "broker-refused";
      const isBroken = error instanceof Unavailable || (await isLost(link));
      if (error instanceof Misconfigured || (!this.#hasServed && (refused || !isBroken))) throw error;
      log.warn({ err: error }, `the work could not be taken up: ${errorText(error)}`);
    } finally {
      noLongerReady?.();
      stop.removeEventListener("abort", giveUp);
      await link.close();
    }
  }
}
