import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { bindingFits } from "../../src/messages/binding-key.ts";
import { bindingKeys, isEventType, type EventFilter } from "../../src/messages/event-filter.ts";
import { routingKey } from "../../src/messages/job-event.ts";

const wants = (filter: EventFilter, key: string) =>
  bindingKeys(filter).events.some((one) => bindingFits(one, key));
const wantsData = (filter: EventFilter, key: string) =>
  bindingKeys(filter).data.some((one) => bindingFits(one, key));

describe("a client's filter", () => {
  const name = fc.string({ minLength: 1, maxLength: 100 });
  const type = fc.constantFrom("job.completed", "job.failed", "message.rejected");

  it("without anything wants every event, and no data-ready message", () => {
    fc.assert(
      fc.property(name, name, type, (beamline, session, one) => {
        expect(wants({}, routingKey(beamline, session, one))).toBe(true);
        expect(wants({}, routingKey(null, null, one))).toBe(true);
        expect(wantsData({}, routingKey(beamline, session, "data.ready"))).toBe(false);
      }),
    );
  });

  it("wants what is announced for its beamline, session and type, whatever their names, and nothing else", () => {
    fc.assert(
      fc.property(name, name, name, type, type, (beamline, session, other, one, another) => {
        const filter = { beamline, session, types: [one] };
        const key = routingKey(beamline, session, one);
        expect(wants(filter, key)).toBe(true);
        expect(wants(filter, routingKey(beamline, session, another))).toBe(one === another);
        const elsewhere = routingKey(other, session, one);
        expect(wants(filter, elsewhere)).toBe(elsewhere === key);
        const later = routingKey(beamline, other, one);
        expect(wants(filter, later)).toBe(later === key);
      }),
    );
  });

  it("takes types with wildcards", () => {
    expect(wants({ types: ["job.*"] }, "p11.1.job.lost")).toBe(true);
    expect(wants({ types: ["job.*"] }, "p11.1.message.ignored")).toBe(false);
    expect(wants({ types: ["job.failed", "message.#"] }, "p11.1.message.ignored")).toBe(true);
  });

  it("wants data-ready messages if they are named, whatever key their producer chose", () => {
    expect(wantsData({ types: ["data.ready"] }, "scan")).toBe(true);
    expect(wants({ types: ["data.ready"] }, "p11.1.job.lost")).toBe(false);
    const p021 = { types: ["job.*", "data.*"], beamline: "p02.1" };
    expect(wantsData(p021, "p02-1.-.data.ready")).toBe(true);
    expect(wantsData(p021, "p11.-.data.ready")).toBe(false);
    expect(wants(p021, "p02-1.1.job.lost")).toBe(true);
  });

  it("that no event fits is a mistake", () => {
    for (const type of [
      "completed",
      "mento.job.completed.v1",
      "job.complete",
      "jobs.*",
      "",
      "job.completed.x",
    ]) {
      expect(isEventType(type), type).toBe(false);
      expect(() => bindingKeys({ types: [type] }), type).toThrow(
        expect.objectContaining({ code: "wrong-usage" }),
      );
    }
  });
});
