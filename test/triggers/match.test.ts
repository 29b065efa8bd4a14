import { describe, expect, it } from "vitest";
import type { DataReady } from "../../src/messages/data-ready.ts";
import { readTriggerInput } from "../../src/messages/trigger-input.ts";
import { matchTriggers } from "../../src/triggers/match.ts";
import { Trigger } from "../../src/triggers/trigger-config.ts";

const message = (data: DataReady) =>
  readTriggerInput({ specversion: "1.0", id: "1", source: "/s", type: "mento.data.ready.v1", data });
const trigger = (on: object) => Trigger.parse({ name: "t", on, run: ["true"] });

describe("matchTriggers", () => {
  it("wants a message that fits every field given", () => {
    const on = { technique: ["saxs", "waxs"], path: "**/raw/**/*_master.h5" };
    const data = { path: "/gpfs/current/raw/s/a_master.h5", technique: "waxs" };
    expect(matchTriggers(message(data), [trigger(on)]).matched).toHaveLength(1);
  });

  it("wants everything when nothing is given", () => {
    expect(matchTriggers(message({ path: "/a" }), [trigger({})]).matched).toHaveLength(1);
  });

  it.each([
    [{ technique: "saxs" }, { path: "/a", technique: "xpcs" }, "technique is xpcs; the trigger wants saxs"],
    [{ scan: 1 }, { path: "/a" }, "the message has no scan; the trigger wants 1"],
    [{ path: "**/*.h5" }, { path: ["/a.h5", "/b.cbf"] }, "the path /b.cbf does not fit **/*.h5"],
  ])("says why not: %j", (on, data, reason) => {
    expect(matchTriggers(message(data), [trigger(on)]).unmatched).toEqual([{ trigger: "t", reason }]);
  });

  it("takes a scan as a number or as text", () => {
    expect(matchTriggers(message({ path: "/a", scan: "7" }), [trigger({ scan: 7 })]).matched).toHaveLength(1);
  });
});
