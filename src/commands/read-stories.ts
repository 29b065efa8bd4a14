import type { BrokerClient } from "../broker/client.ts";
import { historySince } from "../broker/history.ts";
import { Stories, type Story } from "../trace/stories.ts";

/** The messages of the history from a time on, and all that came of them; and why the broker takes none, if it does not. */
export async function readStories(
  client: BrokerClient,
  since: Date,
): Promise<{ stories: Story[]; blocked: string | undefined }> {
  const stories = new Stories(client.topology);
  let blocked: string | undefined;
  for await (const message of historySince(client, since, (reason) => (blocked = reason)))
    stories.add(message);
  return { stories: stories.all, blocked };
}
