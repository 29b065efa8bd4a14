import { setTimeout as sleep } from "node:timers/promises";
import { connectBroker, publishDataReady } from "mento";

/** The `source` of every message, which with its id makes it the same message however often it is published. */
export const SOURCE = "/chaos/detector";

const RETRY_AFTER_MS = 500;

/** A good data acquisition system: publishes until the broker has confirmed, under the same id. */
export class Detector {
  /** Publishes of unknown outcome, after which the message was published again. */
  repeated = 0;
  /** Errors that do not say whether to publish again. @type {string[]} */
  mistakes = [];
  #url;
  #stop;
  /** @type {Promise<import("mento").BrokerClient> | undefined} */
  #client;

  /**
   * @param {string} url
   * @param {AbortSignal} stop
   */
  constructor(url, stop) {
    this.#url = url;
    this.#stop = stop;
  }

  /**
   * @param {string} id
   * @param {import("mento").DataReady} data
   */
  async publish(id, data) {
    for (;;) {
      this.#stop.throwIfAborted();
      let isSent = false;
      try {
        const client = await this.#connect();
        isSent = true;
        await publishDataReady(client, data, { id, source: SOURCE });
        return;
      } catch (error) {
        if (!isPassing(error))
          this.mistakes.push(`a publisher is told no code it could act on: ${String(error)}`);
        if (isSent) this.repeated += 1;
        await sleep(RETRY_AFTER_MS);
      }
    }
  }

  async close() {
    await this.#client?.then(
      (client) => client.close(),
      () => undefined,
    );
  }

  /** All that publish at the same time share one connection, and one attempt to make it. */
  #connect() {
    if (this.#client !== undefined) return this.#client;
    const client = connectBroker({ url: this.#url, name: "chaos detector" });
    this.#client = client;
    const forget = () => {
      if (this.#client === client) this.#client = undefined;
    };
    client.then((one) => one.link.lost.then(forget), forget);
    return client;
  }
}

/** @param {unknown} error */
function isPassing(error) {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return ["broker-unreachable", "broker-lost", "publish-unconfirmed"].includes(code);
}
