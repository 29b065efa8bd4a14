import type { Publish } from "./confirm-channel.ts";

/** Before a link was lost. RabbitMQ 3.10.8 confirmed what it did not keep in its last 0.1 s. */
const AT_RISK_MS = 5_000;
const MAX_BYTES = 64 * 2 ** 20;
/** A broker that is started and stopped again and again gets them so often. */
const MOST_TIMES = 3;

interface Confirmed {
  message: Publish;
  at: number;
  /** How often it was published. */
  times: number;
}

/**
 * What RabbitMQ has confirmed in the last seconds, over all links of one publisher. When it is stopped in an orderly way,
 * none of its queues may have it afterwards. So it is published once more over the next link, in its order, which does no
 * harm: it has its id.
 */
export class ConfirmedOfLate {
  /** The oldest first. */
  readonly #kept: Confirmed[] = [];
  #bytes = 0;

  add(message: Publish, times = 1): void {
    this.#kept.push({ message, at: Date.now(), times });
    this.#bytes += message.body.byteLength;
    this.forgetOld();
  }

  /** When a link is lost, only what was confirmed right before is at risk. */
  forgetOld(): void {
    const since = Date.now() - AT_RISK_MS;
    let count = 0;
    for (const { message, at } of this.#kept) {
      if (at >= since && this.#bytes <= MAX_BYTES) break;
      this.#bytes -= message.body.byteLength;
      count += 1;
    }
    this.#kept.splice(0, count);
  }

  /** Takes out all that is to be published once more. */
  take(): { message: Publish; times: number }[] {
    this.#bytes = 0;
    return this.#kept.splice(0).filter(({ times }) => times < MOST_TIMES);
  }
}
