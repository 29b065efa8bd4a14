import { describe, expect, it } from "vitest";
import { NODES } from "../../src/facility/nodes.ts";
import { areAllNodesUp, describeSlurm, slurmConf } from "../../src/facility/slurm.ts";
import { openapiPlugin } from "../../src/facility/slurmrestd.ts";
import type { FacilityState } from "../../src/facility/state.ts";

const state: FacilityState = {
  version: 3,
  dir: "/tmp/f",
  syncDelaySeconds: 0,
  rabbitmqPassword: "secret",
  ports: {
    rabbitmq: [1, 2, 3, 4],
    slurm: [21000, ...NODES.map((_, index) => 21001 + index), 21009],
    ssh: [5],
  },
  processes: {},
};

describe("slurmConf", () => {
  it("gives each node its own port and features", () => {
    const lines = slurmConf(state, { user: "somebody", address: "127.0.0.1" }).split("\n");
    expect(lines).toContain("SlurmUser=somebody");
    expect(lines).toContain("SlurmctldPort=21000");
    expect(lines).toContain("AuthAltParameters=jwt_key=/tmp/f/slurm/jwt.key");
    const third = lines.find((line) => line.startsWith("NodeName=max-wn003"));
    expect(third).toContain("Port=21003");
    expect(third).toContain("Feature=gpu,P100");
  });

  it("leaves room for eight jobs that do not say what memory they need", () => {
    const conf = slurmConf(state, { user: "somebody", address: "127.0.0.1" });
    const [, perCpu] = /^DefMemPerCPU=(\d+)$/m.exec(conf) ?? [];
    const [, cpus, perNode] = /CPUs=(\d+) RealMemory=(\d+)/.exec(conf) ?? [];
    expect(Number(cpus)).toBe(8);
    expect(Number(perCpu) * 8).toBeLessThanOrEqual(Number(perNode));
  });

  it("has a partition for all beamlines, and one for the beamline with nodes of its own", () => {
    const partitions = slurmConf(state, { user: "somebody", address: "127.0.0.1" }).match(
      /^PartitionName=.*?Default=\w+/gm,
    );
    expect(partitions).toEqual([
      "PartitionName=ponline Nodes=max-wn001,max-wn002,max-wn003,max-display001 Default=YES",
      "PartitionName=ponline_p11 Nodes=max-p11-001,max-p11-002,max-p11-003,max-p11-004 Default=NO",
    ]);
  });
});

describe("describeSlurm", () => {
  it("says where each node is, and the REST API", () => {
    const { partition, nodes, restUrl } = describeSlurm(state);
    expect(partition).toBe("ponline");
    expect(restUrl).toBe("http://127.0.0.1:21009");
    expect(nodes.at(-1)).toEqual({
      name: "max-p11-004",
      features: ["AC", "gpu", "H100"],
      partition: "ponline_p11",
      port: 21008,
    });
  });
});

describe("openapiPlugin", () => {
  it("is the one that needs no slurmdbd, of whatever Slurm is installed", () => {
    const debian12 = ["openapi_dbv0_0_38.so", "openapi_v0_0_37.so", "openapi_v0_0_38.so", "auth_jwt.so"];
    expect(openapiPlugin(debian12)).toBe("openapi/v0.0.38");
    expect(openapiPlugin(["openapi_slurmctld.so", "openapi_slurmdbd.so"])).toBe("slurmctld");
  });
});

describe("areAllNodesUp", () => {
  const listing = (...states: string[]) =>
    NODES.map(({ name }, index) => `${name} ${states[index] ?? "idle"}\n`).join("");

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
