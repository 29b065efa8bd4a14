import { randomUUID } from "node:crypto";
import { createServer, type AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { openLink } from "../../src/broker/connection.ts";
import { declareTopology, topologyFor } from "../../src/broker/topology.ts";
import { MentoError } from "../../src/errors.ts";
import { TcpProxy } from "../../src/facility/tcp-proxy.ts";
import { askBroker } from "../support/ask-broker.ts";
import { codeOf } from "../support/code-of.ts";
import { eventually } from "../support/eventually.ts";
import { facility } from "../support/site.ts";

const NOBODY = "amqp://127.0.0.1:9";
const name = "mento test";
const closing: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function openProxy() {
  const url = new URL(facility.broker.url);
  const proxy = await TcpProxy.to(Number(url.port));
  closing.push(() => proxy.close());
  url.port = String(proxy.port);
  return { proxy, url: url.href };
}

describe("a link", () => {
  it("to several nodes is to the first that answers", async () => {
    const link = await openLink({ url: [NOBODY, facility.broker.url, "amqp://127.0.0.1:10"], name });
    expect(link.place).toBe(new URL(facility.broker.url).host);
    await link.close();
  });

  it("to several nodes, none of which answers, says it of each", async () => {
    const opening = openLink({ url: [NOBODY, "amqp://127.0.0.1:10"], name });
    await expect(opening).rejects.toThrow(
      /127\.0\.0\.1:9 cannot be reached.*127\.0\.0\.1:10 cannot be reached/,
    );
  });

  it("that one node refuses is refused: the others would need no other password", async () => {
    const wrong = facility.broker.url.replace(/:[^:@]*@/, ":wrong@");
    expect(await codeOf(openLink({ url: [NOBODY, wrong], name }))).toBe("broker-refused");
  });

  it("has the heartbeat that its url asks for, else one of 10 s", async () => {
    for (const [query, timeout] of [
      ["?heartbeat=7", 7],
      ["", 10],
    ] as const) {
      const own = `mento test ${randomUUID()}`;
      const link = await openLink({ url: facility.broker.url + query, name: own });
      const [first] = await eventually("RabbitMQ knows the connections", async () => {
        const all = (await askBroker("GET", "connections")) as {
          timeout: number;
          client_properties: { connection_name?: string };
        }[];
        const ours = all.filter(({ client_properties: { connection_name: one = "" } }) =>
          one.startsWith(own),
        );
        return ours.length > 0 ? ours : undefined;
      });
      expect(first?.timeout).toBe(timeout);
      await link.close();
    }
  });

  it("is no longer waited for when the worker is to stop", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const sockets = new Promise<void>((resolve) =>
      server.once("connection", (socket) =>
        socket
          .on("error", () => undefined)
          .on("close", resolve)
          .resume(),
      ),
    );
    const stop = new AbortController();
    const { port } = server.address() as AddressInfo;
    const opening = codeOf(openLink({ url: `amqp://127.0.0.1:${port}`, name }, stop.signal));
    setTimeout(() => stop.abort(), 100);
    expect(await opening).toBe("broker-unreachable");
    await sockets;
    server.close();
  });

  it("that is closed, or lost, ends what waits for the broker's answer", async () => {
    const { proxy, url } = await openProxy();
    const topology = topologyFor(`t${randomUUID().slice(0, 8)}`, "default");
    for (const end of ["close", "fail"] as const) {
      const link = await openLink({ url, name });
      proxy.set("stall");
      const declaring = codeOf(declareTopology(link, topology, { keys: ["#"] }));
      if (end === "close") await link.close();
      else link.fail(new MentoError({ code: "broker-lost", message: "cut", hint: "" }));
      expect(await declaring).toBe("broker-lost");
      // Nothing is left that would keep the process.
      await eventually("the sockets are closed", () => {
        proxy.set("pass");
        return proxy.connections === 0 ? true : undefined;
      });
    }
  });
});
