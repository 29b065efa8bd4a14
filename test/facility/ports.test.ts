import { once } from "node:events";
import { createServer } from "node:net";
import { describe, expect, it } from "vitest";
import { areSoonFree, chooseFreePorts, isFree } from "../../src/facility/ports.ts";

describe("ports", () => {
  it("are free only while nobody listens", async () => {
    // Of those that the system gives, an outgoing connection of somebody else may take one at once.
    const [port = 0] = await chooseFreePorts(1, new Set());
    const server = createServer().listen(port, "127.0.0.1");
    await once(server, "listening");
    expect(await isFree(port)).toBe(false);
    server.close();
    await once(server, "close");
    expect(await isFree(port)).toBe(true);
  });

  it("of a server that is just ending are waited for", async () => {
    const [port = 0, other = 0] = await chooseFreePorts(2, new Set());
    const server = createServer().listen(port, "127.0.0.1");
    await once(server, "listening");
    expect(await areSoonFree([other, port], 100)).toBe(false);
    setTimeout(() => server.close(), 300);
    expect(await areSoonFree([other, port])).toBe(true);
  });

  it("are chosen all different, and none that is spoken for", async () => {
    const first = await chooseFreePorts(20, new Set());
    const second = await chooseFreePorts(20, new Set(first));
    expect(new Set([...first, ...second]).size).toBe(40);
  });
});
