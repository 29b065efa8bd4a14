import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";

/**
 * - pass: bytes go through, each after `delay`
 * - stall: bytes wait, and go through when it passes again
 * - half-open: bytes are swallowed, and nobody is told: what a connection looks like whose other end lost its power
 */
export type Wire = "pass" | "stall" | "half-open";

/** A wire between two parts of the facility that can be bad in the ways that networks are. Listens on loopback. */
export class TcpProxy {
  readonly port: number;
  readonly #server: Server;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  /** Those that bytes were swallowed of: they must never speak again. */
  readonly #deaf = new Set<Socket>();
  #wire: Wire = "pass";
  #delay = 0;

  private constructor(server: Server, targetPort: number) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
    server.on("connection", (near: Socket) => this.#join(near, targetPort));
  }

  /** A proxy on a free port for the server on this port of loopback. */
  static async to(targetPort: number): Promise<TcpProxy> {
    const server = createServer({ noDelay: true });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return new TcpProxy(server, targetPort);
  }

  get wire(): Wire {
    return this.#wire;
  }

  /** How many connections there are through it. */
  get connections(): number {
    return this.#pairs.size;
  }

  set(wire: Wire, delayMs = 0): void {
    this.#wire = wire;
    this.#delay = delayMs;
    for (const socket of [...this.#pairs].flat()) {
      if (wire === "stall") socket.pause();
      else socket.resume();
    }
    if (wire === "half-open") return;
    for (const socket of this.#deaf) socket.resetAndDestroy();
    this.#deaf.clear();
  }

  /** Breaks every connection there is, with a reset. New ones are taken. */
  cut(): void {
    for (const socket of [...this.#pairs].flat()) socket.resetAndDestroy();
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of [...this.#pairs].flat()) socket.destroy();
    await closed;
  }

  #join(near: Socket, targetPort: number): void {
    const far = connect({ port: targetPort, host: "127.0.0.1", noDelay: true });
    const pair = [near, far] as const;
    this.#pairs.add(pair);
    this.#pump(near, far);
    this.#pump(far, near);
    const end = () => {
      // A half-open wire tells nobody that the other end has gone.
      if (this.#wire === "half-open" && !(near.destroyed && far.destroyed)) {
        this.#deaf.add(near).add(far);
        return;
      }
      this.#pairs.delete(pair);
      near.destroy();
      far.destroy();
    };
    for (const socket of pair) socket.on("error", () => undefined).on("close", end);
    if (this.#wire === "stall") for (const socket of pair) socket.pause();
  }

  #pump(from: Socket, to: Socket): void {
    from.on("data", (bytes: Buffer) => {
      if (this.#wire === "half-open") {
        this.#deaf.add(from).add(to);
        return;
      }
      const pass = () => {
        if (!to.destroyed) to.write(bytes);
      };
      if (this.#delay === 0) pass();
      else setTimeout(pass, this.#delay);
    });
    from.on("end", () => {
      if (this.#wire !== "half-open") to.end();
    });
  }
}
