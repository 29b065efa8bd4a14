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
    expect(withOnline(changes).online?.reservations?.map(({ nodes }) => nodes)).toEqual([
      ["a", "b"],
      ["a", "b"],
    ]);
  });

  it.each([
    ["no id", { beamtimeId: undefined }],
    ["an id that is no folder's name", { beamtimeId: "../1" }],
    ["a beamline that is no folder's name", { beamline: "../p11" }],
    ["a relative corePath", { corePath: "asap3/x" }],
    ["a corePath that leads out", { corePath: "/asap3/petra3/../../etc" }],
    ["the root as its corePath", { corePath: "/./" }],
    ["a corePath of two lines", { corePath: "/asap3/a\nb" }],
    ["a corePath of NUL", { corePath: "/asap3/a\0b" }],
  ])("refuses a file with %s", (_, changes) => {
    expect(() => parse({ ...of2022, ...changes })).toThrow(Deferred);
  });

  it.each([
    ["with a byte order mark", (text: string) => `\uFEFF${text}`],
    ["with DOS line ends", (text: string) => text.replaceAll("\n", "\r\n")],
    ["with the id as a number", (text: string) => text.replace('"11010000",', "11010000,")],
    [
      "with the reservation as a number",
      (text: string) => text.replace('Reservation": "11010000"', 'Reservation": 11010000'),
    ],
    ["with spaces around the id", (text: string) => text.replace('"11010000",', '" 11010000 ",')],
    ["with // in corePath", (text: string) => text.replace("/asap3/petra3/", "//asap3//petra3///")],
    ["with . in corePath", (text: string) => text.replace("/gpfs/", "/./gpfs/./")],
    ["with .. in corePath", (text: string) => text.replace("/gpfs/", "/x/../gpfs/")],
    ["with a slash behind corePath", (text: string) => text.replace('data/11010000"', 'data/11010000//"')],
    [
      "with the nodes in one text",
      (text: string) => text.replace(/\[\s*"max-node1",\s*"max-node2"\s*\]/, '"max-node1,max-node2"'),
    ],
    [
      "with the nodes in Slurm's short form",
      (text: string) => text.replace(/\[\s*"max-node1",\s*"max-node2"\s*\]/, '"max-node[1-2]"'),
    ],
    [
      "with the short form in a list",
      (text: string) => text.replace(/"max-node1",\s*"max-node2"/, '"max-node[1,2]"'),
    ],
  ])("reads a file %s as it is meant", (_, change) => {
    const text = JSON.stringify(of2022, undefined, 4);
    const changed = change(text);
    expect(changed).not.toBe(text);
    const facts = (file: string) => ({ ...parseMetadata(file, "file"), document: null });
    expect(facts(changed)).toEqual(facts(text));
  });

  it.each([
    ["max-p11-[001-003]", ["max-p11-001", "max-p11-002", "max-p11-003"]],
    ["a,b", ["a", "b"]],
    [" a , b.desy.de ", ["a", "b.desy.de"]],
    [
      ["a[1-2]", "b"],
      ["a1", "a2", "b"],
    ],
    [
      ["131.169.1.2", "fe80::1"],
      ["131.169.1.2", "fe80::1"],
    ],
  ])("reads the nodes %j", (reservedNodes, expected) => {
    expect(withOnline({ reservedNodes }).online).toMatchObject({
      nodes: expected,
      reservations: [{ name: "11010000", nodes: expected }],
    });
  });

  it("gives each reservation its text, where a text names several nodes", () => {
    const changes = { slurmReservation: ["1", "1_1"], reservedNodes: ["a[1-2]", "b"] };
    expect(withOnline(changes).online?.reservations?.map(({ nodes }) => nodes)).toEqual([
      ["a1", "a2"],
      ["b"],
    ]);
  });

  it.each(["reservedNodes", "slurmReservation", "sshPrivateKeyPath", "userAccount"] as const)(
    "reads a file without %s, and says that it is missing",
    (key) => {
      for (const value of [undefined, null, "", [], "  "]) {
        const { failure, ...online } = withOnline({ [key]: value }).online ?? {};
        expect(Object.keys(failure ?? {})).toEqual([key]);
        expect(Object.values(online).filter((one) => one === null)).toHaveLength(1);
      }
    },
  );

  it("needs no partition: Slurm knows that of a reservation", () => {
    const { reservations, failure } = withOnline({ slurmPartition: undefined }).online ?? {};
    expect([reservations?.[0]?.partition, failure]).toEqual([null, {}]);
  });

  it.each([
    ["reservedNodes", "-oProxyCommand=x"],
    ["reservedNodes", ["good", "-oProxyCommand=x"]],
    ["reservedNodes", ["a b"]],
    ["reservedNodes", ["a\nb"]],
    ["reservedNodes", ["a;b"]],
    ["reservedNodes", ["a$(b)"]],
    ["reservedNodes", ["user@a"]],
    ["reservedNodes", ["../a"]],
    ["reservedNodes", ["a".repeat(254)]],
    ["reservedNodes", ["[1]".repeat(20_000)]],
    ["reservedNodes", [1, {}]],
    ["reservedNodes", { "1": "a", "2": [3] }],
    ["userAccount", "-oProxyCommand=x"],
    ["userAccount", "a b"],
    ["userAccount", { name: "x" }],
    ["slurmReservation", "-x"],
    ["slurmReservation", "a\nb"],
    ["slurmReservation", { a: 1 }],
    ["sshPrivateKeyPath", "a\0b"],
    ["sshPrivateKeyPath", ["a"]],
  ])("takes no %s like %j", (key, value) => {
    const failure = withOnline({ [key]: value }).online?.failure ?? {};
    expect(Object.keys(failure)).toEqual([key]);
    expect(Object.values(failure)[0]).toMatch(/^(cannot be|is not|has what is no)/);
  });

  it.each([
    ["one text of more than 4,096 nodes", ["max[1-4097]"]],
    ["a thousand texts that stand for millions", Array.from({ length: 1000 }, () => "n[0-999999999]")],
    ["texts of a few nodes that are too many together", Array.from({ length: 1000 }, () => "n[1-5]")],
    ["nodes by name that are too many", Object.fromEntries([1, 2].map((name) => [name, "n[1-4097]"]))],
    ["a list for each of many reservations", Array.from({ length: 4096 }, () => ["n[1-60000]"])],
    [
      "such lists by name",
      Object.fromEntries(Array.from({ length: 4096 }, (_, at) => [`r${at}`, "n[1-4000]"])),
    ],
    ["lists without end", Array.from({ length: 100_000 }, () => ["n"])],
    ["brackets within brackets", ["n[0-99][0-99][0-99][0-99][0-99]"]],
  ])("takes no %s, and says so soon", (_, reservedNodes) => {
    const begun = performance.now();
    const { nodes, reservations, failure } = withOnline({ reservedNodes }).online ?? {};
    expect(performance.now() - begun).toBeLessThan(5000);
    expect(Object.keys(failure ?? {})).toEqual(["reservedNodes"]);
    expect([...(nodes ?? []), ...(reservations ?? []).flatMap((one) => one.nodes)]).toEqual([]);
  });

  it("takes no names of reservations without end", () => {
    const names = Array.from({ length: 100_000 }, (_, number) => `r${number}`);
    for (const slurmReservation of [names, names.join(",")]) {
      const { reservations, failure } = withOnline({ slurmReservation }).online ?? {};
      expect([reservations, failure]).toEqual([
        null,
        { slurmReservation: "has 100000 names; 100 are the most" },
      ]);
    }
  });

  it("takes as many as 4,096", () => {
    expect(withOnline({ reservedNodes: ["max[1-4096]"] }).online?.nodes).toHaveLength(4096);
  });

  it("names no host that is none, whatever the nodes are", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.json(),
          fc.string().map((text) => JSON.stringify(text)),
        ),
        (json) => {
          const { nodes, reservations } =
            withOnline({ reservedNodes: JSON.parse(json) as unknown }).online ?? {};
          for (const name of [...(nodes ?? []), ...(reservations ?? []).flatMap((one) => one.nodes)]) {
            expect(name).toMatch(/^[A-Za-z0-9_:][A-Za-z0-9_.:-]*$/);
          }
        },
      ),
    );
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

it("a path that is longer than a file's can be is none", () => {
  const long = `/asap3/${"x".repeat(500_000)}${"/a/..".repeat(100_000)}/11010000`;
  expect(() => parseMetadata(JSON.stringify({ ...of2022, corePath: long }), "m.json")).toThrow(
    expect.objectContaining({ code: "metadata-unreadable" }),
  );
  expect(Object.keys(withOnline({ sshPrivateKeyPath: long }).online?.failure ?? {})).toEqual([
    "sshPrivateKeyPath",
  ]);
});

it("a file that is nested too deep is unreadable, in words", () => {
  for (const extra of [
    "[".repeat(100_000) + "]".repeat(100_000),
    '{"a":'.repeat(50_000) + "1" + "}".repeat(50_000),
  ]) {
    const text = JSON.stringify(of2022).replace(/^\{/, `{"extra":${extra},`);
    expect(() => parseMetadata(text, "m.json")).toThrow(
      expect.objectContaining({
        code: "metadata-unreadable",
        message: "The metadata file m.json cannot be read: it is nested more than 250 levels deep.",
      }),
    );
  }
});
