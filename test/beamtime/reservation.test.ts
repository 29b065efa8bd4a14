import { describe, expect, it } from "vitest";
import { chooseReservation, type ReservationRequirements } from "../../src/beamtime/reservation.ts";
import type { SessionReservation } from "../../src/beamtime/online-analysis.ts";
import { parseSlurmNow } from "../../src/slurm/slurm-now.ts";

/** Recorded from Slurm 22.05.8: `date +@%s`, `SLURM_TIME_FORMAT=%s scontrol -o show reservation`, `sinfo`. */
const SAID = `Welcome to Maxwell
@1795301349
ReservationName=11010000 StartTime=1795301349 EndTime=1795330149 Duration=08:00:00 Nodes=max-p11-[001-002] NodeCnt=2 CoreCnt=16 Features=(null) PartitionName=ponline_p11 Flags=SPEC_NODES TRES=cpu=16 Users=bt110100002d7c Groups=(null) Accounts=(null) Licenses=(null) State=ACTIVE BurstBuffer=(null) Watts=n/a MaxStartDelay=(null)
ReservationName=11010000_1 StartTime=1795301349 EndTime=1795301949 Duration=00:10:00 Nodes=max-p11-[003-004] NodeCnt=2 CoreCnt=16 Features=(null) PartitionName=ponline_p11 Flags=SPEC_NODES TRES=cpu=16 Users=bt110100002d7c Groups=(null) Accounts=(null) Licenses=(null) State=ACTIVE BurstBuffer=(null) Watts=n/a MaxStartDelay=(null)
ReservationName=11010000_2 StartTime=1795304949 EndTime=1795330149 Duration=07:00:00 Nodes=max-wn001 NodeCnt=1 CoreCnt=8 Features=(null) PartitionName=ponline Flags= TRES=cpu=8 Users=bt110100002d7c Groups=(null) Accounts=(null) Licenses=(null) State=INACTIVE BurstBuffer=(null) Watts=n/a MaxStartDelay=(null)
max-p11-001|mixed|AP,cpu|1/7/0/8
max-p11-002|down*|AP,AC,cpu|0/0/8/8
max-p11-003|idle|AC,gpu,A100|0/8/0/8
max-p11-004|idle|AC,gpu,H100|0/8/0/8
max-wn001|idle|cpu|0/8/0/8
@end
`;
const now = parseSlurmNow(SAID);
const account = "bt110100002d7c";
const named = [
  { name: "11010000", partition: "ponline_p11", nodes: ["max-p11-001"] },
  { name: "11010000_1", partition: "ponline_p11", nodes: ["max-p11-003"] },
];

function choose(
  requirements: Partial<ReservationRequirements>,
  reservations: readonly SessionReservation[] = named,
) {
  if (now === undefined) throw new Error("not parsed");
  const choice = chooseReservation({ time: "00:05:00", ...requirements }, { account, reservations }, now);
  return "allocation" in choice ? choice.allocation : choice.reasons;
}

describe("what Slurm says now", () => {
  it("is read from the answers of scontrol and sinfo, behind a login shell's greeting", () => {
    expect(now?.at).toBe(1795301349);
    expect(now?.reservations.get("11010000")).toEqual({
      name: "11010000",
      partition: "ponline_p11",
      nodes: ["max-p11-001", "max-p11-002"],
      start: 1795301349,
      end: 1795330149,
      users: ["bt110100002d7c"],
    });
    expect(now?.nodes.get("max-p11-002")).toMatchObject({ isUp: false, isIdle: false });
    expect(now?.nodes.get("max-p11-001")).toMatchObject({ isUp: true, isIdle: false, idleCpus: 7 });
  });

  it("is of the controller's time, if that is told, and not of the node's", () => {
    const later = SAID.replace("ReservationName=11010000 ", "@1795301949\nReservationName=11010000 ");
    expect(parseSlurmNow(later)).toMatchObject({ at: 1795301949 });
  });

  it.each(["", "Unable to contact slurm controller", "@1795301349\n", SAID.replace("@end", "")])(
    "is unknown if the answer is %j",
    (answer) => {
      expect(parseSlurmNow(answer)).toBeUndefined();
    },
  );
});

describe("a reservation whose times Slurm does not say as numbers", () => {
  const TIMES = [
    "2024-01-01T00:00:00",
    "Unknown",
    "None",
    "N/A",
    "n/a",
    "UNLIMITED",
    "(null)",
    "-1",
    "",
    "9".repeat(30),
  ];
  it.each(TIMES)("%s: has begun, has no end that is known, and takes jobs", (time) => {
    const said = SAID.replace(/(Start|End)Time=\d+/g, `$1Time=${time}`);
    const unclear = parseSlurmNow(said);
    if (unclear === undefined) throw new Error("not parsed");
    expect(unclear.reservations.get("11010000")).toMatchObject({ start: 0, end: Infinity });
    const choice = chooseReservation({ time: "UNLIMITED" }, { account, reservations: named }, unclear);
    expect(choice).toMatchObject({ allocation: { reservation: "11010000_1", time: "UNLIMITED" } });
  });

  it("that has none of its fields is read all the same", () => {
    const said = SAID.replace(/(ReservationName=\S+) .*/g, "$1");
    expect(parseSlurmNow(said)?.reservations.get("11010000_1")).toEqual({
      ...{ name: "11010000_1", partition: null, nodes: [], users: [] },
      ...{ start: 0, end: Infinity },
    });
  });
});

describe("choosing a reservation", () => {
  it("takes the one with most idle nodes", () => {
    expect(choose({})).toMatchObject({
      reservation: "11010000_1",
      partition: "ponline_p11",
      time: "00:05:00",
    });
  });

  it("says why each other was not taken, unless one was asked for", () => {
    const passedOver = (requirements: Partial<ReservationRequirements>) => {
      const choice = choose(requirements);
      return "reservation" in choice ? choice.passedOver : choice;
    };
    expect(passedOver({})).toEqual([
      "11010000_2 begins in 60 min",
      "11010000 has 0 idle nodes and 7 idle CPUs, this one 2 and 16",
    ]);
    expect(passedOver({ time: "01:00:00" })).toEqual([
      "11010000_1 ends in 10 min, and the job asks for 01:00:00",
      "11010000_2 begins in 60 min",
    ]);
    expect(passedOver({ reservation: 0 })).toBeUndefined();
  });

  it.each([
    ["a feature", { constraint: "cpu" }, "11010000"],
    ["a feature of one node", { constraint: "H100" }, "11010000_1"],
    ["more time than one has left", { time: "01:00:00" }, "11010000"],
    ["two nodes", { nodes: 2 }, "11010000_1"],
    ["a name", { reservation: "11010000" }, "11010000"],
    ["a number", { reservation: 0 }, "11010000"],
    ["another number", { reservation: 1 }, "11010000_1"],
    ["a feature that no node has, which is for Slurm to say", { constraint: "H200" }, "11010000_1"],
    ["a constraint that only Slurm understands", { constraint: "what?ever", reservation: 0 }, "11010000"],
  ])("by %s", (_, requirements, reservation) => {
    expect(choose(requirements)).toMatchObject({ reservation });
  });

  it("shortens the time only if that is allowed, and leaves a minute for the start", () => {
    const requirements = { constraint: "gpu", time: "01:00:00" };
    expect(choose(requirements)).toEqual(
      expect.arrayContaining(["11010000_1 ends in 10 min, and the job asks for 01:00:00"]),
    );
    expect(choose({ ...requirements, timeMin: "5" })).toMatchObject({
      reservation: "11010000_1",
      time: "0-00:09:00",
    });
    expect(choose({ ...requirements, timeMin: "10" })).toEqual(
      expect.arrayContaining(["11010000_1 ends in 10 min, and the job asks for 10 at least"]),
    );
  });

  it.each([
    [{ nodes: 3 }, "11010000 has only 1 of 3 nodes (max-p11-001, max-p11-002)"],
    [{ constraint: "cpu", nodes: 2 }, "11010000_1 has none of 2 nodes with cpu (max-p11-003, max-p11-004)"],
    [{ partition: "maxcpu" }, "11010000 is in partition ponline_p11, not in maxcpu"],
    [{ reservation: 7 }, "11010000 is not the one asked for (7)"],
    [{ partition: "ponline" }, "11010000_2 begins in 60 min"],
  ])("%j: says why none fits", (requirements, reason) => {
    expect(choose(requirements)).toEqual(expect.arrayContaining([reason]));
  });

  it("counts one that Slurm has and the metadata file does not name, by the rule of its name", () => {
    const [first] = named;
    expect(choose({}, first === undefined ? [] : [first])).toMatchObject({ reservation: "11010000_1" });
  });

  it("leaves nodes that this account is not shown to Slurm", () => {
    const hidden = parseSlurmNow(SAID.replace(/^max-.*\n/gm, ""));
    if (hidden === undefined) throw new Error("not parsed");
    expect(
      chooseReservation({ time: "5", nodes: 2 }, { account, reservations: named }, hidden),
    ).toMatchObject({
      allocation: { reservation: "11010000" },
    });
  });

  it("does not take a numbered one that is for another account", () => {
    const [first] = named;
    const reservations = first === undefined ? [] : [first];
    if (now === undefined) throw new Error("not parsed");
    expect(chooseReservation({ time: "5" }, { account: "another", reservations }, now)).toMatchObject({
      allocation: { reservation: "11010000" },
    });
  });

  it.each([
    ["-root,-another", "11010000_1"],
    [`-root,-${account}`, "11010000"],
    [`-${account}`, "11010000"],
    [`${account},another`, "11010000_1"],
    ["another", "11010000"],
    ["(null)", "11010000_1"],
  ])("takes a numbered one of Users=%s as Slurm means it", (users, reservation) => {
    const said = SAID.replace(/^(ReservationName=11010000_1 .*) Users=\S+/m, `$1 Users=${users}`);
    const at = parseSlurmNow(said);
    if (at === undefined) throw new Error("not parsed");
    expect(chooseReservation({ time: "5" }, { account, reservations: named.slice(0, 1) }, at)).toMatchObject({
      allocation: { reservation },
    });
  });

  it("does not take one that has ended, though Slurm still lists it", () => {
    const late = parseSlurmNow(SAID.replace("@1795301349", "@1795301949"));
    if (late === undefined) throw new Error("not parsed");
    const choice = chooseReservation({ time: "5", reservation: 1 }, { account, reservations: named }, late);
    expect(choice).toMatchObject({ reasons: expect.arrayContaining(["11010000_1 has ended"]) as unknown });
  });

  it("leaves a minute where the time could be shortened, and no more than is left", () => {
    expect(choose({ time: "10", reservation: 1 })).toMatchObject({ time: "10" });
    expect(choose({ time: "10", timeMin: "5", reservation: 1 })).toMatchObject({ time: "0-00:09:00" });
  });

  it("takes a node in maintenance, or that does not answer for a moment: Slurm waits for it", () => {
    const states = SAID.replace("max-p11-003|idle|", "max-p11-003|maint|").replace(
      "max-p11-004|idle|",
      "max-p11-004|idle*|",
    );
    const strange = parseSlurmNow(states);
    if (strange === undefined) throw new Error("not parsed");
    expect(chooseReservation({ time: "5" }, { account, reservations: named }, strange)).toMatchObject({
      allocation: { reservation: "11010000_1" },
    });
  });

  it("does not take another session's, nor one that Slurm does not have", () => {
    expect(choose({}, [{ name: "1101000", partition: "ponline", nodes: ["a"] }])).toEqual([
      "Slurm has no reservation 1101000",
    ]);
  });

  it("at a site without reservations takes the partition", () => {
    const site = [{ name: null, partition: "online", nodes: ["n1"] }];
    expect(choose({ time: "30" }, site)).toEqual({ reservation: null, partition: "online", time: "30" });
    expect(choose({ reservation: 1 }, site)).toEqual(["online is no reservation, and 1 is asked for"]);
    expect(choose({ partition: "other" }, site)).toEqual(["online is not the partition other"]);
  });
});
