import type { BrokerClient } from "../broker/client.ts";
import { historySince, offsetOf } from "../broker/history.ts";
import { Stories, type Story } from "../trace/stories.ts";

/** The messages of the history from a time on, and all that came of them. Each update reads what is new alone. */
export class StoryReader {
  readonly #client: BrokerClient;
  readonly #stories: Stories;
  #next: Date | number;

  constructor(client: BrokerClient, since: Date) {
    this.#client = client;
    this.#stories = new Stories(client.topology);
    this.#next = since;
  }

  /** `blocked` is why the broker takes no messages, if it does not: then the newest ones may be missing. */
  async update(): Promise<{ stories: Story[]; blocked: string | undefined }> {
    let blocked: string | undefined;
    for await (const message of historySince(this.#client, this.#next, (reason) => (blocked = reason))) {
      this.#stories.add(message);
      this.#next = offsetOf(message) + 1;
    }
    return { stories: this.#stories.all, blocked: blocked ?? this.#client.link.blocked };
  }
}
