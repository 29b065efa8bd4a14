import { spawn } from "node:child_process";
import { request } from "node:http";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, inject, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { TcpProxy } from "../../src/facility/tcp-proxy.ts";
import { nodeThere, there } from "../support/servers.ts";
import { beamtime, eventually, facility, TestSite, writeOnCore } from "../support/site.ts";

const examples = fileURLToPath(new URL("../../examples/", import.meta.url));
const browser = inject("browser");
const closing: (() => unknown)[] = [];

const site = new TestSite([
  {
    name: "curve",
    on: { path: "**/*.dat" },
    run: ["/bin/cp", "{{ path }}", "{{ results }}/curve.dat"],
    results: ["*.dat"],
  },
]);

beforeAll(() => site.startWorker());
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});
afterAll(() => site.tearDown());

/** An example, as a process of its own, that runs until the test ends. */
function start(program: string, ...args: string[]) {
  const child = spawn(...there(program, args), { stdio: ["ignore", "pipe", "pipe"] });
  const said = { stdout: "", stderr: "" };
  child.stdout.on("data", (chunk: Buffer) => (said.stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (said.stderr += chunk.toString()));
  const ended = new Promise((resolve) => child.on("exit", resolve));
  closing.push(() => {
    child.kill("SIGKILL");
    return ended;
  });
  return {
    said,
    says: (what: string, where: "stdout" | "stderr" = "stdout") =>
      eventually(`${program} says ${what}; it said ${said.stdout}${said.stderr}`, () =>
        said[where].includes(what) ? said[where] : undefined,
      ),
  };
}

const options = (url = facility.broker.url) => ["--url", url, "--prefix", site.prefix];

/** A job that has completed; its result's path. */
async function complete(content = "# 2theta intensity\n0 1\n1 3\n2 2\n"): Promise<string> {
  const { id } = await publishDataReady(await site.client(), { path: writeOnCore(content) });
  const { data } = await site.event("job.completed", id);
  return data.results[0]?.path ?? "";
}

async function openProxy() {
  const url = new URL(facility.broker.url);
  const proxy = await TcpProxy.to(Number(url.port));
  closing.push(() => proxy.close());
  url.port = String(proxy.port);
  return { proxy, url: url.href };
}

const CLIENTS = {
  node: [nodeThere(), join(examples, "node/print-results.mjs")],
  "python3-pika": ["/usr/bin/python3", join(examples, "python/listen.py")],
} as const;

describe.each(["node", "python3-pika"] as const)("the example client of %s", (name) => {
  const [program, file] = CLIENTS[name];

  it("prints each completed job's results: of the past, live, and of while the broker was away; each once", async () => {
    const { proxy, url } = await openProxy();
    const past = await complete();
    const client = start(program, file, ...options(url), "--beamline", beamtime.beamline, "--since", "1h");
    await client.says(past);
    const live = await complete();
    await client.says(live);
    proxy.set("stall");
    proxy.cut();
    const meanwhile = await complete();
    proxy.set("pass");
    await client.says(meanwhile);
    const again = await complete();
    const lines = (await client.says(again)).trim().split("\n");
    const paths = lines.map((line) => line.split(" ").at(-1));
    expect(paths.slice(paths.indexOf(past))).toEqual([past, live, meanwhile, again]);
    expect(new Set(paths).size).toBe(paths.length);
  });

  it("shows nothing of another beamline", async () => {
    const other = start(program, file, ...options(), "--beamline", "p99", "--since", "1h");
    const mine = start(program, file, ...options(), "--since", "1h");
    await mine.says(await complete());
    expect(other.said.stdout).toBe("");
  });
});

describe("the live plot", () => {
  const startPlot = async (...args: string[]) => {
    const server = [join(examples, "live-plot/server.mjs"), ...options(), "--port", "0", ...args];
    const plot = start(nodeThere(), ...server);
    const [, url = ""] = /open (http:\S+)/.exec(await plot.says("open http")) ?? [];
    return { ...plot, url };
  };

  /** What a browser is sent, as it comes. */
  async function read(url: string) {
    const stop = new AbortController();
    closing.push(() => stop.abort());
    const { body } = await fetch(`${url}/events`, { signal: stop.signal });
    const sent: { event: string; data: unknown }[] = [];
    const reading = async () => {
      let text = "";
      for await (const chunk of body ?? []) {
        text += Buffer.from(chunk).toString();
        for (const [whole, event = "", data = ""] of text.matchAll(/event: (\w+)\ndata: (.*)\n\n/g)) {
          sent.push({ event, data: JSON.parse(data) as unknown });
          text = text.replace(whole, "");
        }
      }
    };
    void reading().catch(() => undefined);
    const curves = () => sent.filter(({ event }) => event === "curve").map(({ data }) => data);
    return { sent, curves };
  }

  it("sends the curves of the past, and each new one as its job completes", async () => {
    await complete("# 2theta intensity\n0 1\n1 7\n");
    const plot = await startPlot("--keep", "1");
    const { curves } = await read(plot.url);
    const newest = () => (curves().at(-1) as { y: number[] } | undefined)?.y[1];
    await eventually("the past", () => newest() === 7 || undefined);
    await complete("# Tth I sigma\n\n0.5 1e3 1\n0.75 -2 1\n");
    await eventually("the new one", () => newest() === -2 || undefined);
    expect(curves().slice(-2)).toMatchObject([
      { x: [0, 1], y: [1, 7], labels: ["2theta", "intensity"] },
      { x: [0.5, 0.75], y: [1000, -2], labels: ["Tth", "I"] },
    ]);
    const late = await read(plot.url);
    await eventually("the newest", () => late.curves().length > 0 || undefined);
    expect(late.curves()).toEqual(curves().slice(-1));
  });

  it("says what it cannot read, and goes on", async () => {
    const plot = await startPlot("--columns", "1,4");
    const { sent } = await read(plot.url);
    const path = await complete("1 2\n");
    await plot.says(`${path}: it has no numbers in columns 1 and 4. Does this machine see`, "stderr");
    await complete("1 2 3 4\n");
    await eventually("well again", () => {
      const [last] = sent.filter(({ event }) => event === "trouble").slice(-1);
      return (last?.data as string[] | undefined)?.length === 0 && sent.length > 2 ? true : undefined;
    });
  });

  it("answers only this machine's own pages", async () => {
    const { url } = await startPlot();
    const status = await new Promise((resolve) => {
      request(url, { headers: { host: "evil.example" } }, (answer) => resolve(answer.statusCode)).end();
    });
    expect(status).toBe(403);
    expect((await fetch(url)).headers.get("content-security-policy")).toContain("default-src 'none'");
  });

  it.skipIf(browser === null)("redraws by itself in a browser, the newest before the others", async () => {
    const plot = await startPlot("--since", "1s", "--keep", "3");
    const chrome = await chromium.launch({ executablePath: browser ?? "", args: ["--no-sandbox"] });
    closing.push(() => chrome.close());
    const page = await chrome.newPage();
    const mistakes: string[] = [];
    page.on("pageerror", (error) => mistakes.push(error.message));
    page.on("console", (message) => {
      if (message.type() === "error") mistakes.push(message.text());
    });
    await page.goto(plot.url);
    const newest = () => page.locator("path.newest").getAttribute("d");
    const curves = ["0 1\n1 3\n2 2\n", "0 2\n1 1\n2 2\n", "0 3\n1 5\n2 100\n", "0 0\n1 4\n2 9\n"];
    const shapes: (string | null)[] = [];
    for (const curve of curves) {
      const before = await page.title();
      await complete(`# q_nm^-1 <b>intensity</b>\n${curve}`);
      await eventually("it redraws", async () => (await page.title()) !== before || undefined);
      expect(await page.title()).toMatch(/^scan_.*\.dat$/);
      expect(await page.locator("#details").textContent()).toContain(`p11 · ${beamtime.beamtimeId} · curve`);
      expect(await page.locator("time").textContent()).toMatch(/\d:\d\d/);
      shapes.push(await newest());
    }
    expect(await page.locator("path").count()).toBe(3);
    expect(await page.locator("svg").textContent()).toContain("<b>intensity</b>");
    expect(new Set(shapes).size).toBe(curves.length);
    await page.locator("#log").check();
    expect(await newest()).not.toBe(shapes.at(-1));
    expect(mistakes).toEqual([]);
  });
});
