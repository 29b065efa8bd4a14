import { pino } from "pino";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { Sessions } from "../../src/beamtime/session.ts";
import { LinkCare } from "../../src/broker/link-care.ts";
import { brokerLost, type BrokerLink } from "../../src/broker/connection.ts";
import { topologyFor } from "../../src/broker/topology.ts";
import type { MentoError } from "../../src/errors.ts";
import { noPermitYet } from "../../src/submission/submit-answer.ts";
import { openTriggerQueues } from "../../src/intake/open-trigger-queues.ts";
import type { SubmitTargets } from "../../src/submission/submit-targets.ts";
import { Trigger } from "../../src/triggers/trigger-config.ts";

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

it("a link that is lost while triggers' queues are opened leaves nobody who goes on trying", async () => {
  let lose: (why: MentoError) => void = () => undefined;
  const lost = new Promise<MentoError | undefined>((resolve) => (lose = resolve));
  const headers = { "mento-concurrency-key": "d", "mento-order": "0-0-j", "mento-trigger": "a" };
  const message = {
    content: Buffer.from("{}"),
    properties: { messageId: "m", headers },
    fields: { exchange: "" },
  };
  const channel = {
    on: () => channel,
    accept: () => undefined,
    prefetch: () => Promise.resolve(),
    consume: (_queue: string, onMessage: (one: object) => void) => {
      onMessage(message);
      return Promise.resolve({ consumerTag: "t" });
    },
  };
  let channels = 0;
  const link = {
    consuming: {
      createChannel: () => {
        channels += 1;
        if (channels === 1) return Promise.resolve(channel);
        lose(brokerLost("gone"));
        return Promise.reject(brokerLost("gone"));
      },
    },
    lost,
    fail: () => undefined,
    care: new LinkCare(),
    answer: (work: Promise<unknown>) => work,
    whenBlocked: () => lost.then(() => undefined),
    whenUnblocked: () => Promise.resolve(),
  } as unknown as BrokerLink;
  let tries = 0;
  const opening = openTriggerQueues(
    ["a", "b"].map((name) => Trigger.parse({ name, run: ["/bin/true"], concurrency: 1 })),
    {
      ...{
        link,
        group: "default",
        topology: topologyFor("mento", "default"),
        log: pino({ level: "silent" }),
      },
      handle: () => Promise.reject(new Error("not reached")),
      handleQueued: () => {
        tries += 1;
        return Promise.reject(noPermitYet("a", "trigger"));
      },
      publish: () => Promise.resolve(),
      care: new LinkCare(),
      answer: () => Promise.resolve(),
      cancel: () => Promise.resolve({ outcomes: [] }),
      announce: () => Promise.resolve(),
      whenOpen: () => Promise.resolve(),
      now: () => new Date(),
    },
    { open: () => Promise.resolve({ open: [], broken: undefined }) } as unknown as Sessions,
    {} as unknown as SubmitTargets,
  );
  await expect(opening).rejects.toMatchObject({ code: "broker-lost" });
  expect(tries).toBe(1);
  await vi.advanceTimersByTimeAsync(5_000);
  expect(tries).toBe(1);
  expect(vi.getTimerCount()).toBe(0);
});
