import { describe, expect, it } from "vitest";
import { readStartOptions, requireSensible, type TypedOptions } from "../../src/facility/start-options.ts";
import type { AskedResources, OpenSession } from "../../src/facility/state.ts";
import { errorOf } from "./error-of.ts";

function preStarted(asked: Partial<AskedResources> = {}, proposalType = "H"): OpenSession {
  return {
    ...{ kind: "beamtime", id: "11010000", beamline: "p11", tag: null, proposalType },
    ...{ asapo: false, archive: false, corePath: "/asap3/x", beamlinePath: null, account: null },
    asked: { resources: "common", feature: null, nodes: null, ...asked },
    ...{ reservations: [], leftReservations: [], closing: false },
  };
}
const check = (typed: TypedOptions, before?: OpenSession) => requireSensible(readStartOptions(typed), before);

describe("readStartOptions", () => {
  it("has a reservation of eight hours on common nodes unless asked otherwise", () => {
    expect(readStartOptions({ online: true })).toEqual({
      ...{ preStart: false, online: true, choosesNodes: false, asapo: false, archive: false },
      asked: { resources: "common", feature: null, nodes: null },
      ...{ proposalType: null, seconds: 8 * 3600 },
    });
    expect(readStartOptions({ duration: "90s" }).seconds).toBe(90);
    expect(readStartOptions({ features: "AP:AC", nodes: "1:1" }).asked.feature).toBe("AP:AC");
  });

  it.each<[TypedOptions, string]>([
    [{ resources: "all" }, "--resources"],
    [{ feature: "gpu", features: "gpu" }, "--features"],
    [{ feature: "gpu&" }, "--feature"],
    [{ nodes: "two" }, "--nodes"],
    [{ duration: "8" }, "--duration"],
    [{ proposalType: "p" }, "proposal type"],
  ])("refuses %j", (typed, named) => {
    const error = errorOf(() => readStartOptions(typed));
    expect(error.code).toBe("wrong-usage");
    expect(error.message).toContain(named);
  });
});

describe("requireSensible", () => {
  it.each<[TypedOptions]>([
    [{}],
    [{ online: true, nodes: "2", feature: "gpu" }],
    [{ preStart: true, resources: "dedicated" }],
    [{ online: true, proposalType: "P", resources: "dedicated", archive: true }],
    [{ proposalType: "P", archive: true }],
  ])("takes %j", (typed) => {
    expect(() => check(typed)).not.toThrow();
  });

  it.each<[TypedOptions, string]>([
    [{ online: true, preStart: true }, "--pre-start and --online"],
    [{ nodes: "2" }, "say which nodes"],
    [{ feature: "gpu" }, "say which nodes"],
    [{ resources: "common" }, "say which nodes"],
    [{ online: true, proposalType: "P" }, "industry"],
    [{ preStart: true, proposalType: "P" }, "industry"],
    [{ online: true, archive: true }, "--archive"],
    [{ archive: true, proposalType: "II" }, "--archive"],
  ])("refuses %j", (typed, named) => {
    const error = errorOf(() => check(typed));
    expect(error.code).toBe("wrong-usage");
    expect(error.message).toContain(named);
  });

  it("wants the options of the pre-start again, and says which", () => {
    const before = preStarted({ resources: "dedicated", feature: "AP:AC", nodes: "1:3" });
    const same = { resources: "dedicated", feature: "AP:AC", nodes: "1:3" };
    expect(() => check(same, before)).not.toThrow();
    expect(() => check({ ...same, online: true }, before)).not.toThrow();
    for (const other of [{}, { ...same, nodes: "3:1" }, { resources: "dedicated" }]) {
      const { code, hint } = errorOf(() => check(other, before));
      expect(code).toBe("wrong-usage");
      expect(hint).toBe("Repeat exactly these: --resources dedicated --feature AP:AC --nodes 1:3");
    }
    const constraint = preStarted({ feature: "P100|A100" });
    expect(errorOf(() => check({}, constraint)).hint).toContain("--feature 'P100|A100'");
    expect(errorOf(() => check({ nodes: "2" }, preStarted())).message).toContain("without");
    expect(() => check({ resources: "common" }, preStarted())).not.toThrow();
  });

  it("remembers the proposal type of the pre-start", () => {
    const before = preStarted({ resources: "dedicated" }, "P");
    expect(() => check({ resources: "dedicated", archive: true }, before)).not.toThrow();
    expect(errorOf(() => check({ resources: "dedicated", proposalType: "H" }, before)).message).toContain(
      "type P",
    );
  });
});
