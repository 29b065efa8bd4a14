import { afterAll, beforeAll, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { eventually, TestSite, writeData } from "../support/site.ts";

// In a file of its own: Slurm looks at time limits every 30 s, and its shortest limit is a minute.
const site = new TestSite([
  { name: "slow", run: ["/bin/sleep", "600"], slurm: { time: "00:01:00" } },
  {
    name: "stubborn",
    run: ["/bin/sh", "-c", 'trap "" TERM; while :; do sleep 1; done'],
    slurm: { time: "00:01:00" },
  },
]);

beforeAll(() => site.startWorker());
afterAll(() => site.tearDown());

it("a job over its time limit is announced with the reason timeout, also if it ignores SIGTERM", async () => {
  const { id } = await publishDataReady(await site.client(), { path: writeData().path });
  const isTimeout = (trigger: string) => () =>
    site
      .eventsOf(id)
      .find((event) => event.type === "mento.job.failed.v1" && event.data.job.trigger === trigger);
  const slow = await eventually("slow fails", isTimeout("slow"), 180_000);
  const stubborn = await eventually("stubborn fails", isTimeout("stubborn"), 60_000);
  for (const { data } of [slow, stubborn]) {
    expect(data.exit?.reason).toBe("timeout");
    expect(data.error?.code).toBe("timeout");
    expect(data.error?.message).toMatch(/^The job ran into its time limit\./);
  }
}, 240_000);
