import { randomUUID } from "node:crypto";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import type { DataReady } from "../../src/messages/data-ready.ts";
import type { JobMethod } from "../../src/messages/job-event.ts";
import { beamtime, eventually, facility, TestSite, writeOnCore } from "../support/site.ts";
import { slurmRestSection, submitHostIn } from "../support/submit-host.ts";

const METHODS: JobMethod[] = [
  "remote-sbatch-script",
  "remote-command",
  "local-sbatch-script",
  "local-bash-script",
  "slurm-rest-api",
];
/** Jobs that are processes of their own. */
const PROCESSES: JobMethod[] = ["remote-command", "local-bash-script"];
const sh = (script: string, ...args: string[]) => ["/bin/sh", "-c", script, "sh", ...args];

/** What a program finds: its environment, standard input, folder and arguments. */
const LOOK = `
cat > "$MENTO_RESULTS_DIR/stdin"
env -0 > "$MENTO_RESULTS_DIR/env"
pwd > "$MENTO_RESULTS_DIR/pwd"
cat "$MENTO_PARAMETERS" > "$MENTO_RESULTS_DIR/parameters.json"
echo seen`;

const top = mkdtempSync("/tmp/mento-methods-");
const asBeamtime = submitHostIn(top);
asBeamtime.env = { ...asBeamtime.env, SECRET_OF_THE_WORKER: "1" };

const triggersOf = (method: JobMethod) => [
  {
    name: `look-${method}`,
    method,
    on: { technique: `look-${method}` },
    run: sh(LOOK),
    env: { GEOMETRY: "{{ parameters.poni }}" },
    workdir: "/tmp",
    stdin: "{{ parameters.text }}",
  },
  {
    name: `end-${method}`,
    method,
    on: { technique: `end-${method}` },
    run: sh(
      'echo "$1" >> "$2/runs"; echo it ends; eval "$3"',
      "{{ jobId }}",
      facility.dir,
      "{{ parameters.do }}",
    ),
  },
];
const configuration = {
  // A home belongs to the account: what the worker of root keeps is beside it.
  site: { localJobs: join(top, "jobs") },
  worker: { reconcileSeconds: 1 },
  slurmRest: slurmRestSection(),
};
const ofSubmitHost: JobMethod = "local-sbatch-script";
const site = new TestSite(METHODS.filter((one) => one !== ofSubmitHost).flatMap(triggersOf), configuration);
const submitHost = new TestSite(triggersOf(ofSubmitHost), configuration);
const siteOf = (method: JobMethod) => (method === ofSubmitHost ? submitHost : site);
const startWorker = (method: JobMethod) =>
  siteOf(method).startWorker(method === ofSubmitHost ? asBeamtime : { env: { SECRET_OF_THE_WORKER: "1" } });

beforeAll(async () => {
  chmodSync(submitHost.folder, 0o755);
  writeFileSync(join(facility.dir, "runs"), "");
  chmodSync(join(facility.dir, "runs"), 0o666);
  await Promise.all([startWorker("remote-command"), startWorker(ofSubmitHost)]);
});
afterAll(async () => {
  await Promise.all([site.tearDown(), submitHost.tearDown()]);
  rmSync(top, { recursive: true, force: true });
});

async function publish(method: JobMethod, what: "look" | "end", parameters: DataReady["parameters"]) {
  const message = { path: writeOnCore(), technique: `${what}-${method}`, parameters };
  return (await publishDataReady(await siteOf(method).client(), message)).id;
}

const runsOf = (jobId: string) =>
  readFileSync(join(facility.dir, "runs"), "utf8")
    .split("\n")
    .filter((line) => line === jobId).length;

describe.each(METHODS)("%s", (method) => {
  it("gives the program its environment, folder, input and parameters, and nothing of the worker's", async () => {
    const parameters = { poni: "it's $HOME", text: "a\n'b'\\c\n", n: [1, { é: null }] };
    const cause = await publish(method, "look", parameters);
    const { data } = await siteOf(method).event("job.completed", cause);
    const read = (name: string) => {
      const found = data.results.find(({ path }) => path.endsWith(`/${name}`));
      return readFileSync(found?.path ?? name, "utf8");
    };
    const env = Object.fromEntries(
      read("env")
        .split("\0")
        .map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]),
    );
    expect(env).toMatchObject({
      GEOMETRY: "it's $HOME",
      MENTO_JOB_ID: data.job.id,
      MENTO_TRIGGER: `look-${method}`,
      MENTO_CAUSE_ID: cause,
      MENTO_BEAMTIME_ID: beamtime.beamtimeId,
    });
    const root = method === "local-bash-script" ? "/gpfs/current/raw/" : "/raw/";
    expect(env["MENTO_DATA_PATH"]).toContain(root);
    expect(env["TRACEPARENT"]).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
    expect(env).not.toHaveProperty("SECRET_OF_THE_WORKER");
    expect(env).not.toHaveProperty("SSH_CONNECTION");
    expect(read("stdin")).toBe(parameters.text);
    expect(read("pwd")).toBe("/tmp\n");
    expect(JSON.parse(read("parameters.json"))).toEqual(parameters);
    expect(readFileSync(join(data.job.directory, "job.log"), "utf8")).toBe("seen\n");
    expect(data.job.method).toBe(method);
    expect({ isProcess: data.process !== null, isSlurm: typeof data.slurm.jobId === "string" }).toEqual({
      isProcess: PROCESSES.includes(method),
      isSlurm: !PROCESSES.includes(method),
    });
  });

  it("tells how the program ended", async () => {
    const seven = await publish(method, "end", { do: "exit 7" });
    const killed = await publish(method, "end", { do: "kill -SEGV $$" });
    expect((await siteOf(method).event("job.failed", seven)).data).toMatchObject({
      exit: { code: 7, signal: null, reason: "exit-code" },
      error: { message: "The program ended with exit code 7. Its log ends: it ends" },
    });
    expect((await siteOf(method).event("job.failed", killed)).data.exit).toMatchObject({
      signal: "SIGSEGV",
      reason: "signal",
    });
  });

  it("goes on without a worker, and the next one tells its end", async () => {
    const worker = siteOf(method).workers.at(-1);
    const cause = await publish(method, "end", { do: "sleep 3; exit 5" });
    const { data } = await siteOf(method).event("job.started", cause);
    worker?.process.kill("SIGKILL");
    await worker?.ended;
    await startWorker(method);
    expect((await siteOf(method).event("job.failed", cause)).data.exit?.code).toBe(5);
    expect(runsOf(data.job.id)).toBe(1);
  });
});

describe.each(PROCESSES)("%s", (method) => {
  it("whose processes are all killed has failed", async () => {
    const cause = await publish(method, "end", { do: "sleep 600" });
    const { data } = await siteOf(method).event("job.started", cause);
    const { pid = 0 } = data.process ?? {};
    expect(existsSync(`/proc/${pid}`)).toBe(true);
    process.kill(-pid, "SIGKILL");
    expect((await siteOf(method).event("job.failed", cause)).data.exit).toMatchObject({
      signal: "SIGKILL",
      reason: "signal",
    });
  });

  it("is started once, however often its message comes", async () => {
    const message = { path: writeOnCore(), technique: `end-${method}`, parameters: { do: "sleep 1" } };
    const same = { id: randomUUID(), source: "/test" };
    const client = await siteOf(method).client();
    await startWorker(method);
    await Promise.all(Array.from({ length: 10 }, () => publishDataReady(client, message, same)));
    const { data } = await siteOf(method).event("job.completed", same.id);
    await eventually("the queue is empty", () => siteOf(method).isQuiet(), 20_000);
    expect(runsOf(data.job.id)).toBe(1);
  });
});
