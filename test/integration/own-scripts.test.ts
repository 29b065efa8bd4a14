import { chmodSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { Trigger } from "../../src/index.ts";
import { SBATCH_OPTIONS } from "../../src/slurm/sbatch-options.ts";
import { NOT_FROM_SCRIPT } from "../../src/slurm/slurm-flags.ts";
import { tryMento } from "../support/mento.ts";
import { OwnScripts, userScripts } from "../support/own-scripts.ts";
import { beamtime, facility, TestSite, writeOnCore } from "../support/site.ts";

const script = (...directives: string[]) =>
  ["#!/bin/sh", ...directives.map((one) => `#SBATCH ${one}`), "true", ""].join("\n");

const planning = new TestSite([]);
const trigger = new Trigger(undefined, { config: planning.configFile });
const own = new OwnScripts({ facility, beamtime }, trigger);
afterAll(async () => {
  await trigger.close();
  await planning.tearDown();
});

/** Held, so that they stay as they are. */
const HELD = ["--parsable", "--hold"];
const TIME = "--time=9";

/** What a script's directives change of a job, as `scontrol show job` has it; or why there is none. */
async function changed(directives: readonly string[], of: Awaited<ReturnType<typeof held>>) {
  const now = await held(directives);
  const difference = (way: "bySbatch" | "byMento") =>
    Object.fromEntries(
      Object.entries(now[way]).filter(([name, value]) => (of[way] as Record<string, string>)[name] !== value),
    );
  return { bySbatch: difference("bySbatch"), byMento: difference("byMento"), notes: now.notes };
}

async function held(directives: readonly string[]) {
  const { bySbatch, byMento, notes } = await own.bothWays(script(TIME, ...directives), ...HELD);
  return { bySbatch: own.takeFields(bySbatch), byMento: own.takeFields(byMento), notes };
}

describe("a directive of a user's own script", () => {
  let without: Awaited<ReturnType<typeof held>>;
  beforeAll(async () => {
    without = await held([]);
  });

  /** One value each; what this Slurm has not, is refused both ways. `*`: it cannot be seen in what Slurm shows. */
  const TAKEN =
    `account=root acctg-freq=60 batch=x bb=x bbf=x begin=2031-01-02T03:04:05 cluster-constraint=x constraint=CPU
    container=/x container-id=x contiguous context=x* core-spec=1* cores-per-socket=2 cpu-freq=high* cpus-per-gpu=1
    cpus-per-task=2 deadline=2032-01-02T03:04:05 delay-boot=5 dependency=singleton distribution=cyclic* exclude=max-p11-002
    exclusive exclusive=user extra=x extra-node-info=1:2 gpu-bind=none gpu-freq=low gpus=1 gpus-per-node=1
    gpus-per-socket=1 gpus-per-task=1 gres=gpu:1 gres=none* gres-flags=enforce-binding hint=nomultithread hold*
    ignore-pbs* kill-on-invalid-dep=yes licenses=x mail-type=END mail-user=me@x* mcs-label=x mem=3G mem-bind=local*
    mem-per-cpu=2G mem-per-gpu=2G mincpus=2 network=x nice=5 no-kill* nodefile=x nodelist=max-p11-002 nodes=2 nodes=1-2
    ntasks=3 ntasks-per-core=1 ntasks-per-gpu=1 ntasks-per-node=2 ntasks-per-socket=1 ntasks-per-tres=1 oom-kill-step=1*
    overcommit* oversubscribe power=x* prefer=CPU priority=5* profile=task* propagate=NOFILE* qos=x* reboot resv-ports=2
    segment=1* signal=B:USR1@60* sockets-per-node=1 spread-job stepmgr* switches=1@5 tasks-per-node=2 thread-spec=1*
    threads-per-core=1 time=7 time-min=3 tmp=5M tres-bind=x tres-per-task=cpu=2 use-min-nodes* verbose*
    wait-all-nodes=1* wckey=x*`.split(/\s+/);

  it.each(TAKEN)("makes of the job what sbatch makes of it: --%s", async (one) => {
    const { bySbatch, byMento } = await changed([`--${one.replace("*", "")}`], without);
    expect(byMento).toEqual(bySbatch);
    if (!one.endsWith("*")) expect(bySbatch).not.toEqual({});
  });

  const LEFT_OUT =
    `array=0-3 chdir=/tmp cluster=other clusters=other comment=x error=x export=NONE export-file=1 get-user-env
    gid=1 input=/dev/null job-name=x open-mode=truncate output=x partition=x requeue reservation=x uid=1 quiet wait wrap=true
    test-only help usage version autocomplete=x`.split(/\s+/);

  /** The command and the directives that it is submitted with, but for its ids. */
  const submitted = (shown: string) =>
    [...shown.matchAll(/^(sbatch |#SBATCH ).*$/gm)].map(([line]) => line.replaceAll(/[a-z2-7]{26}/g, ""));

  it.each(LEFT_OUT)("changes nothing, and is named: --%s", async (one) => {
    const shown = await own.show(own.write(script(TIME, `--${one}`)));
    expect(submitted(shown)).toEqual(submitted(await own.show(own.write(script(TIME)))));
    expect(shown).toContain(`\n# --${one} is left out: `);
  });

  it("is one of these: all that sbatch has", () => {
    const names = (list: string[]) => list.map((one) => /^[\w-]+/.exec(one)?.[0] ?? "");
    const same = ["no-requeue", "parsable"];
    expect([...new Set([...names(TAKEN), ...names(LEFT_OUT), ...same])].sort()).toEqual(
      [...SBATCH_OPTIONS].sort(),
    );
    expect([...names(LEFT_OUT), ...same].sort()).toEqual(Object.keys(NOT_FROM_SCRIPT).sort());
  });
});

describe("a script of a user's own", () => {
  /** What Slurm would give it, or that it would not. */
  const gist = (said: { printed: string } | { refused: string }) =>
    "refused" in said
      ? "refused"
      : (/using .*/.exec(said.printed)?.[0].replace(/ on nodes \S+/, "") ?? said.printed);
  const scripts = userScripts();

  it("is one of more than a hundred", () => expect(scripts.length).toBeGreaterThan(100));

  it.each(scripts)("gets what sbatch --test-only gives it: $title", async ({ text, differs }) => {
    const { bySbatch, byMento, notes } = await own.bothWays(text, "--test-only");
    if (differs === undefined) expect(gist(byMento)).toBe(gist(bySbatch));
    else if (differs === "by Mento") expect([gist(bySbatch), notes.length]).toEqual(["refused", 1]);
    else expect([gist(byMento), "printed" in bySbatch]).toEqual(["refused", true]);
  });

  it.each([
    ["DOS line breaks", script("--time=5").replaceAll("\n", "\r\n"), /DOS line breaks.*dos2unix/s],
    ["a byte order mark", `\uFEFF${script("--time=5")}`, /byte order mark.*without BOM/s],
    ["no interpreter", script("--time=5").replace("#!/bin/sh\n", ""), /does not begin with #!/],
    ["a NUL byte", `${script("--time=5")}\0`, /NUL byte/],
  ])("that sbatch does not take for its form says what it has: %s", async (_, text, what) => {
    const { bySbatch } = await own.bothWays(text, "--test-only");
    expect(bySbatch).toHaveProperty("refused");
    const { code, stderr } = await tryMento(["run", "-c", planning.configFile, "--", own.write(text)]);
    expect(code).toBe(1);
    expect(stderr).toMatch(what);
  });
});

describe("of a time limit", () => {
  const limitOf = async (path: string, ...options: string[]) => {
    const { stdout } = await tryMento(["run", "-c", planning.configFile, "--show", ...options, "--", path]);
    return /'--time=([\w:-]*)'/.exec(stdout)?.[1];
  };

  it("what the caller asks for counts, then what the script says, then the default", async () => {
    const says = own.write(script("--time=5"));
    expect(await limitOf(says, "--time", "00:10:00")).toBe("00:10:00");
    expect(await limitOf(says)).toBe("5");
    expect(await limitOf(own.write(script("--ntasks=1")))).toMatch(/^\d+-/);
    expect((await trigger.plan([says], { jobTime: "7" })).target.allocation).toMatchObject({ time: "7" });
    expect((await trigger.plan([says])).target.allocation).toMatchObject({ time: "5" });
  });
});

it("what is left out is named in the log and in the first event, and a licence that nobody has is said", async () => {
  const named = own.write(script("--time=5", "--output=x.log", "--ntasks=2"));
  const licensed = own.write(script("--time=5", "--licenses=nobody:1"));
  for (const path of [named, licensed]) chmodSync(path, 0o755);
  const site = new TestSite([
    { name: "named", on: { technique: "named" }, run: [named] },
    { name: "licensed", on: { technique: "licensed" }, run: [licensed] },
  ]);
  const worker = await site.startWorker();
  const client = await site.client();
  const publish = async (technique: string) =>
    (await publishDataReady(client, { path: writeOnCore(), technique })).id;
  const [ofNamed, ofLicensed] = [await publish("named"), await publish("licensed")];
  const note = "--output=x.log is left out: the job's log is job.log in its directory";
  expect((await site.event("job.submitted", ofNamed)).data.notes).toEqual([note]);
  expect((await site.event("job.completed", ofNamed)).data.notes).toBeUndefined();
  expect(worker.log).toContain(note);
  const { error } = (await site.event("message.rejected", ofLicensed)).data;
  expect(error?.message).toContain("Invalid license specification");
  expect(error?.hint).toContain(licensed);
  await site.tearDown();
});
