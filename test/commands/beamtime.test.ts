import { describe, expect, it } from "vitest";
import type { OnlineSession } from "../../src/beamtime/session.ts";
import { reservationReports, sessionLines, type SessionReport } from "../../src/commands/beamtime.ts";
import type { SlurmNode, SlurmNow, SlurmReservation } from "../../src/slurm/slurm-now.ts";

const AT = 1_800_000_000;
const node = (name: string, changes: Partial<SlurmNode> = {}): [string, SlurmNode] => [
  name,
  { name, features: ["cpu"], isIdle: true, isUp: true, idleCpus: 8, ...changes },
];
const reservation = (name: string, nodes: string[], hours: number): [string, SlurmReservation] => [
  name,
  { name, partition: "ponline", nodes, start: AT - 60, end: AT + hours * 3600, users: ["bt"] },
];
const now: SlurmNow = {
  at: AT,
  pending: 0,
  nodes: new Map([
    node("n1"),
    node("n2", { isIdle: false, idleCpus: 3, features: ["gpu"] }),
    node("n3", { isIdle: false, isUp: false }),
    node("n4"),
  ]),
  reservations: new Map([
    reservation("11010000_2", ["n4"], 2),
    reservation("11010000", ["n1", "n2", "n3"], 8),
    reservation("11010000_10", ["n4"], 2),
    reservation("other_1", ["n4"], 2),
  ]),
};
const session: OnlineSession = {
  ...{
    kind: "beamtime",
    isOpen: true,
    id: "11010000",
    beamline: "p11",
    metadataFile: "/gpfs/current/m.json",
  },
  roots: { beamline: "/gpfs/current", core: "/asap3/x", node: "/beamline/p11/current" },
  ...{ eventStart: "2026-11-21 09:00:00", eventEnd: "2026-11-22 09:00:00", asapo: null },
  online: {
    account: "bt",
    privateKey: { file: "/gpfs/current/shared/id_rsa", within: "/gpfs/current" },
    nodes: ["n1", "n4", "n9"],
    reservations: [
      { name: "11010000", partition: "ponline", nodes: ["n1", "n4"] },
      { name: "gone", partition: "ponline", nodes: ["n9"] },
    ],
  },
};
const { roots, online, ...facts } = session;
const report: SessionReport = {
  ...{ ...facts, paths: roots, eventSecondsLeft: 3600, asapoEndpoint: "asapo:8400", account: online.account },
  privateKey: { file: online.privateKey.file, mode: "600", type: "ssh-ed25519" },
  ...{ reservations: [], error: null },
};

describe("the reservations of a session", () => {
  it("are those that the metadata file names, and the numbered ones that Slurm has beside them", () => {
    const names = reservationReports(session, now).map(({ name, slurm }) => [name, slurm !== null]);
    expect(names).toEqual([
      ["11010000", true],
      ["gone", false],
      ["11010000_10", true],
      ["11010000_2", true],
    ]);
  });

  it("have Slurm's nodes with their states, and those of the file that were replaced", () => {
    const [first] = reservationReports(session, now);
    expect(first?.slurm).toMatchObject({ secondsLeft: 8 * 3600, secondsToStart: 0, users: ["bt"] });
    expect(first?.nodes.map(({ name, state }) => [name, state])).toEqual([
      ["n1", "idle"],
      ["n2", "in use"],
      ["n3", "down"],
      ["n4", "replaced"],
    ]);
    expect(first?.idleNodes).toEqual(["n1"]);
  });
});

describe("a reservation whose end Slurm does not say", () => {
  it.each([Infinity, 1e15, -1, 0, NaN])("%s: is shown, and says so", (end) => {
    const [name, one] = reservation("11010000", ["n1"], 8);
    const unclear = { ...now, reservations: new Map([[name, { ...one, start: 0, end }]]) };
    const [first] = reservationReports(session, unclear);
    expect(first?.slurm).toMatchObject({ start: null, end: null, secondsToStart: 0, secondsLeft: null });
    const lines = sessionLines({ ...report, reservations: reservationReports(session, unclear) });
    expect(lines.join("\n")).toContain("with an end that Slurm does not say");
  });
});

describe("a session for a person", () => {
  it("has one line for each fact, and for each reservation and node", () => {
    expect(sessionLines({ ...report, reservations: reservationReports(session, now).slice(0, 2) })).toEqual([
      "beamtime 11010000 at p11: open",
      "  at beamline    /gpfs/current",
      "  on core        /asap3/x",
      "  on nodes       /beamline/p11/current",
      "  metadata file  /gpfs/current/m.json",
      "  event          2026-11-21 09:00:00 to 2026-11-22 09:00:00, 1 h 0 min left",
      "  asapo          asapo:8400",
      "  account        bt",
      "  private key    /gpfs/current/shared/id_rsa  (mode 600, ssh-ed25519)",
      expect.stringMatching(
        /^ {2}reservation {4}11010000, partition ponline, until .*, 8 h 0 min left, 1 of 3 nodes idle$/,
      ),
      "                 n1  idle                          cpu",
      "                 n2  in use, 3 CPUs idle           gpu",
      "                 n3  down                          cpu",
      "                 n4  no longer in the reservation  cpu".replace(
        "reservation  cpu",
        "reservation  cpu",
      ),
      "  reservation    gone, partition ponline, UNKNOWN to Slurm",
      "                 n9  unknown",
    ]);
  });

  it("says what is missing: online resources, an end in the past, a session that is not open", () => {
    const text = sessionLines({
      ...report,
      isOpen: false,
      eventSecondsLeft: -7200,
      account: null,
      privateKey: null,
    }).join("\n");
    expect(text).toContain("NOT open at the beamline");
    expect(text).toContain("OVER for 2 h 0 min");
    expect(text).toContain("no job can run for it");
  });
});
