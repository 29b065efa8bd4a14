import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseMetadata } from "../../src/beamtime/metadata.ts";
import { Deferred } from "../../src/errors.ts";

/** The beamtime file of 2022, from the public sample in pmiddend/amarcord, names shortened. */
const of2022 = {
  applicant: {
    email: "a@cfel.de",
    institute: "DESY",
    lastname: "Dampf",
    userId: "1337",
    username: "H_Dampf",
  },
  asapo: {
    beamtimeClbtTokenPath: "shared/asapo-token-clbt.txt",
    beamtimeTokenPath: "shared/asapo-token.txt",
    endpoint: "asapo-ps-0.desy.de:8400",
  },
  beamline: "p11",
  beamlineAlias: "P11",
  beamtimeId: "11010000",
  contact: "Hans Dampf",
  corePath: "/asap3/petra3/gpfs/p11/2022/data/11010000",
  eventEnd: "2022-04-06 01:00:00",
  eventStart: "2022-04-04 09:00:00",
  generated: "2022-03-24 14:35:01",
  onlineAnalysis: {
    reservedNodes: ["max-node1", "max-node2"],
    slurmPartition: "ponline_p11",
    slurmReservation: "11010000",
    sshPrivateKeyPath: "shared/id_rsa",
    sshPublicKeyPath: "shared/id_rsa.pub",
    userAccount: "bttest",
  },
  proposalType: "II",
  retentionPeriod: "onsite",
  unixId: "None",
  users: { doorDb: ["hdampf"], special: [], unknown: [] },
};

const parse = (file: object) => parseMetadata(JSON.stringify(file), "file");
const withOnline = (changes: object) =>
  parse({ ...of2022, onlineAnalysis: { ...of2022.onlineAnalysis, ...changes } });

describe("parseMetadata", () => {
  it("reads today's file, and keeps what it does not know", () => {
    expect(parse(of2022)).toMatchObject({
      kind: "beamtime",
      id: "11010000",
      eventEnd: "2022-04-06 01:00:00",
      online: {
        reservations: [{ name: "11010000", partition: "ponline_p11", nodes: ["max-node1", "max-node2"] }],
        privateKeyPath: "shared/id_rsa",
        account: "bttest",
      },
      asapo: {
        endpoint: "asapo-ps-0.desy.de:8400",
        tokenPath: "shared/asapo-token.txt",
        readOnlyTokenPath: "shared/asapo-token-clbt.txt",
      },
      document: { retentionPeriod: "onsite", beamlineAlias: "P11" },
    });
  });

  it("reads the spellings of early 2020, without online resources", () => {
    const of2020 = {
      ...{ beamline_alias: "P02.1", beamline: "p02.1", beamtimeId: "11111111", contact: "None" },
      ...{
        "event-start": "2020-01-01 00:00:00",
        "event-end": "2020-01-02 00:00:00",
        users: { "door-db": ["x"] },
      },
      corePath: "/asap3/petra3/gpfs/p02.1/2020/data/11111111/",
    };
    expect(parse(of2020)).toMatchObject({
      eventStart: "2020-01-01 00:00:00",
      eventEnd: "2020-01-02 00:00:00",
      corePath: "/asap3/petra3/gpfs/p02.1/2020/data/11111111",
      online: undefined,
      asapo: undefined,
    });
  });

  it("reads the asapo tokens where they stood before 2021-10-27", () => {
    const older = { ...of2022, asapo: undefined };
    const onlineAnalysis = {
      ...of2022.onlineAnalysis,
      asapoBeamtimeTokenPath: "/shared/asapo_token",
      asapoBeamtimeClbtTokenPath: "/shared/asapo_clbt_token",
    };
    expect(parse({ ...older, onlineAnalysis }).asapo).toEqual({
      endpoint: undefined,
      tokenPath: "/shared/asapo_token",
      readOnlyTokenPath: "/shared/asapo_clbt_token",
    });
  });

  it("reads a commissioning run's file, whose beamline is in capitals", () => {
    const file = {
      ...{ beamline: "P04", corePath: "/asap3/petra3/gpfs/p04/2021/commissioning/c20210823_000_MAA" },
      ...{ generated: "2021-08-23 09:39:09", id: "c20210823_000_MAA", tag: "MAA" },
    };
    expect(parse(file)).toMatchObject({
      kind: "commissioning",
      id: "c20210823_000_MAA",
      beamline: "p04",
      tag: "MAA",
    });
  });

  const two = [
    { name: "1", partition: "ponline", nodes: ["a"] },
    { name: "1_1", partition: "ponline", nodes: ["b", "c"] },
  ];
  it.each([
    [
      "lists",
      { slurmReservation: ["1", "1_1"], slurmPartition: "ponline", reservedNodes: [["a"], ["b", "c"]] },
      two,
    ],
    [
      "commas",
      { slurmReservation: "1, 1_1", slurmPartition: "ponline,ponline", reservedNodes: [["a"], ["b", "c"]] },
      two,
    ],
    [
      "nodes by name",
      {
        slurmReservation: "1,1_1",
        slurmPartition: "ponline",
        reservedNodes: { "1": ["a"], "1_1": ["b", "c"] },
      },
      two,
    ],
    [
      "partitions of their own",
      { slurmReservation: ["1", "1_1"], slurmPartition: ["cpu", "gpu"], reservedNodes: [["a"], ["b"]] },
      [
        { name: "1", partition: "cpu", nodes: ["a"] },
        { name: "1_1", partition: "gpu", nodes: ["b"] },
      ],
    ],
  ])("brings several reservations, written as %s, into one shape", (_, changes, expected) => {
    expect(withOnline(changes).online?.reservations).toEqual(expected);
  });

  it("gives every reservation all nodes where one flat list has them", () => {
    const changes = { slurmReservation: ["1", "1_1"], reservedNodes: ["a", "b"] };
    expect(withOnline(changes).online?.reservations.map(({ nodes }) => nodes)).toEqual([
      ["a", "b"],
      ["a", "b"],
    ]);
  });

  it.each([
    ["no id", { beamtimeId: undefined }],
    ["a relative corePath", { corePath: "asap3/x" }],
    ["no account", { onlineAnalysis: { ...of2022.onlineAnalysis, userAccount: "" } }],
    ["no nodes", { onlineAnalysis: { ...of2022.onlineAnalysis, reservedNodes: [] } }],
    ["no reservation", { onlineAnalysis: { ...of2022.onlineAnalysis, slurmReservation: " , " } }],
  ])("refuses a file with %s", (_, changes) => {
    expect(() => parse({ ...of2022, ...changes })).toThrow(Deferred);
  });

  it("either parses or refuses any text", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        try {
          parseMetadata(text, "file");
        } catch (error) {
          expect(error).toBeInstanceOf(Deferred);
        }
      }),
    );
  });
});
