import { describe, expect, it } from "vitest";
import { readTriggerInput } from "../../src/messages/trigger-input.ts";
import { planJob } from "../../src/triggers/plan.ts";
import { triggerMistakes } from "../../src/triggers/trigger-mistakes.ts";
import { Trigger } from "../../src/triggers/trigger-config.ts";
import { jobIdIn, positionOf } from "../../src/triggers/queue-position.ts";

const session = { id: "1", beamline: "p11", roots: { beamline: "/gpfs/current", core: "/c", node: "/n" } };
const received = new Date("2026-05-01T12:00:10.500Z");

function position(
  config: object,
  { time, detector = "eiger", of = session, at = received } = {} as Partial<{
    time: string;
    detector: string;
    of: typeof session;
    at: Date;
  }>,
) {
  const trigger = Trigger.parse({ name: "show", run: ["/bin/true"], ...config });
  const event = {
    ...{ specversion: "1.0" as const, id: "m", source: "/s", type: "mento.data.ready.v1" },
    ...(time === undefined ? {} : { time }),
    data: { path: "/c/raw/a.h5", detector },
  };
  const input = readTriggerInput(event);
  return positionOf(planJob(input, trigger, of, "default"), input, at, "default");
}

describe("the turns of a trigger", () => {
  it("are for triggers that count their jobs", () => {
    expect(position({})).toBeNull();
    expect(position({ concurrency: 2 })?.permits).toMatchObject({
      semaphores: [{ limit: 2, of: "trigger" }],
      newest: null,
    });
    expect(position({ latest: true })?.permits).toMatchObject({
      semaphores: [{ limit: 1 }],
      newest: { messageId: "m" },
    });
    expect(position({ latest: true, concurrency: 3 })?.permits.semaphores).toMatchObject([{ limit: 3 }]);
    expect(position({ concurrency: { perSession: 4 } })?.permits.semaphores).toMatchObject([
      { limit: 4, of: "session" },
    ]);
    expect(position({ concurrency: { perTrigger: 1, perSession: 4 } })?.permits.semaphores).toHaveLength(2);
  });

  it("are apart for each session and key; the session's row is the same for all triggers", () => {
    const config = { concurrency: { perTrigger: 1, perSession: 4 }, key: "{{ detector }}" };
    const one = position(config);
    expect(position(config)?.concurrencyKey).toBe(one?.concurrencyKey);
    expect(position(config, { detector: "lambda" })?.concurrencyKey).not.toBe(one?.concurrencyKey);
    expect(position(config, { of: { ...session, id: "2" } })?.concurrencyKey).not.toBe(one?.concurrencyKey);
    expect(position({ ...config, name: "other" })?.permits.semaphores[1]).toEqual(one?.permits.semaphores[1]);
  });

  it("are in the order of the messages' times, then of their coming; a time to come is now", () => {
    const order = (time?: string, at = received) =>
      position({ latest: true }, { ...(time && { time }), at })?.order ?? "";
    const early = order("2026-05-01T12:00:09.999Z");
    const late = order("2026-05-01T12:00:10Z");
    expect(early < late).toBe(true);
    expect(order("2026-05-01T12:00:10Z", new Date(+received + 1)) > late).toBe(true);
    expect(order("2099-01-01T00:00:00Z")).toBe(order());
    expect(order("1969-01-01T00:00:00Z") < early).toBe(true);
    expect(early).toHaveLength(late.length);
    expect(jobIdIn(early)).toMatch(/^[a-z2-7]{26}$/);
  });

  it("need a known key, a method that counts, and something to count", () => {
    const mistakes = (config: object) =>
      Trigger.safeParse({ name: "show", run: ["/bin/true"], ...config }).error?.issues.map(
        ({ path }) => path[0],
      );
    expect(mistakes({ key: "{{ detector }}", latest: true })).toBeUndefined();
    const unknownKey = { name: "show", run: ["/bin/true"], key: "{{ detektor }}", latest: true };
    const found = triggerMistakes([unknownKey], { group: "default", hasSlurmRest: false });
    expect(found.map(({ place }) => place)).toEqual([["key"]]);
    expect(mistakes({ key: "{{ detector }}" })).toEqual(["key"]);
    expect(mistakes({ method: "slurm-rest-api", concurrency: 1 })).toEqual(["method"]);
    expect(mistakes({ concurrency: 0 })).toEqual(["concurrency"]);
    expect(mistakes({ concurrency: {} })).toEqual(["concurrency"]);
  });
});
