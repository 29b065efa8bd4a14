import { randomUUID } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { beamtime, facility, TestSite, writeOnCore } from "../support/site.ts";

const sh = (script: string, ...args: string[]) => ["/bin/sh", "-c", script, "sh", ...args];
const localJobs = mkdtempSync("/tmp/mento-chains-");
const noGpfs = join(localJobs, "gpfs");
mkdirSync(noGpfs);

const site = new TestSite(
  [
    {
      name: "integrate",
      on: { technique: "chain" },
      run: sh(
        'cp "$1" "$2/profile.dat"; echo "$TRACEPARENT" > "$2/trace.txt"',
        "{{ path }}",
        "{{ results }}",
      ),
      results: ["*.dat", "trace.txt"],
      copyBack: { to: "processed/online" },
    },
    {
      name: "fit",
      method: "remote-command",
      on: { type: "job.completed", trigger: "integrate" },
      run: sh(
        'cat "$@" > "$MENTO_RESULTS_DIR/fit.txt"; echo "$TRACEPARENT" > "$MENTO_RESULTS_DIR/trace.txt"',
        "{{ cause.results }}",
      ),
    },
    {
      name: "plot",
      method: "local-bash-script",
      on: { type: "job.completed", trigger: "fit" },
      run: sh(
        'echo "$1 $2 $TRACEPARENT" > "$MENTO_RESULTS_DIR/plot"',
        "{{ parameters.title }}",
        "{{ path }}",
      ),
    },
    { name: "fails", on: { technique: "fails" }, run: sh("exit 9") },
    {
      name: "tell",
      method: "local-bash-script",
      on: { type: "job.failed", trigger: "fails" },
      run: ["/bin/echo", "{{ cause.exitCode }}", "{{ cause.directory }}"],
    },
    {
      name: "copies",
      on: { technique: "copies" },
      run: sh(
        'cd "$1"; for n in a b c; do head -c 1000 /dev/zero > $n.dat; done; echo x > d.txt; exit $2',
        "{{ results }}",
        "{{ parameters.code }}",
      ),
      results: ["**/*.dat"],
      copyBack: { to: "processed/online", maxBytes: 2500, maxFiles: 10 },
    },
    {
      name: "lists",
      on: { technique: "lists" },
      run: sh(
        'cd "$MENTO_RESULTS_DIR"; mkdir s; echo 1 > "s/a b.dat"; echo 2 > z; echo 3 > y; printf "%s\\n" z "s/a b.dat" nowhere > "$MENTO_RESULTS"',
      ),
      results: ["*.never"],
    },
  ],
  { site: { localJobs: join(localJobs, "jobs") } },
);
/** A visualization PC at which no beamtime is open. */
const alone = new TestSite(
  [{ name: "show", method: "local-bash-script", run: ["/bin/echo", "{{ path }}"] }],
  {
    site: {
      localJobs: join(localJobs, "alone"),
      ...{ gpfs: noGpfs, core: noGpfs, localData: [facility.roots.core] },
    },
  },
);

beforeAll(() => Promise.all([site.startWorker(), alone.startWorker()]));
afterAll(async () => {
  await Promise.all([site.tearDown(), alone.tearDown()]);
  rmSync(localJobs, { recursive: true });
});

async function publish(technique: string, parameters: Record<string, string | number> = {}, at = site) {
  const path = writeOnCore();
  const { id } = await publishDataReady(await at.client(), { path, technique, parameters });
  return { id, path };
}

/** The result of this name, as an event has it. */
const resultIn = (event: Awaited<ReturnType<TestSite["event"]>>, name: string) =>
  event.data.results.find(({ path }) => basename(path) === name);
const textOf = (event: Awaited<ReturnType<TestSite["event"]>>, name: string) =>
  readFileSync(resultIn(event, name)?.path ?? name, "utf8");

describe("a chain of three", () => {
  it("runs each with the results of the one before, as one trace of one cause", async () => {
    const path = writeOnCore();
    const data = { path, technique: "chain", parameters: { title: "it's $(one)" } };
    const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const { id, time } = await publishDataReady(await site.client(), data, { traceparent });
    const ended = (trigger: string) => site.eventOf("job.completed", id, trigger);
    const [integrate, fit, plot] = [await ended("integrate"), await ended("fit"), await ended("plot")];
    expect(textOf(fit, "fit.txt")).toBe(textOf(integrate, "profile.dat") + textOf(integrate, "trace.txt"));
    const [title, ...rest] = textOf(plot, "plot").split(" /");
    expect(title).toBe("it's $(one)");
    expect(rest.join(" /")).toContain(`raw/${basename(path)}`);
    expect(plot.data.chain.map(({ trigger }) => trigger)).toEqual(["integrate", "fit"]);
    expect(plot.data.chain.map(({ job }) => job)).toEqual([integrate.data.job.id, fit.data.job.id]);
    expect(plot.data.message.parameters).toEqual({ title: "it's $(one)" });
    const traces = [textOf(integrate, "trace.txt"), textOf(fit, "trace.txt"), textOf(plot, "plot")].map(
      (text) => /00-([0-9a-f]{32})-([0-9a-f]{16})-01/.exec(text)?.slice(1) ?? [],
    );
    expect(new Set(traces.map(([trace]) => trace))).toEqual(new Set(traceparent.split("-").slice(1, 2)));
    expect(new Set(traces.map(([, span]) => span)).size).toBe(3);
    const events = [integrate, fit, plot];
    expect(events.map(({ traceparent }) => traceparent?.split("-")[2])).toEqual(
      traces.map(([, span]) => span),
    );
    expect(events.map(({ data }) => data.paths)).toEqual([[path], [path], [path]]);
    expect(new Set(events.map(({ data }) => data.times.ready))).toEqual(new Set([time]));
  });

  it("goes on after a failure too, where a trigger wants that", async () => {
    const { id } = await publish("fails");
    const { data } = await site.eventOf("job.completed", id, "tell");
    const failed = await site.event("job.failed", id);
    expect(readFileSync(join(data.job.directory, "job.log"), "utf8")).toBe(
      `9 ${failed.data.job.directory}\n`,
    );
  });
});

it("a job here needs no open beamtime", async () => {
  const { id, path } = await publish("any", {}, alone);
  const { data } = await alone.event("job.completed", id);
  expect(data.session).toEqual({ beamline: null, id: null, corePath: null });
  expect(readFileSync(join(data.job.directory, "job.log"), "utf8")).toBe(`${path}\n`);
});

describe("results", () => {
  it("are what the program lists, in its order", async () => {
    const { id } = await publish("lists");
    const { data } = await site.event("job.completed", id);
    expect(data.results.map(({ path }) => basename(path))).toEqual(["z", "a b.dat"]);
  });

  it("are copied to the beamline, within limits, and with the path that the beamline sees", async () => {
    const { id } = await publish("copies", { code: 0 });
    const { data } = await site.event("job.completed", id);
    const copied = data.results.map(({ beamlinePath }) => beamlinePath);
    expect(copied.map((one) => one && basename(one))).toEqual(["a.dat", "b.dat", null]);
    expect(existsSync(copied[0] ?? "")).toBe(true);
    expect(readFileSync(join(data.job.directory, "job.log"), "utf8")).toMatch(
      /not copied to the beamline: .*c\.dat: more than 2500 bytes in all/,
    );
  });

  it("of a program that failed are not copied", async () => {
    const { id } = await publish("copies", { code: 3 });
    const { data } = await site.event("job.failed", id);
    expect(data.results.map(({ beamlinePath }) => beamlinePath)).toEqual([null, null, null]);
  });

  it("are never copied over a file that somebody else has made, but over our own copy of before", async () => {
    const path = writeOnCore();
    const send = async () => {
      const message = { path, technique: "copies", parameters: { code: 0 } };
      const { id } = await publishDataReady(await site.client(), message, { id: randomUUID() });
      return (await site.event("job.completed", id)).data.results;
    };
    const [first] = await send();
    const copy = first?.beamlinePath ?? "";
    expect((await send())[0]?.beamlinePath).toBe(copy);
    rmSync(copy);
    writeFileSync(copy, "mine");
    expect((await send())[0]?.beamlinePath).toBe(null);
    expect(readFileSync(copy, "utf8")).toBe("mine");
    expect(copy.startsWith(join(facility.roots.gpfs, "current/processed/online/copies"))).toBe(true);
    expect(copy).not.toContain(beamtime.corePath);
  });
});
