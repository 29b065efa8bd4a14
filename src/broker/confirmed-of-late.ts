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
 * none of its queues may have it afterwards. So it is published once more over the next link, which does no harm: it has its
 * id.
 */
export class ConfirmedOfLate {
  /** The oldest first. Of several with the same id for the same queue the last one counts. */
  readonly #kept = new Map<string, Confirmed>();
  #bytes = 0;

  add(message: Publish, times = 1): void {
    this.#drop(keyOf(message));
    this.#kept.set(keyOf(message), { message, at: Date.now(), times });
    this.#bytes += message.body.byteLength;
    this.forgetOld();
    for (const key of this.#kept.keys()) {
      if (this.#bytes <= MAX_BYTES) break;
      this.#drop(key);
    }
  }

  /** When a link is lost, only what was confirmed right before is at risk. */
  forgetOld(): void {
    const since = Date.now() - AT_RISK_MS;
    for (const [key, { at }] of this.#kept) {
      if (at >= since) break;
      this.#drop(key);
    }
  }

  /** Takes out all that is to be published once more. */
  take(): { message: Publish; times: number }[] {
    const all = [...this.#kept.values()].filter(({ times }) => times < MOST_TIMES);
    this.#kept.clear();
    this.#bytes = 0;
    return all;
  }

  #drop(key: string): void {
    const known = this.#kept.get(key);
    if (known === undefined) return;
    this.#kept.delete(key);
    this.#bytes -= known.message.body.byteLength;
  }
}

function keyOf({ exchange, routingKey, properties }: Publish): string {
  return JSON.stringify([exchange, routingKey, properties.messageId]);
}
