import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { TcpProxy } from "../../src/facility/tcp-proxy.ts";
import { facility, TestSite, TestWorker, writeOnCore } from "../support/site.ts";

let proxy: TcpProxy;
let site: TestSite;

beforeAll(async () => {
  const url = new URL(facility.broker.url);
  proxy = await TcpProxy.to(Number(url.port));
  url.port = String(proxy.port);
  const worker = { reconcileSeconds: 2, shutdownGraceSeconds: 5 };
  site = new TestSite([{ name: "quick", run: ["/bin/true"] }], { broker: { url: url.href }, worker });
});
afterAll(async () => {
  await site.tearDown();
  await proxy.close();
});

/** A worker that has a message under way which it cannot finish: the broker says nothing more. */
async function stuck(): Promise<{ worker: TestWorker; id: string }> {
  const worker = new TestWorker(site.configFile);
  await worker.ready();
  const client = await site.client();
  const id = randomUUID();
  const isStuck = new Promise<void>((resolve) => {
    const accepted = setInterval(() => {
      if (!worker.log.includes("submitted")) return;
      clearInterval(accepted);
      resolve();
    }, 5);
  });
  await publishDataReady(client, { path: writeOnCore() }, { id });
  await isStuck;
  proxy.set("stall");
  return { worker, id };
}

/** A new worker does what the other left, once. */
async function isTakenUp(id: string): Promise<void> {
  proxy.set("pass");
  proxy.cut();
  const next = await site.startWorker();
  await site.completesOnce(id);
  expect(await next.stop()).toBe(0);
}

describe("a worker whose broker hangs", () => {
  it("ends after its grace when it is asked to stop, and nothing is lost", async () => {
    const { worker, id } = await stuck();
    const from = performance.now();
    expect(await worker.stop()).toBe(0);
    expect(performance.now() - from).toBeLessThan(25_000);
    await isTakenUp(id);
  });

  it("ends at once when it is asked twice, and nothing is lost", async () => {
    const { worker, id } = await stuck();
    worker.process.kill("SIGTERM");
    setTimeout(() => worker.process.kill("SIGTERM"), 300);
    const from = performance.now();
    expect(await worker.ended).toBe(143);
    expect(performance.now() - from).toBeLessThan(4_000);
    await isTakenUp(id);
  });
});

it("two workers that get the same message at the same instant, many times, make one job of it", async () => {
  const workers = [await site.startWorker(), await site.startWorker()];
  const client = await site.client();
  const path = writeOnCore();
  const id = randomUUID();
  await Promise.all(
    Array.from({ length: 20 }, () => publishDataReady(client, { path }, { id, source: "/test" })),
  );
  await site.completesOnce(id);
  for (const worker of workers) expect(worker.log).toContain("submitted");
});
