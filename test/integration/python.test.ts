import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { run } from "../support/mento.ts";
import { facility, TestSite, writeData, type AnyEvent } from "../support/site.ts";
import { copyFileSync, mkdirSync, readFileSync } from "node:fs";

const examples = fileURLToPath(new URL("../../examples/", import.meta.url));
const bin = join(facility.roots.core, "petra3/gpfs/common/p11/bin");
const integrate = join(bin, "integrate.py");

const site = new TestSite([
  { name: "checksum", on: { path: "**/*.dat" }, run: ["/usr/bin/sha256sum", "{{ path }}"] },
  {
    name: "powder",
    on: { technique: "powder" },
    run: ["/usr/bin/python3", integrate, "{{ path }}", "--out", "{{ results }}"],
    results: ["*.dat", "*.png"],
  },
]);

beforeAll(async () => {
  mkdirSync(bin, { recursive: true });
  copyFileSync(join(examples, "powder/integrate.py"), integrate);
  await site.startWorker();
});
afterAll(() => site.tearDown());

describe("a client that is not ours (python3-pika)", () => {
  const client = (path: string, ...args: string[]) =>
    run("/usr/bin/python3", [
      join(examples, "python/publish_and_wait.py"),
      ...["--url", facility.broker.url, "--prefix", site.prefix, "--path", path, "--timeout", "60", ...args],
    ]);

  it("publishes a data-ready message and receives job.completed on a queue of its own", async () => {
    const { code, stdout, stderr } = await client(writeData().path, "--json");
    const events = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as AnyEvent);
    expect(events.at(-1)?.type, stderr).toBe("mento.job.completed.v1");
    expect(events.at(-1)?.data.job.trigger).toBe("checksum");
    expect(code).toBe(0);
  });

  it("receives message.rejected with the reason", async () => {
    const { code, stdout } = await client("/etc/hosts.dat");
    expect(stdout).toContain("/etc/hosts.dat does not lie in this beamtime");
    expect(code).toBe(1);
  });
});

describe("the powder example", () => {
  it("turns a detector's HDF5 files into a curve and a plot by pyFAI", async () => {
    const folder = join(facility.roots.gpfs, "current/raw/powder");
    mkdirSync(folder, { recursive: true });
    const detector = await run("/usr/bin/python3", [
      join(examples, "powder/detector.py"),
      ...["--out", folder, "--scan", "1"],
    ]);
    const written = JSON.parse(detector.stdout) as { master: string };
    const message = { path: written.master, technique: "powder", detector: "eiger" };
    const { id } = await publishDataReady(await site.client(), message);
    const { data } = await site.event("job.completed", id);
    const results = data.results.map(({ path, mediaType }) => [path.split(".").at(-1), mediaType]).sort();
    expect(results).toEqual([
      ["dat", "application/octet-stream"],
      ["png", "image/png"],
    ]);
    const table = readFileSync(data.results.find(({ path }) => path.endsWith(".dat"))?.path ?? "", "utf8");
    const rows = table
      .split("\n")
      .filter((line) => /^\s*\d/.test(line))
      .map((line) => line.trim().split(/\s+/).map(Number));
    const strongest = rows.reduce((best, row) => ((row[2] ?? 0) > (best[2] ?? 0) ? row : best), [0, 0, 0]);
    // The (110) ring of LaB6 at 0.2073 Å, by Bragg's law: 4.04°.
    expect(strongest[0]).toBeCloseTo(4.04, 1);
  });
});
