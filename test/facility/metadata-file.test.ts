import { describe, expect, it } from "vitest";
import { metadataFileName, metadataText } from "../../src/facility/metadata-file.ts";

const facts = {
  beamtimeId: "11010000",
  beamline: "p11",
  corePath: "/tmp/f/asap3/petra3/gpfs/p11/2026/data/11010000",
  eventStart: new Date(2026, 3, 4, 9, 0, 0),
  eventEnd: new Date(2026, 3, 6, 1, 0, 0),
  generated: new Date(2026, 2, 24, 14, 35, 1),
};
const parse = (text: string) => JSON.parse(text) as Record<string, unknown>;

describe("metadataText", () => {
  it("has the keys of the facility's own files", () => {
    const online = {
      reservedNodes: ["max-p11-001", "max-p11-002"],
      slurmPartition: "ponline",
      slurmReservation: "11010000",
      userAccount: "bttest",
    };
    const metadata = parse(metadataText({ ...facts, onlineAnalysis: online }));
    expect(metadata).toMatchObject({
      beamline: "p11",
      beamlineAlias: "P11",
      beamtimeId: "11010000",
      corePath: facts.corePath,
      eventStart: "2026-04-04 09:00:00",
      eventEnd: "2026-04-06 01:00:00",
      generated: "2026-03-24 14:35:01",
      onlineAnalysis: {
        ...online,
        sshPrivateKeyPath: "shared/id_rsa",
        sshPublicKeyPath: "shared/id_rsa.pub",
      },
      proposalType: "H",
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

  it("has no onlineAnalysis without online resources", () => {
    expect(parse(metadataText(facts))).not.toHaveProperty("onlineAnalysis");
  });

  it("belongs into a file that has the id in its name", () => {
    expect(metadataFileName("11010000")).toBe("beamtime-metadata-11010000.json");
  });
});
