import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import {
  corePathOf,
  nextCommissioningId,
  goodBeamline,
  requireGoodId,
  requireGoodTag,
} from "../../src/facility/session-names.ts";
import { errorOf } from "./error-of.ts";

const dir = mkdtempSync(join(tmpdir(), "mento-names-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const day = new Date(2026, 3, 4, 23, 59);

describe("the names of sessions", () => {
  it("number a day's commissioning runs, at whichever beamline", () => {
    expect(nextCommissioningId(dir, "apr_22", day)).toBe("c20260404_000_apr_22");
    for (const [beamline, id] of [
      ["p11", "c20260404_000_apr_22"],
      ["p09", "c20260404_007_MAA"],
      ["p09", "c20260404_strange"],
      ["p11", "c20260403_020_x"],
    ] as const) {
      mkdirSync(corePathOf(dir, "commissioning", beamline, id, day), { recursive: true });
    }
    expect(nextCommissioningId(dir, "x", day)).toBe("c20260404_008_x");
    expect(nextCommissioningId(dir, "x", new Date(2026, 3, 5))).toBe("c20260405_000_x");
  });

  it.each(["toolong99", "", "a b", "../x", "ä"])("refuse the tag %j", (tag) => {
    expect(errorOf(() => requireGoodTag(tag)).code).toBe("wrong-usage");
  });

  it("take a beamline in capitals, as DESY's pages write it", () => {
    expect(["P9999", "p11", "P02.1"].map(goodBeamline)).toEqual(["p9999", "p11", "p02.1"]);
  });

  it.each(["11", "../p11", "", "p11/x", "p11;id"])("refuse the beamline %j", (beamline) => {
    expect(errorOf(() => goodBeamline(beamline)).code).toBe("wrong-usage");
  });

  it.each(["../x", "1101 0000", "", "_x", "123456789012345678901"])("refuse the id %j", (id) => {
    expect(errorOf(() => requireGoodId(id)).code).toBe("wrong-usage");
  });
});
