import { connect, createServer, type Socket } from "node:net";

/** A TCP proxy that can be frozen, then bytes go neither way and nobody is told; or that cuts all connections. */
export async function openTcpProxy(port: number, address = "127.0.0.1") {
  const sockets = new Set<Socket>();
  let frozen = false;
  const server = createServer((socket) => {
    const onward = connect(port, address);
    for (const [from, to] of [
      [socket, onward],
      [onward, socket],
    ] as const) {
      sockets.add(from);
      from.on("data", (chunk) => {
        if (!frozen) to.write(chunk);
      });
      from.on("close", () => {
        if (!frozen) to.destroy();
      });
      from.on("error", () => undefined);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    port: (server.address() as { port: number }).port,
    freeze: () => (frozen = true),
    thaw: () => (frozen = false),
    cut,
    close: () => {
      server.close();
      cut();
    },
  };
}
