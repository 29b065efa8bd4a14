import { EventEmitter } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ChannelRefused, Channels } from "../../src/shells/channels.ts";

/** A server with so many sessions, each of which counts for some milliseconds after its channel has closed. */
function serverWith(sessions: number, lingerMs = 0) {
  const server = { asked: 0, refused: 0, used: 0, most: 0 };
  const start = async () => {
    server.asked += 1;
    await sleep(1);
    if (server.used >= sessions) {
      server.refused += 1;
      throw new ChannelRefused("open failed");
    }
    server.used += 1;
    server.most = Math.max(server.most, server.used);
    const channel = new EventEmitter();
    channel.once("close", () => setTimeout(() => (server.used -= 1), lingerMs));
    return channel;
  };
  return { server, start };
}

describe("channels", () => {
  it("however many are wanted of however few: all open, in their order, none is refused for good", async () => {
    const plan = fc.record({
      sessions: fc.integer({ min: 1, max: 4 }),
      linger: fc.integer({ min: 0, max: 8 }),
      times: fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 20 }),
    });
    await fc.assert(
      fc.asyncProperty(plan, async ({ sessions, linger, times }) => {
        const { server, start } = serverWith(sessions, linger);
        const channels = new Channels(start, 2_000);
        const use = async (time: number) => {
          const channel = await channels.open();
          await sleep(time);
          channel.emit("close");
        };
        await Promise.all(times.map(use));
        expect(server.most).toBeLessThanOrEqual(sessions);
      }),
      { numRuns: 30 },
    );
  });

  it("what the server refuses is asked for again after growing pauses, and at once when one has closed", async () => {
    const { server, start } = serverWith(2);
    const channels = new Channels(start, 1_000);
    const open = [await channels.open(), await channels.open()];
    expect(channels.hasRoom).toBe(true);
    const third = channels.open();
    await sleep(20);
    const fourth = channels.open();
    expect(channels.hasRoom).toBe(false);
    await sleep(200);
    // Refused after pauses of 5, 10, 20, 40, 80, 160 ms.
    expect(server.refused).toBeLessThan(20);
    for (const channel of open) channel.emit("close");
    expect(await Promise.all([third, fourth])).toHaveLength(2);
  });

  it("a server that refuses though none is open is given up after a while", async () => {
    const channels = new Channels(serverWith(0).start, 50);
    await expect(Promise.all([channels.open(), channels.open()])).rejects.toThrow(ChannelRefused);
  });

  it("one that the server refuses when the connection has ended is told so too", async () => {
    const channels = new Channels(async () => {
      await sleep(20);
      throw new ChannelRefused("no");
    }, 10_000);
    const opening = channels.open();
    channels.end(new Error("it broke"));
    await expect(opening).rejects.toThrow("it broke");
  });

  it("those that wait are told when the connection ends", async () => {
    const channels = new Channels(serverWith(0).start, 10_000);
    const waiting = channels.open();
    await sleep(30);
    channels.end(new Error("it broke"));
    await expect(waiting).rejects.toThrow("it broke");
  });
});
