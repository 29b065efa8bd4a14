import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { runNode, tryMento } from "../support/mento.ts";
import { beamtime, facility, TestSite } from "../support/site.ts";

const examples = fileURLToPath(new URL("../../examples/", import.meta.url));
const localJobs = mkdtempSync("/tmp/mento-examples-");
const site = new TestSite([], { site: { localJobs } });
/** The visualization computer while no beamtime is open. */
const alone = new TestSite([], { site: { localJobs, gpfs: localJobs, core: localJobs } });
afterAll(async () => {
  await Promise.all([site.tearDown(), alone.tearDown()]);
  rmSync(localJobs, { recursive: true });
});

/** An example, run to its end; which must be a good one. */
async function runExample(file: string, args: string[], env: NodeJS.ProcessEnv = {}) {
  const { code, stdout, stderr } = await runNode([join(examples, file), ...args], { env });
  expect(code, stdout + stderr).toBe(0);
  return stdout;
}

describe("a pipeline", () => {
  const runPipeline = async (name: string, files: number) => {
    const at = ["--facility", facility.dir, "--prefix", site.prefix, "--files", String(files)];
    const stdout = await runExample("pipelines/run.mjs", [name, ...at]);
    const ends = stdout.split("\n").flatMap((line) => /job\.completed +(\S+) /.exec(line)?.[1] ?? []);
    const results = stdout.split("\n").flatMap((line) => /^ {2}(\/.*)/.exec(line)?.[1] ?? []);
    return { ends: ends.sort(), results, stdout };
  };

  it.each(["powder-plot", "flood", "fit-copy-back", "own-sbatch"])(
    "of %s passes mento validate",
    async (name) => {
      const { code, stdout } = await tryMento(["validate", join(examples, "pipelines", name, "mento.yaml")]);
      expect({ code, stdout }).toMatchObject({ code: 0, stdout: expect.stringContaining("valid") as string });
    },
  );

  it("integrates on Slurm and plots here", async () => {
    const { ends, results } = await runPipeline("powder-plot", 2);
    expect(ends).toEqual(["integrate", "integrate", "plot", "plot"]);
    const plots = results.filter((path) => path.endsWith(".png"));
    expect(plots).toHaveLength(2);
    for (const plot of plots) expect(readFileSync(plot).subarray(1, 4).toString()).toBe("PNG");
  });

  it("takes a flood of small files", async () => {
    const { ends, results, stdout } = await runPipeline("flood", 12);
    expect(ends).toEqual(Array.from({ length: 12 }, () => "statistics"));
    expect(stdout).toMatch(/Slurm job \d+_\d+,/);
    const counts = results.map((path) => JSON.parse(readFileSync(path, "utf8")) as { count: number });
    expect(counts.map(({ count }) => count)).toEqual(Array.from({ length: 12 }, () => 100));
  });

  it("fits what was integrated, and copies the fit to the beamline", async () => {
    const { ends, results } = await runPipeline("fit-copy-back", 1);
    expect(ends).toEqual(["fit", "integrate"]);
    const fit = results.find((path) => path.endsWith("fit.json")) ?? "";
    expect(dirname(fit)).toMatch(`${facility.roots.gpfs}/current/processed/online/fit/`);
    const { position } = JSON.parse(readFileSync(fit, "utf8")) as { position: [number, number] };
    // The (110) ring of LaB6 at 0.2073 Å, by Bragg's law.
    expect(position[0]).toBeCloseTo(4.042, 2);
  });

  it("runs a user's own sbatch script", async () => {
    const { ends, results } = await runPipeline("own-sbatch", 1);
    expect(ends).toEqual(["own"]);
    expect(results.map((path) => path.split(".").at(-1)).sort()).toEqual(["dat", "png"]);
  });

  it("names the pipelines if there is none of the name", async () => {
    const { code, stderr } = await runNode([join(examples, "pipelines/run.mjs"), "powder"]);
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: expect.stringContaining("powder-plot|flood|") as string,
    });
  });
});

describe("a program with the library", () => {
  it("is MENTO's minimum working example", async () => {
    const program = join(beamtime.corePath, "shared/maxwell_program.exe");
    mkdirSync(dirname(program), { recursive: true });
    writeFileSync(program, '#!/bin/sh\necho "$@"\n');
    chmodSync(program, 0o755);
    const data = join(facility.roots.gpfs, "current/raw/s1/data.h5");
    const stdout = await runExample("library/minimum.mjs", [program, data], {
      MENTO_CONFIG: site.configFile,
    });
    expect(stdout).toMatch(/^Slurm job \d+, log .*\ncompleted/);
    const log = /log (.*)/.exec(stdout)?.[1] ?? "";
    expect(readFileSync(log, "utf8")).toBe(`analysis ${join(beamtime.corePath, "raw/s1/data.h5")}\n`);
  });

  it("visualizes a result here, while no beamtime is open", async () => {
    const curve = join(localJobs, "my curve.dat");
    writeFileSync(curve, "0 0 1\n1 0 3\n2 0 2\n");
    const env = { MENTO_CONFIG: alone.configFile, DISPLAY: "" };
    const stdout = await runExample("library/local-visualization.mjs", [curve], env);
    const plot = stdout.trim().split("\n").at(-1) ?? "";
    expect(plot).toMatch(/my curve\.png$/);
    expect(existsSync(plot)).toBe(true);
  });
});
