import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { expandHostlist } from "../../src/slurm/hostlist.ts";

describe("Slurm's list of nodes", () => {
  it.each([
    ["max-p11-[001-003]", ["max-p11-001", "max-p11-002", "max-p11-003"]],
    ["max-p11-[001,003],max-wn001", ["max-p11-001", "max-p11-003", "max-wn001"]],
    ["max[9-11]", ["max9", "max10", "max11"]],
    ["r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]],
    ["max-wn001", ["max-wn001"]],
    ["(null)", []],
    ["", []],
    ["odd[x]", ["odd[x]"]],
  ])("%s", (text, hosts) => {
    expect(expandHostlist(text)).toEqual(hosts);
  });

  it("ends whatever the text is", () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[a-z0-9[\],-]{0,30}$/), (text) => {
        expect(expandHostlist(text).length).toBeLessThanOrEqual(65_536);
      }),
    );
    expect(expandHostlist("a[0-999999999]").length).toBe(65_536);
    expect(expandHostlist("a[0-999999999],b,c[1-9]", { most: 3 })).toEqual(["a0", "a1", "a2"]);
  });

  it.each([
    ["a range with nothing in it, beside a large one", "a[0-999999999][2-1]", 65_536],
    ["what is longer than any name", `a[1-65536]${"x".repeat(1_000_000)}`, 1],
    ["brackets in each other's place", `${"[".repeat(500_000)}1-9${"]".repeat(500_000)}`, 1],
  ])("ends soon for %s", (_, text, count) => {
    expect(expandHostlist(text).length).toBe(count);
  });
});
