import { describe, expect, it } from "vitest";
import { parseMetadata } from "../../src/beamtime/metadata.ts";
import { metadataFileName, metadataText, type SessionFacts } from "../../src/facility/metadata-file.ts";

const account = { name: "bttest", uid: 1, gid: 1, own: true };
const session: SessionFacts["session"] = {
  ...{ kind: "beamtime", id: "11010000", beamline: "p11", tag: null, proposalType: "H", asapo: false },
  ...{ corePath: "/tmp/f/asap3/petra3/gpfs/p11/2026/data/11010000", account: null, reservations: [] },
};
const times = {
  eventStart: new Date(2026, 3, 4, 9, 0, 0),
  eventEnd: new Date(2026, 3, 6, 1, 0, 0),
  generated: new Date(2026, 2, 24, 14, 35, 1),
};
const write = (differing: Partial<SessionFacts["session"]> = {}) =>
  JSON.parse(metadataText({ session: { ...session, ...differing }, ...times })) as Record<string, unknown>;

describe("metadataText", () => {
  it("has the keys of the facility's own files", () => {
    const reservations = [{ name: "11010000", partition: "ponline", nodes: ["max-wn001", "max-wn002"] }];
    const metadata = write({ account, reservations, proposalType: "II" });
    expect(metadata).toMatchObject({
      beamline: "p11",
      beamlineAlias: "P11",
      beamtimeId: "11010000",
      corePath: session.corePath,
      eventStart: "2026-04-04 09:00:00",
      eventEnd: "2026-04-06 01:00:00",
      generated: "2026-03-24 14:35:01",
      onlineAnalysis: {
        reservedNodes: ["max-wn001", "max-wn002"],
        slurmPartition: "ponline",
        slurmReservation: "11010000",
        userAccount: "bttest",
        sshPrivateKeyPath: "shared/id_rsa",
        sshPublicKeyPath: "shared/id_rsa.pub",
      },
      proposalType: "II",
      unixId: "None",
      users: { special: [], unknown: [] },
    });
    const others = [
      "applicant",
      "contact",
      "facility",
      "leader",
      "pi",
      "proposalId",
      "retentionPeriod",
      "title",
    ];
    expect(Object.keys(metadata)).toEqual(expect.arrayContaining(others));
  });

  it("names several reservations in lists that belong together by place, which Mento reads", () => {
    const reservations = [
      { name: "11010000", partition: "ponline_p11", nodes: ["max-p11-001"] },
      { name: "11010000_1", partition: "ponline_p11", nodes: ["max-p11-003", "max-p11-004"] },
    ];
    const facts = { session: { ...session, account, reservations }, ...times };
    expect(JSON.parse(metadataText(facts))).toHaveProperty("onlineAnalysis", {
      reservedNodes: [["max-p11-001"], ["max-p11-003", "max-p11-004"]],
      slurmPartition: ["ponline_p11", "ponline_p11"],
      slurmReservation: ["11010000", "11010000_1"],
      userAccount: "bttest",
      sshPrivateKeyPath: "shared/id_rsa",
      sshPublicKeyPath: "shared/id_rsa.pub",
    });
    expect(parseMetadata(metadataText(facts), "x.json").online?.reservations).toEqual(reservations);
  });

  it("has neither onlineAnalysis nor asapo unless the session has them", () => {
    expect(write()).not.toHaveProperty("onlineAnalysis");
    expect(write()).not.toHaveProperty("asapo");
    expect(write({ asapo: true })).toHaveProperty("asapo", {
      beamtimeClbtTokenPath: "shared/asapo-token-clbt.txt",
      beamtimeTokenPath: "shared/asapo-token.txt",
      endpoint: "127.0.0.1:8400",
    });
  });

  it("is another, smaller document for a commissioning run", () => {
    const corePath = "/tmp/f/asap3/petra3/gpfs/p11/2026/commissioning/c20260404_000_apr22";
    const run = { kind: "commissioning", id: "c20260404_000_apr22", tag: "apr22", corePath } as const;
    const smallest = {
      beamline: "P11",
      corePath,
      generated: "2026-03-24 14:35:01",
      id: "c20260404_000_apr22",
      tag: "apr22",
    };
    expect(write(run)).toEqual(smallest);
    const reservations = [{ name: run.id, partition: "ponline", nodes: ["max-wn001"] }];
    const online = write({ ...run, asapo: true, account, reservations });
    expect(online).toMatchObject({
      ...smallest,
      onlineAnalysis: { slurmReservation: run.id, reservedNodes: ["max-wn001"], userAccount: "bttest" },
    });
    expect(Object.keys(online)).toEqual([
      "asapo",
      "beamline",
      "corePath",
      "generated",
      "id",
      "onlineAnalysis",
      "tag",
    ]);
  });

  it("belongs into a file that has the kind and the id in its name", () => {
    expect(metadataFileName(session)).toBe("beamtime-metadata-11010000.json");
    expect(metadataFileName({ kind: "commissioning", id: "c20260404_000_apr22" })).toBe(
      "commissioning-metadata-c20260404_000_apr22.json",
    );
  });
});
