import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { TcpProxy } from "../../src/facility/tcp-proxy.ts";

let server: Server;
let proxy: TcpProxy;

beforeEach(async () => {
  server = createServer((socket) => socket.on("error", () => undefined).pipe(socket));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  proxy = await TcpProxy.to((server.address() as AddressInfo).port);
});
afterEach(async () => {
  await proxy.close();
  server.close();
});

interface Client {
  socket: Socket;
  heard: string;
  isClosed: boolean;
}

async function client(): Promise<Client> {
  const one: Client = { socket: connect(proxy.port, "127.0.0.1"), heard: "", isClosed: false };
  one.socket.on("data", (bytes: Buffer) => (one.heard += bytes.toString()));
  one.socket.on("error", () => undefined).on("close", () => (one.isClosed = true));
  one.socket.write("hello ");
  await vi.waitFor(() => expect(one.heard).toBe("hello "), { timeout: 20_000 });
  return one;
}

describe("a wire of the facility", () => {
  it("that stalls keeps the bytes, and lets them through afterwards", async () => {
    const one = await client();
    proxy.set("stall");
    one.socket.write("waits");
    await sleep(100);
    expect(one.heard).toBe("hello ");
    proxy.set("pass");
    await vi.waitFor(() => expect(one.heard).toBe("hello waits"), { timeout: 20_000 });
  });

  it("that is half open swallows bytes and says nothing; afterwards its connections are reset", async () => {
    const one = await client();
    proxy.set("half-open");
    one.socket.write("lost");
    await sleep(100);
    expect(one).toMatchObject({ heard: "hello ", isClosed: false });
    proxy.set("pass");
    await vi.waitFor(() => expect(one.isClosed).toBe(true), { timeout: 20_000 });
    expect((await client()).heard).toBe("hello ");
  });

  it("that is cut resets the connections there are, and takes new ones", async () => {
    const one = await client();
    proxy.cut();
    await vi.waitFor(() => expect(one.isClosed).toBe(true), { timeout: 20_000 });
    await client();
    await vi.waitFor(() => expect(proxy.connections).toBe(1), { timeout: 20_000 });
  });

  it("that is slow delivers late", async () => {
    const one = await client();
    proxy.set("pass", 200);
    const from = performance.now();
    one.socket.write("late");
    await vi.waitFor(() => expect(one.heard).toBe("hello late"), { timeout: 20_000 });
    expect(performance.now() - from).toBeGreaterThan(390);
  });
});
