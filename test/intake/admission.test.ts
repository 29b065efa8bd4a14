import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Admission } from "../../src/intake/admission.ts";
import type { Session } from "../../src/beamtime/session.ts";
import { Deferred, Unavailable } from "../../src/errors.ts";

const sessionOf = (id: string): Session => ({
  kind: "beamtime",
  isOpen: true,
  id,
  beamline: "p11",
  roots: { beamline: "/gpfs/current", core: `/asap3/${id}`, node: "/beamline/p11/current" },
  metadataFile: null,
  eventStart: null,
  eventEnd: null,
  asapo: null,
  online: null,
});
const one = sessionOf("1");
const other = sessionOf("2");
const away = new Unavailable({ code: "ssh-unreachable", message: "The node is away.", hint: "" });
const full = new Unavailable({ code: "too-many-pending", message: "60 jobs wait.", hint: "" });

let failure: Unavailable | undefined;
let probes: number;
let open: number;
let admission: Admission;

beforeEach(() => {
  vi.useFakeTimers();
  failure = undefined;
  probes = 0;
  open = 1;
  admission = new Admission({
    concurrency: 2,
    maxSubmitRate: 1000,
    probe: () => {
      probes += 1;
      return failure === undefined ? Promise.resolve() : Promise.reject(failure);
    },
    isOnlySession: () => Promise.resolve(open === 1),
    log: pino({ level: "silent" }),
  });
});
afterEach(() => {
  admission.stop();
  vi.useRealTimers();
});

/** What a promise has come to, once everything that can happen now has happened. */
async function stateOf(work: Promise<unknown>): Promise<unknown> {
  let state: unknown = "pending";
  void work.then(
    (value) => (state = value),
    (error: unknown) => (state = error),
  );
  await vi.advanceTimersByTimeAsync(0);
  return state;
}

describe("sessions that are not open at the beamline", () => {
  const closed = (nth: number) => ({ ...sessionOf(`old-${nth}`), isOpen: false });
  const busy = { code: "session-busy", isSilent: true };

  it("have some places together, one each, until a job of theirs was submitted: their nodes may all be away", async () => {
    open = 2;
    const leaves = [];
    // Half of the messages that a worker with two slots holds.
    for (let nth = 0; nth < 16; nth++) {
      leaves.push(await admission.requireCapacity(closed(nth), 100, 0));
      await expect(admission.requireCapacity(closed(nth), 100, 0)).rejects.toMatchObject(busy);
    }
    for (let nth = 16; nth < 30; nth++)
      await expect(admission.requireCapacity(closed(nth), 100, 0)).rejects.toMatchObject(busy);
    await admission.requireCapacity(other, 100, 0);
    leaves[0]?.();
    const leave = await admission.requireCapacity(closed(29), 100, 0);
    await expect(admission.requireCapacity(closed(28), 100, 0)).rejects.toMatchObject(busy);
    admission.works(closed(29).id);
    leave();
    leaves[1]?.();
    // As many as there are slots: it may hang from now on.
    for (let nth = 0; nth < 2; nth++) await admission.requireCapacity(closed(29), 100, 0);
    leaves[2]?.();
    await expect(admission.requireCapacity(closed(29), 100, 0)).rejects.toMatchObject(busy);
    for (let nth = 0; nth < 200; nth++) await admission.requireCapacity(other, 100, 0);
  });

  it("take no place while their node is known to be away", async () => {
    open = 2;
    failure = away;
    for (let nth = 0; nth < 40; nth++) {
      const leave = await admission.requireCapacity(closed(nth), 100, 0);
      await admission.report(closed(nth), away);
      leave();
      await expect(admission.requireCapacity(closed(nth), 100, 0)).rejects.toMatchObject({
        ...{ code: "ssh-unreachable", isSilent: false },
      });
    }
    await admission.requireCapacity(closed(41), 100, 0);
  });

  it("wait for longer the more of their messages do; the first of each comes again soon", async () => {
    open = 2;
    for (let nth = 0; nth < 16; nth++) await admission.requireCapacity(closed(nth), 100, 0);
    const waitOf = async (nth: number) => {
      const error: unknown = await admission
        .requireCapacity(closed(nth), 100, 0)
        .catch((one: unknown) => one);
      return (error as Deferred).waitSeconds;
    };
    const waits: number[] = [];
    for (let nth = 0; nth < 1_000; nth++) waits.push(await waitOf(nth % 30));
    expect([waits[0], waits[150], waits[999]]).toEqual([1, 2, 10]);
    for (let nth = 0; nth < 5_000; nth++) await waitOf(nth % 30);
    expect([await waitOf(3), await waitOf(100), await waitOf(100)]).toEqual([120, 5, 120]);
  });

  it("are not refused where nobody else's messages come", async () => {
    for (let nth = 0; nth < 40; nth++) await admission.requireCapacity(closed(1), 100, 0);
  });

  it("are others, for ten minutes, to the one that is open: its trouble is not everybody's", async () => {
    failure = away;
    await admission.requireCapacity(closed(1), 100, 0);
    expect(await stateOf(admission.report(one, away))).toMatchObject({
      ...{ code: "ssh-unreachable", giveUpAfterSeconds: 24 * 3600 },
    });
    expect(await stateOf(admission.whenOpen())).toBeUndefined();
    await vi.advanceTimersByTimeAsync(601_000);
    expect(await stateOf(admission.report(one, away))).toBe(away);
  });
});

describe("a session's turn", () => {
  it("is given to as many messages as there are slots, and then to one for each that leaves", async () => {
    const leave = await admission.enter(one, 1);
    await admission.enter(one, 1);
    const third = admission.enter(one, 1);
    expect(await stateOf(third)).toBe("pending");
    leave();
    leave();
    expect(await stateOf(third)).toBeTypeOf("function");
    expect(await stateOf(admission.enter(one, 1))).toBe("pending");
  });

  it("is given to the highest priority first, and else in the order of coming", async () => {
    const leave = await admission.enter(one, 1);
    await admission.enter(one, 1);
    const order: string[] = [];
    const wait = (name: string, priority?: number) =>
      void admission.enter(one, 1, priority).then((leaveAgain) => {
        order.push(name);
        leaveAgain();
      });
    wait("low", -1);
    wait("first");
    wait("second");
    wait("high", 5);
    leave();
    await vi.advanceTimersByTimeAsync(0);
    expect(order).toEqual(["high", "first", "second", "low"]);
  });

  it("is not refused to a message before which few wait, however many of lower priority do", async () => {
    open = 2;
    for (let count = 0; count < 10; count++) void admission.enter(one, 1);
    expect(await stateOf(admission.enter(one, 1))).toMatchObject({ code: "session-busy" });
    expect(await stateOf(admission.enter(one, 1, 1))).toBe("pending");
  });

  it("does not wait for another session's messages", async () => {
    for (let count = 0; count < 8; count++) void admission.enter(one, 1);
    expect(await stateOf(admission.enter(other, 1))).toBeTypeOf("function");
  });

  it("is refused when many wait already and there are others, whose messages must be seen", async () => {
    open = 2;
    for (let count = 0; count < 10; count++) void admission.enter(one, 1);
    expect(await stateOf(admission.enter(one, 1))).toMatchObject({ code: "session-busy", isSilent: true });
    open = 1;
    expect(await stateOf(admission.enter(one, 1))).toBe("pending");
  });

  it("is refused for longer the more were refused before, so that they are not all back at once", async () => {
    open = 2;
    for (let count = 0; count < 10; count++) void admission.enter(one, 1);
    const waits: number[] = [];
    for (let count = 0; count < 4_000; count++)
      await admission.enter(one, 1).catch((error: unknown) => waits.push((error as Deferred).waitSeconds));
    expect([waits[0], waits[99], waits[150], waits[400], waits[900], waits[3_999]]).toEqual([
      1, 1, 2, 5, 10, 120,
    ]);
    await vi.advanceTimersByTimeAsync(121_000);
    expect(await stateOf(admission.enter(one, 1))).toMatchObject({ waitSeconds: 1 });
  });

  it("comes no faster than the rate of submits", async () => {
    admission = new Admission({
      concurrency: 100,
      maxSubmitRate: 10,
      probe: () => Promise.resolve(),
      isOnlySession: () => Promise.resolve(true),
      log: pino({ level: "silent" }),
    });
    let entered = 0;
    for (let count = 0; count < 50; count++) void admission.enter(one, 1).then(() => (entered += 1));
    await vi.advanceTimersByTimeAsync(0);
    expect(entered).toBe(10);
    await vi.advanceTimersByTimeAsync(1000);
    expect(entered).toBeGreaterThanOrEqual(19);
    expect(entered).toBeLessThanOrEqual(21);
    await vi.advanceTimersByTimeAsync(3100);
    expect(entered).toBe(50);
  });
});

describe("a submit that fails while a probe succeeds", () => {
  it("is the message's own trouble: it is tried again by itself, and others go on", async () => {
    const told = await admission.report(one, away);
    expect(told).toMatchObject({ name: "Deferred", code: "ssh-unreachable", giveUpAfterSeconds: 3600 });
    expect(await stateOf(admission.enter(one, 1))).toBeTypeOf("function");
  });
});

describe("a session whose node is away", () => {
  beforeEach(() => (failure = away));

  it("is asked by one probe, however many messages find it out", async () => {
    await admission.requireOpen(one);
    await Promise.all(Array.from({ length: 20 }, () => admission.report(one, away)));
    expect(probes).toBe(1);
    await expect(admission.requireOpen(one)).rejects.toBe(away);
  });

  it("stops everybody if it is the only one, and is asked more and more seldom until it is back", async () => {
    const leave = await admission.enter(one, 1);
    await admission.enter(one, 1);
    const waiting = admission.enter(one, 1).catch((error: unknown) => error);
    expect(await admission.report(one, away)).toBe(away);
    expect(await waiting).toBe(away);
    expect(await stateOf(admission.enter(one, 1))).toBe(away);
    const isOpen = admission.whenOpen();
    await vi.advanceTimersByTimeAsync(10_000);
    const soon = probes;
    expect(soon).toBeGreaterThanOrEqual(3);
    await vi.advanceTimersByTimeAsync(100_000);
    expect(probes - soon).toBeLessThanOrEqual(6);
    expect(await stateOf(isOpen)).toBe("pending");
    failure = undefined;
    await vi.advanceTimersByTimeAsync(40_000);
    await isOpen;
    leave();
    expect(await stateOf(admission.enter(one, 1))).toBeTypeOf("function");
  });

  it("is nobody else's trouble if there are others: its messages wait on the broker for a day", async () => {
    open = 2;
    const told = await admission.report(one, away);
    expect(told).toBeInstanceOf(Deferred);
    expect(told).toMatchObject({ code: "ssh-unreachable", giveUpAfterSeconds: 86_400 });
    expect(await stateOf(admission.enter(other, 1))).toBeTypeOf("function");
    expect(await stateOf(admission.whenOpen())).toBeUndefined();
  });

  it("no longer stops everybody when another is opened", async () => {
    await admission.report(one, away);
    const isOpen = admission.whenOpen();
    expect(await stateOf(isOpen)).toBe("pending");
    open = 2;
    await vi.advanceTimersByTimeAsync(40_000);
    await isOpen;
  });

  it("lets another that is opened pass within seconds, however seldom it is asked by then", async () => {
    await admission.report(one, away);
    const isOpen = admission.whenOpen();
    await vi.advanceTimersByTimeAsync(200_000);
    open = 2;
    await vi.advanceTimersByTimeAsync(2_000);
    expect(await stateOf(isOpen)).toBeUndefined();
  });

  it("keeps everybody waiting for as long as it is away, though nobody knocks meanwhile", async () => {
    await admission.report(one, away);
    const isOpen = admission.whenOpen();
    await vi.advanceTimersByTimeAsync(3600_000);
    expect(await stateOf(isOpen)).toBe("pending");
    expect(probes).toBeGreaterThan(90);
    expect(probes).toBeLessThan(130);
    failure = undefined;
    await vi.advanceTimersByTimeAsync(40_000);
    expect(await stateOf(isOpen)).toBeUndefined();
  });

  it("is forgotten when nobody asks for it any more", async () => {
    open = 2;
    await admission.report(one, away);
    await vi.advanceTimersByTimeAsync(400_000);
    const soFar = probes;
    await vi.advanceTimersByTimeAsync(3600_000);
    expect(probes).toBe(soFar);
  });

  it("that was back before anybody waited for it keeps nobody waiting", async () => {
    await admission.report(one, away);
    failure = undefined;
    await vi.advanceTimersByTimeAsync(5_000);
    expect(await stateOf(admission.whenOpen())).toBeUndefined();
  });
});

describe("as long as a probe does not answer", () => {
  let answer: () => void;
  const told: unknown[] = [];
  const refused = (error: unknown) => told.push(error);

  beforeEach(() => {
    told.length = 0;
    open = 2;
    const asked = new Promise<void>((resolve) => (answer = resolve));
    admission = new Admission({
      concurrency: 2,
      maxSubmitRate: 1000,
      probe: async () => {
        await asked;
        if (failure !== undefined) throw failure;
      },
      isOnlySession: () => Promise.resolve(open === 1),
      log: pino({ level: "silent" }),
    });
  });

  it("the session's messages wait, but no more than ever, so that others' are seen", async () => {
    const leave = await admission.enter(one, 1);
    void admission.report(one, away).finally(leave);
    let entered = 0;
    for (let count = 0; count < 20; count++) void admission.enter(one, 1).then(() => (entered += 1), refused);
    await vi.advanceTimersByTimeAsync(0);
    expect({ entered, busy: told.length }).toEqual({ entered: 0, busy: 12 });
    expect(await stateOf(admission.enter(other, 1))).toBeTypeOf("function");
    answer();
    await vi.advanceTimersByTimeAsync(0);
    expect(entered).toBe(2);
  });

  it("nobody gets a turn, also not when it then finds trouble", async () => {
    failure = away;
    const leave = await admission.enter(one, 1);
    void admission.report(one, away).finally(leave);
    for (let count = 0; count < 3; count++) void admission.enter(one, 1).catch(refused);
    answer();
    await vi.advanceTimersByTimeAsync(0);
    expect(told).toMatchObject([
      { code: "ssh-unreachable" },
      { code: "ssh-unreachable" },
      { code: "ssh-unreachable" },
    ]);
  });
});

describe("a session with enough jobs waiting in Slurm", () => {
  it("is looked at every few seconds", async () => {
    failure = full;
    await admission.report(one, full);
    expect(await stateOf(admission.enter(one, 1))).toBe(full);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(probes).toBeGreaterThan(20);
    open = 2;
    expect(await stateOf(admission.enter(one, 1))).toMatchObject({ waitAtMostSeconds: 5 });
  });

  it("keeps its messages for as long as it takes, also those that found it full just before a job started", async () => {
    expect(await admission.report(one, full)).toBe(full);
    open = 2;
    const told = await admission.report(one, full);
    expect(told).toMatchObject({
      code: "too-many-pending",
      giveUpAfterSeconds: Infinity,
      waitAtMostSeconds: 5,
    });
  });

  it("whose node then goes away is asked again soon", async () => {
    failure = full;
    await admission.report(one, full);
    const isOpen = admission.whenOpen();
    await vi.advanceTimersByTimeAsync(600_000);
    failure = away;
    await vi.advanceTimersByTimeAsync(2_500);
    expect(await stateOf(admission.enter(one, 1))).toBe(away);
    failure = undefined;
    await vi.advanceTimersByTimeAsync(4_000);
    expect(await stateOf(isOpen)).toBeUndefined();
  });
});

describe("the end of a link or a worker", () => {
  it("refuses those who wait, and leaves those inside", async () => {
    const leave = await admission.enter(one, 1);
    await admission.enter(one, 1);
    const waiting = admission.enter(one, 1).catch((error: unknown) => error);
    const lost = new Unavailable({ code: "broker-lost", message: "The link broke.", hint: "" });
    admission.refuseWaiting(lost);
    expect(await stateOf(waiting)).toBe(lost);
    leave();
    expect(await stateOf(admission.enter(one, 1))).toBeTypeOf("function");
  });

  it("leaves no timer behind, and nobody waiting for a gate", async () => {
    failure = away;
    await admission.report(one, away);
    const isOpen = admission.whenOpen();
    await vi.advanceTimersByTimeAsync(0);
    admission.stop();
    await isOpen;
    const soFar = probes;
    await vi.advanceTimersByTimeAsync(600_000);
    expect(probes).toBe(soFar);
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe("large messages", () => {
  const MiB = 2 ** 20;
  const busy = { code: "session-busy" };

  it("of one session are handled 4 MiB a second at most, where there are others; the others' at once", async () => {
    open = 2;
    for (let nth = 0; nth < 2; nth++) await admission.requireCapacity(one, 3 * MiB, 0);
    await expect(admission.requireCapacity(one, MiB, 0)).rejects.toMatchObject(busy);
    await admission.requireCapacity(other, MiB, 0);
    let handled = 0;
    for (let second = 0; second < 30; second++) {
      await vi.advanceTimersByTimeAsync(1000);
      for (let nth = 0; nth < 10; nth++) {
        await admission.requireCapacity(one, MiB, 0).then(
          () => (handled += 1),
          () => undefined,
        );
      }
    }
    expect(handled).toBeGreaterThan(110);
    expect(handled).toBeLessThanOrEqual(121);
  });

  it("of the only session are all handled, and it owes nothing when another is opened", async () => {
    for (let nth = 0; nth < 100; nth++) await admission.requireCapacity(one, MiB, 0);
    open = 2;
    await expect(admission.requireCapacity(one, MiB, 0)).rejects.toMatchObject(busy);
    await vi.advanceTimersByTimeAsync(1000);
    await admission.requireCapacity(one, MiB, 0);
  });

  it("wait the longer the more bytes are away", async () => {
    open = 2;
    await admission.requireCapacity(one, 8 * MiB, 0);
    const waits: number[] = [];
    for (let nth = 0; nth < 60; nth++) {
      const error: unknown = await admission
        .requireCapacity(one, MiB, 0)
        .catch((refused: unknown) => refused);
      waits.push((error as Deferred).waitSeconds);
    }
    expect([waits[0], waits[1], waits[5], waits[59]]).toEqual([1, 2, 5, 120]);
  });

  it("and small ones are told to come again before they are planned, while enough of their session wait", async () => {
    open = 2;
    const waiting = Array.from({ length: 10 }, () => admission.enter(one, 1, 0));
    for (const entering of waiting) entering.catch(() => undefined);
    await stateOf(Promise.resolve());
    await expect(admission.requireCapacity(one, 100, 0)).rejects.toMatchObject(busy);
    await admission.requireCapacity(one, 100, 1);
    open = 1;
    await admission.requireCapacity(one, 100, 0);
    open = 2;
    await admission.requireCapacity(other, 100, 0);
  });
});
