import { createHash, randomUUID } from "node:crypto";
import { hostname } from "node:os";
import type { BrokerLink } from "../broker/connection.ts";
import type { Publisher } from "../broker/publisher.ts";
import type { MentoConfig } from "../config/config.ts";
import { programVersion } from "../config/version.ts";
import { HEARTBEAT_EVERY_MS, HEARTBEAT_TYPE, type Heartbeat } from "../messages/heartbeat.ts";
import type { WorkerState } from "./worker-state.ts";

/** Says on the broker that the worker is there, for as long as its process lives. */
export class Heartbeats {
  readonly #fixed: Omit<Heartbeat, "state" | "time">;
  readonly #stateOf: () => WorkerState;
  readonly #links: { link: BrokerLink; publisher: Publisher }[] = [];
  #beating: NodeJS.Timeout | undefined;

  constructor(config: MentoConfig, stateOf: () => WorkerState) {
    const { group, roles } = config.worker;
    this.#fixed = {
      ...{ worker: randomUUID(), host: hostname(), pid: process.pid, group, roles: [...roles] },
      version: programVersion(),
      configuration: digestOf(config),
      since: new Date().toISOString(),
    };
    this.#stateOf = stateOf;
  }

  /** Over this link, too, until it is lost. A beat that the broker does not take is none: the next one follows. */
  over(link: BrokerLink, publisher: Publisher, stream: string): void {
    const one = { link, publisher };
    this.#links.push(one);
    void link.lost.then(() => void this.#links.splice(this.#links.indexOf(one), 1));
    this.#beating ??= setInterval(() => this.#beat(stream), HEARTBEAT_EVERY_MS).unref();
    this.#beat(stream);
  }

  /** The last one, if the worker is to stop: that it has. */
  async stop(publisher: Publisher, stream: string): Promise<void> {
    if (this.#stateOf() !== "stopping") return;
    clearInterval(this.#beating);
    await publisher.publishOnce(this.#message(stream, "stopped")).catch(() => undefined);
  }

  #beat(stream: string): void {
    // While the broker takes no messages they would pile up.
    const open = this.#links.find(({ link }) => link.blocked === undefined);
    open?.publisher.publishOnce(this.#message(stream)).catch(() => undefined);
  }

  #message(stream: string, state: Heartbeat["state"] = this.#stateOf()) {
    const body: Heartbeat = { ...this.#fixed, state, time: new Date().toISOString() };
    return {
      ...{ exchange: "", routingKey: stream, body: Buffer.from(JSON.stringify(body)) },
      properties: { type: HEARTBEAT_TYPE, messageId: randomUUID(), contentType: "application/json" },
    };
  }
}

/** Of what is the same in all of a group's workers: logins and files of one host are not. */
function digestOf({ broker: { prefix }, worker, triggers }: MentoConfig): string {
  const { group, keys } = worker;
  const text = JSON.stringify({ prefix, group, keys, triggers });
  return createHash("sha256").update(text).digest("hex").slice(0, 12);
}
