import { pino } from "pino";
import { describe, expect, it } from "vitest";
import type { BrokerLink } from "../../src/broker/connection.ts";
import type { Publish, Publisher } from "../../src/broker/publisher.ts";
import { topologyFor } from "../../src/broker/topology.ts";
import { jobEvent } from "../../src/messages/job-event.ts";
import { announcing } from "../../src/worker/worker-announce.ts";
import { jobData } from "../support/job-data.ts";

/** What is published, and what is logged of it. */
async function announced(data: ReturnType<typeof jobData>, now = new Date()) {
  const published: Publish[] = [];
  const logged: Record<string, unknown>[] = [];
  const publisher = {
    maxBytes: Infinity,
    publish: (one: Publish) => Promise.resolve(void published.push(one)),
  } as unknown as Publisher;
  const announce = announcing({
    ...{ publisher, link: {} as BrokerLink, topology: topologyFor("mento", "default") },
    worker: { group: "default", maxEventBytes: 1_000_000 },
    log: pino(
      { base: null },
      { write: (line: string) => void logged.push(JSON.parse(line) as object as never) },
    ),
  });
  await announce(jobEvent(data, now));
  return { published: published[0], logged: logged[0] };
}

describe("an event of a job", () => {
  it("is logged with its path, trigger and ids; as a warning, with its reason, if the job came to nothing", async () => {
    const paths = ["/c/raw/a.h5", "/c/raw/b.h5"];
    const { logged } = await announced(jobData("completed", { paths }));
    const ids = { trigger: "t", job: "k3f7", slurmJob: "4711", session: "11010000", path: "/c/raw/a.h5" };
    expect(logged).toMatchObject({ level: 30, msg: "mento.job.completed.v1", ...ids });
    const error = { code: "out-of-memory" as const, message: "It used 4 GB.", hint: "Ask for more." };
    for (const state of ["failed", "lost"] as const) {
      const trouble = await announced(jobData(state, { paths, error }));
      expect(trouble.logged).toMatchObject({
        level: 40,
        ...ids,
        code: "out-of-memory",
        why: "It used 4 GB.",
      });
    }
  });

  it("of a time before 1970 can be published all the same", async () => {
    const times = {
      ready: null,
      received: null,
      submitted: "1900-01-01T00:00:00Z",
      started: null,
      ended: null,
    };
    const { published } = await announced(jobData("submitted", { times }));
    expect(published?.properties.timestamp).toBe(0);
  });
});
