import { pino } from "pino";
import { describe, expect, it, vi } from "vitest";
import { isSameFailure, LeftWaiting, openIntake } from "../../src/intake/intake.ts";
import { LinkCare } from "../../src/broker/link-care.ts";
import type { BrokerLink } from "../../src/broker/connection.ts";
import { topologyFor } from "../../src/broker/topology.ts";
import { Deferred, MentoError, Rejected, Unavailable, type ErrorCode } from "../../src/errors.ts";
import type { ReceivedMessage } from "../../src/intake/message.ts";
import { MessageEventData, type OutgoingEvent } from "../../src/messages/job-event.ts";
import { eventually } from "../support/eventually.ts";
import { CORE, jobEndedEvent } from "../triggers/job-ended.ts";

it("a submit that fails and is then looked for, in turns, is one trouble with one deadline", () => {
  expect(isSameFailure("submit-not-now", "submit-in-flight")).toBe(true);
  expect(isSameFailure("submit-in-flight", "submit-not-now")).toBe(true);
  expect(isSameFailure("data-not-there", "data-not-there")).toBe(true);
  expect(isSameFailure("no-session-open", "data-not-there")).toBe(false);
  expect(isSameFailure(null, "data-not-there")).toBe(false);
});

/** Of a copy that a worker had before. */
const OWN = { exchange: "", routingKey: "mento.default.intake", redelivered: true };

/** A link whose one channel we drive by hand: what the broker answers, and when, is the test's. */
function linkByHand() {
  const consuming = { count: 0, refuses: false };
  let deliver: (message: object) => void = () => undefined;
  let unblock: () => void = () => undefined;
  const blocked = new Promise<void>((resolve) => (unblock = resolve));
  let failed: unknown;
  let acks = 0;
  let lose: () => void = () => undefined;
  const lost = new Promise<undefined>((resolve) => (lose = () => resolve(undefined)));
  const channel = {
    on: () => channel,
    accept: () => undefined,
    prefetch: () => Promise.resolve(),
    consume: (_queue: string, onMessage: (message: object) => void) => {
      if (consuming.refuses) throw new Error("Channel closed");
      consuming.count += 1;
      deliver = onMessage;
      return Promise.resolve({ consumerTag: `tag ${consuming.count}` });
    },
    care: new LinkCare(),
    answer: () => Promise.resolve(),
    cancel: () => {
      consuming.count -= 1;
      return Promise.resolve();
    },
    ack: () => (acks += 1),
  };
  const link = {
    consuming: { createChannel: () => Promise.resolve(channel) },
    lost,
    whenBlocked: () => lost,
    whenUnblocked: () => blocked,
    care: new LinkCare(),
    answer: (work: Promise<unknown>) => work,
    fail: (error: unknown) => {
      failed = error;
      lose();
    },
  } as unknown as BrokerLink;
  const message = { content: Buffer.from("{}"), properties: { headers: {}, messageId: "m" }, fields: OWN };
  return {
    link,
    consuming,
    deliver: (headers = {}, content = message.content, properties = {}) =>
      deliver({ ...message, content, properties: { ...message.properties, ...properties, headers } }),
    unblock: () => unblock(),
    failed: () => failed,
    acks: () => acks,
  };
}

describe("an intake that has paused because everybody was out", () => {
  async function pausedIntake() {
    const hand = linkByHand();
    let open: () => void = () => undefined;
    const whenOpen = new Promise<void>((resolve) => (open = resolve));
    const intake = await openIntake({
      link: hand.link,
      group: "default",
      topology: topologyFor("mento", "default"),
      queue: "mento.default.intake",
      publish: () => Promise.resolve(),
      prefetch: 1,
      handle: () => Promise.reject(new Unavailable({ code: "ssh-unreachable", message: "away", hint: "" })),
      care: new LinkCare(),
      answer: () => Promise.resolve(),
      cancel: () => Promise.resolve({ outcomes: [] }),
      announce: () => Promise.resolve(),
      whenOpen: () => whenOpen,
      log: pino({ level: "silent" }),
      now: () => new Date(),
    });
    expect(hand.consuming.count).toBe(1);
    hand.deliver();
    await eventually("it has paused", () => (hand.consuming.count === 0 ? true : undefined));
    return { ...hand, intake, open };
  }

  it("goes on when they are back, but not before the broker takes messages", async () => {
    const { consuming, open, unblock } = await pausedIntake();
    open();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(consuming.count).toBe(0);
    unblock();
    await eventually("it consumes again", () => (consuming.count === 1 ? true : undefined));
  });

  it("gives the link up if it cannot consume any more, and does not end the process", async () => {
    const { consuming, failed, open, unblock } = await pausedIntake();
    consuming.refuses = true;
    unblock();
    open();
    const error = await eventually("the link is given up", failed);
    expect(error).toMatchObject({ code: "broker-lost" });
  });

  it("does not consume again when it was stopped meanwhile", async () => {
    const { consuming, intake, open, unblock } = await pausedIntake();
    const stopped = intake.stop();
    unblock();
    open();
    await stopped;
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(consuming.count).toBe(0);
  });
});

it("a message whose own command fails each time is given up at last, whatever it waits for in between", async () => {
  const hand = linkByHand();
  const published: { routingKey: string; headers: Record<string, unknown> }[] = [];
  const own = {
    code: "ssh-lost",
    message: "lost",
    hint: "",
    giveUpAfterSeconds: 3600,
    giveUpAfterTimes: 3,
  } as const;
  const between = {
    code: "submit-in-flight",
    message: "in flight",
    hint: "",
    giveUpAfterSeconds: 86_400,
  } as const;
  let times = 0;
  await openIntake({
    link: hand.link,
    group: "default",
    topology: topologyFor("mento", "default"),
    queue: "mento.default.intake",
    publish: ({ routingKey, properties }) => {
      published.push({ routingKey, headers: properties.headers as Record<string, unknown> });
      return Promise.resolve();
    },
    prefetch: 1,
    care: new LinkCare(),
    answer: () => Promise.resolve(),
    cancel: () => Promise.resolve({ outcomes: [] }),
    handle: () => Promise.reject(new Deferred(times++ % 2 === 0 ? own : between)),
    announce: () => Promise.resolve(),
    whenOpen: () => Promise.resolve(),
    log: pino({ level: "silent" }),
    now: () => new Date(),
  });
  for (let position = 1; position <= 7; position++) {
    hand.deliver(published.at(-1)?.headers);
    await eventually("it is put away", () => (published.length === position ? true : undefined));
  }
  expect(published.map(({ routingKey }) => routingKey)).toEqual([
    ...Array.from({ length: 6 }, () => "mento.default.wait.1"),
    "mento.dead",
  ]);
});

it.each<ErrorCode>(["nobody-listens", "publish-refused", "publish-impossible"])(
  "a rejected message whose answer is not taken (%s) is put away all the same",
  async (code) => {
    const hand = linkByHand();
    await openIntake({
      link: hand.link,
      care: new LinkCare(),
      group: "default",
      topology: topologyFor("mento", "default"),
      queue: "mento.default.intake",
      publish: () => Promise.resolve(),
      prefetch: 1,
      answer: () => Promise.reject(new MentoError({ code, message: "not taken", hint: "" })),
      cancel: () => Promise.resolve({ outcomes: [] }),
      handle: () => Promise.reject(new Rejected({ code: "not-json", message: "", hint: "" })),
      announce: () => Promise.resolve(),
      whenOpen: () => Promise.resolve(),
      log: pino({ level: "silent" }),
      now: () => new Date(),
    });
    hand.deliver({}, Buffer.from("{}"), { replyTo: "answers" });
    await eventually("it is put away", () => (hand.acks() === 1 ? true : undefined));
    expect(hand.failed()).toBeUndefined();
  },
);

describe("what is announced of a job's event that cannot start the next job", () => {
  async function announced(error: Error, ids: readonly string[]) {
    const hand = linkByHand();
    const events: OutgoingEvent[] = [];
    await openIntake({
      link: hand.link,
      group: "default",
      topology: topologyFor("mento", "default"),
      queue: "mento.default.intake",
      publish: () => Promise.resolve(),
      prefetch: 1,
      care: new LinkCare(),
      answer: () => Promise.resolve(),
      cancel: () => Promise.reject(new Error("not reached")),
      handle: () => Promise.reject(error),
      announce: (event) => {
        events.push(event);
        return Promise.resolve();
      },
      whenOpen: () => Promise.resolve(),
      log: pino({ level: "silent" }),
      now: () => new Date(),
    });
    for (const [index, id] of ids.entries()) {
      const body = { ...jobEndedEvent({ type: "job.completed" }), id };
      hand.deliver({}, Buffer.from(JSON.stringify(body)));
      await eventually("it is announced", () => (events.length === index + 1 ? true : undefined));
    }
    return events;
  }
  const failure = { code: "no-session-open", message: "none", hint: "" } as const;

  it.each<[string, Error]>([
    ["rejected", new Rejected(failure)],
    ["deferred", new Deferred({ ...failure, giveUpAfterSeconds: 60 })],
  ])(
    "%s: names the data-ready message that the chain comes from, and what it was about",
    async (what, error) => {
      const [event] = await announced(error, ["j1/completed"]);
      expect(event?.type).toBe(`mento.message.${what}.v1`);
      expect(event?.routingKey).toBe(`p11.11010000.message.${what}`);
      expect(event?.data).toMatchObject({
        cause: { source: "/det", id: "1", type: "mento.data.ready.v1" },
        beamline: "p11",
        beamtimeId: "11010000",
        paths: [`${CORE}/raw/s1/a.h5`],
      });
      expect(MessageEventData.safeParse(event?.data).success).toBe(true);
    },
  );

  it("has an id of its own for each link of the chain, and the same when it is delivered again", async () => {
    const events = await announced(new Rejected(failure), ["j1/completed", "j2/completed", "j1/completed"]);
    const [first, second, again] = events.map(({ id }) => id);
    expect(second).not.toBe(first);
    expect(again).toBe(first);
  });
});

it("a message that waits for its turn when its worker stops is neither acked nor put away: the broker has it", async () => {
  const hand = linkByHand();
  let leave: (error: unknown) => void = () => undefined;
  let isHandled = false;
  const intake = await openIntake({
    link: hand.link,
    group: "default",
    topology: topologyFor("mento", "default"),
    care: new LinkCare(),
    answer: () => Promise.resolve(),
    cancel: () => Promise.reject(new Error("not reached")),
    queue: "mento.default.trigger.t",
    publish: () => Promise.reject(new Error("nothing is to be published")),
    prefetch: 1,
    handle: ({ queuedPosition, onlyTrigger }) => {
      expect({ queuedPosition, onlyTrigger }).toEqual({
        queuedPosition: { concurrencyKey: "d", order: "1-x", session: "1", beamline: null },
        onlyTrigger: "t",
      });
      isHandled = true;
      return new Promise((_, reject) => (leave = reject));
    },
    announce: () => Promise.reject(new Error("nothing is to be announced")),
    whenOpen: () => Promise.resolve(),
    log: pino({ level: "silent" }),
    now: () => new Date(),
  });
  hand.deliver({
    "mento-concurrency-key": "d",
    "mento-order": "1-x",
    "mento-session": "1",
    "mento-trigger": "t",
  });
  const stopped = intake.stop();
  await vi.waitFor(() => expect(isHandled).toBe(true));
  leave(new LeftWaiting());
  await stopped;
  expect(hand.acks()).toBe(0);
  expect(hand.failed()).toBeUndefined();
});

it("a message that comes back to a trigger's queue again and again waits there on, and is counted anew in its copy", async () => {
  const hand = linkByHand();
  const received: ReceivedMessage[] = [];
  const dead: string[] = [];
  await openIntake({
    link: hand.link,
    group: "default",
    topology: topologyFor("mento", "default"),
    care: new LinkCare(),
    answer: () => Promise.resolve(),
    cancel: () => Promise.reject(new Error("not reached")),
    queue: "mento.default.trigger.t",
    publish: ({ routingKey }) => Promise.resolve(void dead.push(routingKey)),
    prefetch: 1,
    handle: (one) => {
      received.push(one);
      return one.cameBack === undefined ? Promise.resolve() : Promise.reject(one.cameBack);
    },
    announce: () => Promise.resolve(),
    whenOpen: () => Promise.resolve(),
    log: pino({ level: "silent" }),
    now: () => new Date(),
  });
  const position = { concurrencyKey: "d", order: "1-x", session: "1", beamline: null };
  const headers = {
    "mento-concurrency-key": "d",
    "mento-order": "1-x",
    "mento-session": "1",
    "mento-trigger": "t",
  };
  hand.deliver({ ...headers, "mento-returns": 40, "x-delivery-count": 1 });
  hand.deliver({ ...headers, "mento-returns": 40, "x-delivery-count": 10 });
  await eventually("it is put away", () => (hand.acks() === 2 ? true : undefined));
  expect(received.map(({ cameBack }) => cameBack?.code)).toEqual([...[undefined, "worker-ended"]]);
  // Whoever would try it gives it up; who only holds it puts it back.
  expect(dead).toEqual(["mento.dead"]);
  expect(received[1]?.copyFor("t", position).properties.headers).toMatchObject({ "mento-returns": 40 });
});
