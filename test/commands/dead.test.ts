import { describe, expect, it } from "vitest";
import { chooseDeadLetters } from "../../src/commands/choose-dead-letters.ts";
import { deadLetterJson, deadLetterText } from "../../src/commands/dead-letter-text.ts";
import { planReplay, replayLine } from "../../src/commands/replay-letter.ts";
import { readDeadLetter, type DeadLetter } from "../../src/messages/dead-letter.ts";
import { Trigger } from "../../src/triggers/trigger-config.ts";
import { amqpMessage } from "../support/amqp-message.ts";
import { codeOf } from "../support/code-of.ts";

const now = new Date("2026-11-22T12:00:00.000Z");
const triggers = [
  Trigger.parse({ name: "powder", on: { technique: "powder" }, run: ["/bin/true"] }),
  Trigger.parse({ name: "xpcs", on: { technique: "xpcs" }, run: ["/bin/true"] }),
];
const request = {
  prefix: "mento",
  ownQueue: "mento.default.intake",
  triggers,
  toTrigger: undefined,
  again: false,
  now,
};

function deadLetter(
  id: string,
  more: object = {},
  body: object = { path: "/x", technique: "powder" },
): DeadLetter {
  const headers = {
    "mento-queue": "mento.default.intake",
    "mento-first-seen": "2026-11-22T11:00:00.000Z",
    ...more,
  };
  return readDeadLetter(amqpMessage(Buffer.from(JSON.stringify(body)), { messageId: id, headers }));
}

describe("a letter that is shown", () => {
  it("says each thing once, and nothing that is empty; what nobody believes is shown as it is", () => {
    const said = {
      "mento-error-message": "It is not JSON.",
      "mento-error-code": "not-json",
      "mento-reason": "",
    };
    const text = deadLetterText(deadLetter("one", { ...said, "mento-other-headers": "{}" }));
    expect(text.match(/It is not JSON/g)).toHaveLength(1);
    expect(text).not.toMatch(/mento-reason|header mento-queue/);
    expect(text).toContain("header mento-other-headers: {}");
    const death = { "x-death": [{ queue: "mento.default.intake", reason: "delivery_limit" }] };
    expect(deadLetterText(deadLetter("two", { ...death, "mento-queue": "forged" }))).toContain(
      "header mento-queue: forged",
    );
  });
});

describe("a letter that is nested deeply", () => {
  it("is not set out: the indents of 1 MiB would be hundreds", () => {
    const body = `${"[".repeat(240)}${"1,".repeat(400_000)}1${"]".repeat(240)}`;
    const text = deadLetterText(
      readDeadLetter(amqpMessage(Buffer.from(body), { messageId: "deep", headers: {} })),
    );
    expect(text).toContain(body);
    expect(text.length).toBeLessThan(body.length + 1000);
  });
});

describe("a letter that is larger than a message", () => {
  const bytes = Buffer.alloc(2 * 1024 * 1024, 1);
  const large = readDeadLetter(amqpMessage(bytes, { messageId: "large", headers: {} }));

  it("is shown by its first bytes, for all of its text could be longer than JavaScript's", () => {
    const text = deadLetterText(large);
    expect(text).toContain("2097152 bytes, more than a message has");
    expect(text.length).toBeLessThan(10_000);
  });

  it("is whole in JSON", () => {
    expect(deadLetterJson(large, "mento")).toMatchObject({ bodyBase64: bytes.toString("base64") });
  });
});

describe("the letters that are meant", () => {
  const reader = (ids: string[]) => {
    const kept: string[] = [];
    return {
      kept,
      keep: ({ cause }: DeadLetter) => kept.push(cause.id),
      async *read() {
        for (const id of ids) yield await Promise.resolve(deadLetter(id));
      },
    };
  };
  const choose = async (ids: string[], wanted: string[]) =>
    (await chooseDeadLetters(reader(ids), wanted, "mento.dead")).map(({ cause }) => cause.id);

  it("are those of the ids, in the queue's order, and all of an id", async () => {
    expect(await choose(["aaaa-1", "bbbb-2", "aaaa-1", "cccc-3"], ["cccc-3", "aaaa-1"])).toEqual([
      ...["aaaa-1", "aaaa-1", "cccc-3"],
    ]);
  });

  it("may be named by a beginning that no other has, but not by two or three characters", async () => {
    expect(await choose(["aaaa-1", "bbbb-2"], ["aaaa"])).toEqual(["aaaa-1"]);
    expect(await codeOf(choose(["aaaa-1", "aaaa-2"], ["aaaa"]))).toBe("dead-letter-unknown");
    expect(await codeOf(choose(["aaaa-1"], ["aaa"]))).toBe("dead-letter-unknown");
    expect(await codeOf(choose(["aaaa-1"], [""]))).toBe("dead-letter-unknown");
  });

  it("are exactly the ids where there are such, also if others begin so", async () => {
    expect(await choose(["scan", "scan-1", "scan-2"], ["scan"])).toEqual(["scan"]);
  });

  it("are none if one of the ids is unknown", async () => {
    expect(await codeOf(choose(["aaaa-1"], ["aaaa-1", "nope-1"]))).toBe("dead-letter-unknown");
  });
});

describe("a replay", () => {
  it("sends the message as it was to its queue, and says what it would run", () => {
    const { send, outcome } = planReplay(deadLetter("m"), request);
    expect(send).toMatchObject({
      routingKey: "mento.default.intake",
      properties: { messageId: "m", headers: {} },
    });
    expect(outcome).toMatchObject({ outcome: "sent", sentAs: null, preview: { triggers: ["powder"] } });
  });

  it("for one trigger says so in a header, and keeps that of a letter that was sent for one", () => {
    const forced = planReplay(deadLetter("m"), { ...request, toTrigger: "xpcs" });
    expect(forced.send?.properties.headers).toMatchObject({ "mento-trigger": "xpcs" });
    expect(forced.outcome.preview?.triggers).toEqual(["xpcs"]);
    const kept = planReplay(deadLetter("m", { "mento-trigger": "gone" }), request);
    expect(kept.send?.properties.headers).toMatchObject({ "mento-trigger": "gone" });
    expect(kept.outcome.preview?.error?.code).toBe("unknown-trigger");
  });

  it("under a new id takes the id from the letter: done twice, it is the same id", () => {
    const first = planReplay(deadLetter("m"), { ...request, again: true });
    const second = planReplay(deadLetter("m"), { ...request, again: true, now: new Date() });
    expect(first.outcome.sentAs).toBe("m/again-2026-11-22T11:00:00.000Z");
    expect(second.send).toEqual(first.send);
  });

  it.each([
    ["a letter of nobody known", deadLetter("m", { "mento-queue": "" }), {}, "does not say which queue"],
    [
      "a tracking record, again",
      deadLetter("m", { "mento-queue": "mento.default.jobs" }),
      { again: true },
      "not a message",
    ],
    [
      "another group's, for a trigger",
      deadLetter("m", { "mento-queue": "mento.b.intake" }),
      { toTrigger: "xpcs" },
      "another",
    ],
  ])("leaves %s, and says why", (_, one, more, why) => {
    const { send, outcome } = planReplay(one, { ...request, ...more });
    expect(send).toBeUndefined();
    expect(outcome.outcome).toBe("left");
    expect(replayLine(outcome)).toContain(why);
  });

  it("of a tracking record or of another group's message says nothing of triggers", () => {
    for (const queue of ["mento.default.jobs", "mento.b.intake"]) {
      const { send, outcome } = planReplay(deadLetter("m", { "mento-queue": queue }), request);
      expect(send?.routingKey).toBe(queue);
      expect(replayLine({ ...outcome, outcome: "would-send" })).toContain(`would go to ${queue}`);
    }
  });

  it("of a message that cancels jobs names them", () => {
    const cancel = (body: object) => {
      const one = deadLetter("m", {}, { specversion: "1.0", id: "1", source: "/s", ...body });
      return replayLine({ ...planReplay(one, request).outcome, outcome: "would-send" });
    };
    const type = "mento.job.cancel.v1";
    expect(cancel({ type, data: { job: ["k3f7", "4711"] } })).toContain(
      "would cancel k3f7, 4711, if its sender may",
    );
    expect(cancel({ type, data: { job: [] } })).toContain("[wrong-schema]");
    expect(cancel({ type: "mento.job.cancel.v2", data: {} })).toContain("[unknown-version]");
  });

  it("of a message that no trigger wants, or that is wrong again, says why", () => {
    const unwanted = planReplay(deadLetter("m", {}, { path: "/x" }), request).outcome;
    expect(replayLine({ ...unwanted, outcome: "would-send" })).toContain(
      "powder: the message has no technique",
    );
    const wrong = planReplay(deadLetter("m", {}, { file: "/x" }), request).outcome;
    expect(replayLine({ ...wrong, outcome: "would-send" })).toContain("would be rejected again");
  });
});
