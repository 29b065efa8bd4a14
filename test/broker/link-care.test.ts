import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { LinkCare } from "../../src/broker/link-care.ts";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** Opens a link, has messages handled until one of them loses it, and says who was handled. */
async function useLink(care: LinkCare, messages: string[], culprit: string): Promise<string[]> {
  care.opened();
  const handled: string[] = [];
  let lose = (): void => undefined;
  const lost = new Promise<void>((resolve) => (lose = resolve));
  void lost.then(() => care.lost(true));
  const all = messages.map((message) =>
    care
      .handle(message, async () => {
        if (message === culprit) lose();
        await Promise.resolve();
        if (message === culprit) throw new Error("lost");
        handled.push(message);
      })
      .catch(() => undefined),
  );
  await lost;
  await Promise.all(all);
  return handled;
}

describe("a worker whose links are lost soon, again", () => {
  it("handles one message at a time, and finds the one that loses them", async () => {
    const care = new LinkCare();
    const messages = ["a", "culprit", "b"];
    for (let link = 0; link < 2; link++) {
      await useLink(care, messages, "culprit");
      expect(care.losesLinks("culprit")).toBe(false);
    }
    expect(care.lostSoon).toBe(2);
    for (let link = 0; link < 2; link++) {
      expect(care.losesLinks("culprit")).toBe(false);
      await useLink(care, messages, "culprit");
      expect(care.isCareful).toBe(true);
    }
    expect(messages.filter((message) => care.losesLinks(message))).toEqual(["culprit"]);
    expect(care.lostSoon).toBe(4);
    care.forget("culprit");
    expect(care.losesLinks("culprit")).toBe(false);
  });

  it("handles as many as usual again, when nothing has come back for a while", async () => {
    const care = new LinkCare();
    for (let link = 0; link < 3; link++) await useLink(care, ["a"], "a");
    care.opened();
    let isCalm = false;
    void care.whenCalm().then(() => (isCalm = true));
    await vi.advanceTimersByTimeAsync(15_000);
    care.hasComeBack();
    await vi.advanceTimersByTimeAsync(15_000);
    expect({ isCalm, isCareful: care.isCareful }).toEqual({ isCalm: false, isCareful: true });
    await vi.advanceTimersByTimeAsync(10_000);
    expect({ isCalm, isCareful: care.isCareful }).toEqual({ isCalm: true, isCareful: false });
    await vi.advanceTimersByTimeAsync(60_000);
    care.lost(true);
    expect(care.lostSoon).toBe(0);
  });

  it("blames no message if the broker or the network closed them", () => {
    const care = new LinkCare();
    for (let link = 0; link < 5; link++) {
      care.opened();
      void care.handle("a", () => new Promise(() => undefined));
      vi.advanceTimersByTime(1_000);
      care.lost(false);
    }
    expect(care.losesLinks("a")).toBe(false);
    expect(care.lostSoon).toBe(5);
    care.opened();
    vi.advanceTimersByTime(60_000);
    care.lost(false);
    expect(care.lostSoon).toBe(0);
  });

  it("blames none of a link before for what happens on the next", async () => {
    const care = new LinkCare();
    for (let link = 0; link < 2; link++) await useLink(care, ["a"], "a");
    care.opened();
    let end = (): void => undefined;
    const late = care.handle("late", () => new Promise<void>((resolve) => (end = resolve)));
    await Promise.resolve();
    care.lost(false);
    vi.advanceTimersByTime(1_000);
    care.opened();
    end();
    await late;
    care.lost(true);
    care.opened();
    care.lost(true);
    expect(care.losesLinks("late")).toBe(false);
  });
});
