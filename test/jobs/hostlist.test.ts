import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { expandHostlist } from "../../src/jobs/hostlist.ts";

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
  });
});
