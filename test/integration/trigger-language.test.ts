import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { run, tryMento } from "../support/mento.ts";
import { beamtime, eventually, facility, TestSite, writeOnCore } from "../support/site.ts";

const when = (technique: string) => ({ technique });
const fail = { technique: "fail" };
const chained = (name: string, group?: string) => ({
  name,
  on: { type: "job.completed", trigger: "make", ...(group === undefined ? {} : { group }) },
  run: ["/usr/bin/printf", "%s\\n", "{{ results[0].path }}", "{{ cause.trigger }}", "{{ technique }}"],
});

const site = new TestSite(
  [
    {
      name: "make",
      on: { ...when("make"), parameters: { "geometry.distance": { min: 1000 } } },
      unless: { parameters: { dark: true } },
      run: ["/bin/sh", "-c", 'echo profile > "$1/profile.dat"', "sh", "{{ results }}"],
    },
    chained("show"),
    chained("of-others", "elsewhere"),
    { name: "broken", on: fail, run: ["/bin/false"] },
    {
      name: "tell",
      on: { type: "job.failed", exitCode: 1 },
      unless: { trigger: "tell" },
      run: ["/bin/true"],
    },
    {
      name: "flags",
      on: when("flags"),
      run: ["/bin/true"],
      slurm: {
        time: 5,
        tasks: 2,
        cpusPerTask: 1,
        memory: "100M",
        exclusive: true,
        dependency: "singleton",
        extra: ["--nice=10", "--wait-all-nodes=0"],
      },
    },
  ],
  { worker: { group: "here" } },
);

beforeAll(() => site.startWorker());
afterAll(() => site.tearDown());

async function publish(technique: string, parameters = {}) {
  return (await publishDataReady(await site.client(), { path: writeOnCore(), technique, parameters })).id;
}

const endOf = (id: string, trigger: string) => () =>
  site
    .jobEventsOf(id)
    .find(({ type, data }) => data.job.trigger === trigger && type === "mento.job.completed.v1");

describe("a chain", () => {
  it("runs the next trigger with the results of the one before, and none that waits for another group's", async () => {
    const id = await publish("make", { geometry: { distance: 1500 } });
    const { data } = await eventually("show completes", endOf(id, "show"));
    expect(data.chain.map(({ trigger }) => trigger)).toEqual(["make"]);
    const log = readFileSync(join(data.job.directory, "job.log"), "utf8");
    expect(log.split("\n")).toEqual([expect.stringMatching(/\/profile\.dat$/), "make", "make", ""]);
    expect(site.jobEventsOf(id).some((event) => event.data.job.trigger === "of-others")).toBe(false);
  });

  it("starts on a failure, and not on its own jobs", async () => {
    const id = await publish("fail");
    const { data } = await eventually("tell completes", endOf(id, "tell"));
    expect(data.chain.map(({ trigger }) => trigger)).toEqual(["broken"]);
  });
});

it("a message that a trigger excludes is ignored, and the event says why", async () => {
  const id = await publish("make", { geometry: { distance: 1500 }, dark: true });
  const { data } = await site.event("message.ignored", id);
  expect(data.reasons).toContainEqual({
    trigger: "make",
    reason: "parameters.dark is true, which the trigger excludes (unless)",
  });
});

it("Slurm is told all that the trigger says", async () => {
  const id = await publish("flags");
  const { data } = await site.event("job.submitted", id);
  const env = { SLURM_CONF: facility.slurm.conf };
  const { stdout } = await run("scontrol", ["show", "job", data.slurm.jobId], { env });
  for (const fact of [
    "NumTasks=2",
    "CPUs/Task=1",
    "MinMemoryNode=100M",
    "OverSubscribe=NO",
    "TimeLimit=00:05:00",
  ]) {
    expect(stdout).toContain(fact);
  }
  expect(stdout).toMatch(/Nice=10/);
  await site.event("job.completed", id);
});

describe("mento match", () => {
  const match = (message: object, ...options: string[]) =>
    tryMento(["match", "-", "-c", site.configFile, ...options], { input: JSON.stringify(message) });

  it("says what would run in the open beamtime: exit 0", async () => {
    const path = join(facility.roots.gpfs, "current/raw/a.dat");
    const { code, stdout, stderr } = await match({
      path,
      technique: "make",
      parameters: { geometry: { distance: 1e4 } },
    });
    expect(stdout).toMatch(/^make: would run \(remote-sbatch-script/);
    expect(stdout).toContain(`sh ${beamtime.corePath}/processed/onlineanalysis/make/a.dat\n`);
    expect(stdout).toContain("show: would not run: it is data.ready; the trigger wants job.completed\n");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  });

  it("says that none would run: exit 1; with --json, one object a line", async () => {
    const { code, stdout } = await match({ path: "/x" }, "--json");
    expect(code).toBe(1);
    const rows = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { trigger: string; fires: boolean });
    expect(rows.map(({ trigger, fires }) => `${trigger} ${fires}`)).toEqual(
      ["make", "show", "of-others", "broken", "tell", "flags"].map((name) => `${name} false`),
    );
  });

  it("takes the bare data of an event of a job of this group, if it is told so", async () => {
    const id = await publish("make", { geometry: { distance: 1500 } });
    const { data } = await site.event("job.completed", id);
    const { code, stdout } = await match(data, "--as", "job.completed");
    expect(stdout).toContain("show: would run");
    expect(code).toBe(0);
    expect((await match(data, "--as", "job.complete")).code).toBe(2);
  });

  it("refuses what a worker would refuse, with the same words; wrong configurations with 2", async () => {
    const { code, stderr } = await match({ pth: "/x" });
    expect(code).toBe(1);
    expect(stderr).toContain(
      "data.path: must be an absolute path like /gpfs/current/raw/a.h5, or a list of 1 to 1000",
    );
    expect(stderr).toContain("[wrong-schema]");
    const file = join(site.folder, "wrong.yaml");
    writeFileSync(file, "triggers:\n  - name: a\n    run: ls {{ path }}\n");
    const wrong = await tryMento(["match", "-", "-c", file], { input: "{}" });
    expect(wrong.stderr).toContain(
      `${file}:3:5: triggers.0.run: must be a list, each argument on its own: [ls, "{{ path }}"]`,
    );
    expect(wrong.code).toBe(2);
  });
});
