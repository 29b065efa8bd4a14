import { describe, expect, it } from "vitest";
import { areAllNodesUp, slurmConf } from "../../src/facility/slurm.ts";
import type { FacilityState } from "../../src/facility/state.ts";

const state: FacilityState = {
  version: 1,
  dir: "/tmp/f",
  syncDelaySeconds: 0,
  rabbitmqPassword: "secret",
  ports: { rabbitmq: [1, 2, 3, 4], slurm: [21000, 21001, 21002, 21003, 21004], ssh: [5] },
  processes: {},
};

describe("slurmConf", () => {
  it("gives each node its own port and features", () => {
    const lines = slurmConf(state, "somebody").split("\n");
    expect(lines).toContain("SlurmUser=somebody");
    expect(lines).toContain("SlurmctldPort=21000");
    const third = lines.find((line) => line.startsWith("NodeName=max-p11-003"));
    expect(third).toContain("Port=21003");
    expect(third).toContain("Feature=AP,AC,gpu");
  });
});

describe("areAllNodesUp", () => {
  const listing = (...states: string[]) =>
    states.map((state, index) => `max-p11-00${index + 1} ${state}\n`).join("");

  it("is true when every node can run jobs", () => {
    expect(areAllNodesUp(listing("idle", "mixed", "reserved", "allocated"))).toBe(true);
  });

  it("is false while a node is unknown, down or silent", () => {
    for (const state of ["unknown", "down", "idle*", "drained"]) {
      expect(areAllNodesUp(listing("idle", "idle", "idle", state))).toBe(false);
    }
    expect(areAllNodesUp("")).toBe(false);
  });
});
