import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { afterEach, expect, it, vi } from "vitest";
import { Announcer } from "../../src/library/announcer.ts";
import type { BrokerClient } from "../../src/broker/client.ts";
import { jobEndedEvent } from "../triggers/job-ended.ts";

afterEach(() => vi.useRealTimers());

function opened() {
  const taken: string[] = [];
  const warnings: string[] = [];
  let take: () => Promise<void> = () => Promise.resolve();
  const broker = {
    topology: { eventsExchange: "events" },
    publisher: {
      publish: async ({ properties }: { properties: { messageId: string } }) => {
        await take();
        taken.push(properties.messageId);
      },
    },
  } as unknown as BrokerClient;
  const log = pino({ level: "warn" }, { write: (line: string) => void warnings.push(line) });
  const announcer = new Announcer(broker, undefined, log);
  const announce = (id: string) =>
    announcer.announce({ ...jobEndedEvent({ type: "job.completed" }), id }, "key");
  return { announce, taken, warnings, broker: (works: () => Promise<void>) => (take = works) };
}

it("an event is announced when its announcement resolves, each in its turn", async () => {
  const { announce, taken, broker } = opened();
  broker(() => sleep(taken.length === 0 ? 50 : 0));
  await Promise.all([announce("1"), announce("2"), announce("3")]);
  expect(taken).toEqual(["1", "2", "3"]);
});

it("a broker that takes no events holds nobody up, and gets them in their order when it does", async () => {
  vi.useFakeTimers();
  const { announce, taken, broker } = opened();
  let unblock: () => void = () => undefined;
  const blocked = new Promise<void>((resolve) => (unblock = resolve));
  broker(() => blocked);
  const first = announce("1");
  await vi.advanceTimersByTimeAsync(2_000);
  await first;
  await announce("2");
  await announce("3");
  expect(taken).toEqual([]);
  unblock();
  await vi.advanceTimersByTimeAsync(0);
  expect(taken).toEqual(["1", "2", "3"]);
});

it("what cannot be announced is a warning, once, and keeps no other from being announced", async () => {
  const { announce, taken, warnings, broker } = opened();
  broker(() => Promise.reject(new Error("no exchange")));
  await announce("1");
  broker(() => Promise.resolve());
  await announce("2");
  expect(taken).toEqual(["2"]);
  expect(warnings).toHaveLength(1);
  expect(warnings[0]).toContain("no exchange");
});
