import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fitsConstraint } from "../../src/beamtime/constraint.ts";

describe("a constraint and a node's features", () => {
  it.each([
    ["gpu", ["gpu", "AP"], true],
    ["gpu", ["cpu"], false],
    ["gpu&AP", ["gpu", "AP"], true],
    ["gpu&AP", ["gpu"], false],
    ["gpu,AP", ["gpu"], false],
    ["gpu | cpu", ["cpu"], true],
    ["A100|H100&AP", ["A100"], false],
    ["A100|(H100&AP)", ["A100"], true],
    ["!gpu", ["cpu"], true],
    ["[rack1|rack2]", ["rack2"], true],
    ["[rack1|rack2]", ["rack3"], false],
    ["[gpu*2&cpu*4]", ["cpu"], true],
    ["gpu*2", ["gpu"], true],
  ])("%s on a node with %j: %s", (constraint, features, fits) => {
    expect(fitsConstraint(constraint, features)).toBe(fits);
  });

  it.each(["", "gpu&", "(gpu", "gpu)", "gpu cpu", "gpu;reboot", "&", "gpu**2"])(
    "%j is not understood, and left to Slurm",
    (constraint) => {
      expect(fitsConstraint(constraint, ["gpu"])).toBeUndefined();
    },
  );

  it("that has no end is left to Slurm too", () => {
    for (const constraint of ["(".repeat(500_000), "gpu&".repeat(250_000) + "gpu"]) {
      expect(fitsConstraint(constraint, ["gpu"])).toBeUndefined();
    }
  });

  it("answers whatever the text is", () => {
    fc.assert(
      fc.property(fc.string(), fc.array(fc.string()), (constraint, features) => {
        expect([true, false, undefined]).toContain(fitsConstraint(constraint, features));
      }),
    );
  });
});
