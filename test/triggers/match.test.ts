import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { DataReady } from "../../src/messages/data-ready.ts";
import { readTriggerInput, type TriggerInput } from "../../src/messages/trigger-input.ts";
import { globFits } from "../../src/triggers/fits.ts";
import { matchTriggers } from "../../src/triggers/match.ts";
import { Trigger } from "../../src/triggers/trigger-config.ts";
import { jobEnded } from "./job-ended.ts";

const message = (data: DataReady) =>
  readTriggerInput({
    specversion: "1.0",
    id: "1",
    source: "/petra3/p11/eiger",
    type: "mento.data.ready.v1",
    data,
  });
const trigger = (on: object, unless?: object) =>
  Trigger.parse({ name: "t", on, run: ["true"], ...(unless === undefined ? {} : { unless }) });
const why = (input: TriggerInput, on: object, unless?: object) =>
  matchTriggers(input, [trigger(on, unless)]).unmatched[0]?.reason;

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

  const data: DataReady = {
    path: "/gpfs/current/raw/a.h5",
    bytes: 5_000_000,
    detector: "eiger-4m",
    scan: "12",
    sample: "[A]+",
    beamline: "p11",
    beamtimeId: "11010000",
    parameters: {
      exposure: 0.1,
      dark: false,
      poni: null,
      det: { distance: "1.5e3" },
      tags: ["a", "b"],
      "*": 1,
    },
  };

  it.each([
    [{ detector: "eiger*" }, undefined],
    [{ detector: "eiger-?m" }, undefined],
    [{ detector: "pilatus*" }, "detector is eiger-4m; the trigger wants pilatus*"],
    [{ detector: ["lambda", "eiger*"] }, undefined],
    [{ sample: "[A]+" }, undefined],
    [{ sample: "[A]*" }, undefined],
    [{ technique: { exists: false } }, undefined],
    [{ technique: { exists: true } }, "the message has no technique; the trigger wants any value"],
    [{ scan: { exists: false } }, "scan is 12; the trigger wants none"],
    [{ scan: 12 }, undefined],
    [{ scan: { min: 5 } }, undefined],
    [{ scan: { min: 13 } }, "scan is 12; the trigger wants at least 13"],
    [{ scan: { max: 11.5 } }, "scan is 12; the trigger wants at most 11.5"],
    [{ scan: [1, { min: 20, max: 30 }] }, "scan is 12; the trigger wants 1 or 20 to 30"],
    [{ detector: { min: 0 } }, "detector is eiger-4m; the trigger wants at least 0"],
    [{ beamtimeId: 11010000 }, undefined],
    [{ beamline: ["p09", "p1?"] }, undefined],
    [{ source: "*/p11/*" }, undefined],
    [{ source: "/petra3/p09/*" }, "source is /petra3/p11/eiger; the trigger wants /petra3/p09/*"],
    [{ bytes: { min: "4MB", max: "5 MB" } }, undefined],
    [{ bytes: { min: 5_000_001 } }, "bytes is 5000000; the trigger wants at least 5000001"],
    [{ parameters: { exposure: { max: 0.5 }, dark: false } }, undefined],
    [{ parameters: { dark: true } }, "parameters.dark is false; the trigger wants true"],
    [
      { parameters: { poni: { exists: true } } },
      "the message has no parameters.poni; the trigger wants any value",
    ],
    [{ parameters: { poni: { exists: false } } }, undefined],
    [{ parameters: { "det.distance": { min: 1500, max: 1500 } } }, undefined],
    [{ parameters: { "tags[1]": "b" } }, undefined],
    [{ parameters: { tags: "b" } }, undefined],
    [{ parameters: { tags: "c" } }, 'parameters.tags is ["a","b"]; the trigger wants c'],
    [{ parameters: { det: { exists: true } } }, undefined],
    [
      { parameters: { constructor: { exists: true } } },
      "the message has no parameters.constructor; the trigger wants any value",
    ],
  ])("of all fields: %j", (on, reason) => {
    expect(why(message(data), on)).toBe(reason);
  });

  it.each([
    [{ detector: "eiger*" }, "detector is eiger-4m, which the trigger excludes (unless)"],
    [{ detector: "eiger*", scan: { min: 20 } }, undefined],
    [
      { path: "**/raw/**", parameters: { dark: false } },
      "the path /gpfs/current/raw/a.h5 fits **/raw/** and parameters.dark is false, which the trigger excludes (unless)",
    ],
    [{ technique: { exists: false } }, "the message has no technique, which the trigger excludes (unless)"],
    [{ type: "data.ready" }, "it is data.ready, which the trigger excludes (unless)"],
  ])("unless %j", (unless, reason) => {
    expect(why(message(data), {}, unless)).toBe(reason);
  });

  it("several triggers on one message, each with its own reason", () => {
    const triggers = [{}, { scan: 12 }, { scan: 13 }].map((on, index) => ({
      ...trigger(on),
      name: `t${index}`,
    }));
    const { matched, unmatched } = matchTriggers(message(data), triggers);
    expect(matched.map(({ name }) => name)).toEqual(["t0", "t1"]);
    expect(unmatched).toEqual([{ trigger: "t2", reason: "scan is 12; the trigger wants 13" }]);
  });

  it("a path that no file can have fits nothing, at once", () => {
    const long = `/${"a".repeat(4000)}.h5`;
    expect(why(message({ path: long }), { path: "**/*a*a*a*.cbf" })).toMatch(/^the path \/a+… does not fit/);
  });

  it("a path is held against globs as the file that it names", () => {
    const on = { path: "**/raw/*" };
    expect(why(message({ path: "/gpfs/raw/scan/" }), on)).toBeUndefined();
    expect(why(message({ path: "/gpfs/processed/../raw//a.h5" }), on)).toBeUndefined();
    expect(why(message({ path: "/gpfs/raw/../processed/a.h5" }), on)).toContain("does not fit");
    expect(why(message({ path: "/gpfs/raw/../raw/dark/a" }), {}, { path: "**/dark/**" })).toContain(
      "excludes",
    );
  });

  it("a list that holds a null is there", () => {
    const mask = message({ path: "/a", parameters: { mask: [1, null] } });
    expect(why(mask, { parameters: { mask: { exists: false } } })).toContain("the trigger wants none");
    expect(why(mask, { parameters: { mask: { exists: true } } })).toBeUndefined();
  });

  it("values of any size are told from globs at once, and shown in part", () => {
    const parameters = { text: "a".repeat(500_000) };
    const started = Date.now();
    expect(
      why(message({ path: "/a", parameters }), { parameters: { text: "*a*a*a*b" } })?.length,
    ).toBeLessThan(300);
    expect(Date.now() - started).toBeLessThan(5000);
  });

  it("a text of many digits is told from a number at once", () => {
    const data = { path: "/a", sample: "1".repeat(500_000) + "x", scan: ` ${" ".repeat(200_000)}x` };
    const started = Date.now();
    expect(why(message(data), { sample: { min: 1 } })).toContain("the trigger wants at least 1");
    expect(why(message(data), { scan: 7 })).toContain("the trigger wants 7");
    expect(Date.now() - started).toBeLessThan(1000);
  });

  it.each(["7", " +7. ", "7.0", "0.7e1", "70E-1"])("takes %j for the number 7", (scan) => {
    expect(why(message({ path: "/a", scan }), { scan: 7 })).toBeUndefined();
  });

  it("is quick: 20 triggers, thousands of messages a second", () => {
    const triggers = Array.from({ length: 20 }, (_, index) =>
      trigger(
        { path: "**/raw/**/*_master.h5", detector: `eiger-${index}*`, scan: { min: index } },
        { sample: "dark*" },
      ),
    );
    const input = message({ ...data, path: "/gpfs/current/raw/s1/scan_0001_master.h5" });
    const started = performance.now();
    for (let count = 0; count < 5000; count++) matchTriggers(input, triggers);
    // Generous: a machine under load. Compiling globs for each message takes 40 times as long.
    expect(performance.now() - started).toBeLessThan(5000);
  });
});

describe("a job's event", () => {
  const failed = jobEnded({
    type: "job.failed",
    trigger: "azimuthal",
    group: "p11",
    exit: { code: 3, signal: null, reason: "exit-code" },
  });

  it.each([
    [{ type: ["job.failed", "job.lost"] }, undefined],
    [{ type: "job.completed" }, "it is job.failed; the trigger wants job.completed"],
    [{ type: "job.failed", trigger: "azi*" }, undefined],
    [{ type: "job.failed", trigger: ["x", "y"] }, "trigger is azimuthal; the trigger wants x or y"],
    [{ type: "job.failed", group: "p11" }, undefined],
    [{ type: "job.failed", group: "p09" }, "group is p11; the trigger wants p09"],
    [{ type: "job.failed", exitCode: { min: 2, max: 5 } }, undefined],
    [{ type: "job.failed", exitCode: 4 }, "exitCode is 3; the trigger wants 4"],
    [{ type: "job.failed", reason: ["timeout", "exit-code"] }, undefined],
    [{ type: "job.failed", reason: "timeout" }, "reason is exit-code; the trigger wants timeout"],
    [{ type: "job.failed", path: "/asap3/**/*.h5" }, undefined],
    [{ type: "job.failed", technique: "saxs", source: "/det" }, undefined],
    [{ type: "job.failed", sample: "x" }, "the event has no sample; the trigger wants x"],
  ])("%j", (on, reason) => {
    expect(why(failed, on)).toBe(reason);
  });

  it("of a job that a signal ended has no exit code", () => {
    const killed = jobEnded({
      type: "job.failed",
      exit: { code: null, signal: "SIGKILL", reason: "signal" },
    });
    expect(why(killed, { type: "job.failed", exitCode: { min: 1 } })).toContain("the event has no exitCode");
  });

  it("is none of data: a group asked for is that of jobs", () => {
    expect(
      why(message({ path: "/a" }), { type: ["data.ready", "job.failed"], group: "p11" }),
    ).toBeUndefined();
  });
});

describe("globFits", () => {
  it("is what the regular expression would be", () => {
    const text = fc.string({ unit: fc.constantFrom("a", "b", "*", "?", "."), maxLength: 12 });
    fc.assert(
      fc.property(text, text, (glob, value) => {
        const source = glob.replace(/\./g, "\\.").replace(/\*/g, "[^]*").replace(/\?/g, "[^]");
        expect(globFits(glob, value)).toBe(new RegExp(`^${source}$`).test(value));
      }),
    );
  });
});
