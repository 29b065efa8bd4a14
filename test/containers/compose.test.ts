import { spawnSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fileURLToPath } from "node:url";
import { eventually } from "../support/eventually.ts";
import { run } from "../support/mento.ts";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
const NAME = `mentotest${process.pid}`;
const FILES = 8;

/** Compose v2, as Docker has it today, or 1.29, as Debian has it. */
const COMPOSE =
  spawnSync("docker", ["compose", "version"]).status === 0 ? ["docker", "compose"] : ["docker-compose"];

const env = {
  COMPOSE_PROJECT_NAME: NAME,
  FILES: String(FILES),
  // Any that are free.
  RABBITMQ_PORT: "0",
  RABBITMQ_MANAGEMENT_PORT: "0",
};

async function compose(...args: string[]): Promise<string> {
  const [program = "", ...rest] = [...COMPOSE, ...args];
  const { code, stdout, stderr } = await run(program, rest, { cwd: PROJECT, env });
  if (code !== 0) throw new Error(`${[...COMPOSE, ...args].join(" ")}: ${stderr}${stdout}`);
  return stdout;
}

const docker = async (...args: string[]) => (await run("docker", args)).stdout.trim();
const idOf = async (service: string) => (await compose("ps", "-q", service)).trim().split("\n")[0] ?? "";
const stateOf = async (service: string, format: string) =>
  docker("inspect", "--format", `{{${format}}}`, await idOf(service));
const isHealthy = (service: string) =>
  eventually(
    `${service} is healthy`,
    async () => ((await stateOf(service, ".State.Health.Status")) === "healthy" ? true : undefined),
    180_000,
  );

/** The lines of the table that the detector prints: one for each file, with the job's number and how it ended. */
async function detectorsJobs(): Promise<{ slurmJob: string; state: string }[]> {
  await eventually(
    "the detector has ended",
    async () => ((await stateOf("detector", ".State.Status")) === "exited" ? true : undefined),
    300_000,
  );
  const log = await docker("logs", await idOf("detector"));
  const table = log.slice(log.lastIndexOf("Times are from"));
  return [...table.matchAll(/^scan_\d{4}\S* +(\d+) +\S+ +(\w+)/gm)].map(([, slurmJob = "", state = ""]) => ({
    slurmJob,
    state,
  }));
}

async function expectAllCompleted(): Promise<void> {
  const jobs = await detectorsJobs();
  expect(jobs.map(({ state }) => state)).toEqual(Array<string>(FILES).fill("completed"));
  expect(await stateOf("detector", ".State.ExitCode")).toBe("0");
}

beforeAll(async () => {
  await compose("up", "-d", "--build");
}, 900_000);
afterAll(async () => {
  const left = await run(COMPOSE[0] ?? "", [...COMPOSE.slice(1), "logs", "--tail=30"], { cwd: PROJECT, env });
  console.log(left.stdout.slice(-6000));
  await compose("down", "--volumes", "--timeout", "5");
}, 120_000);

describe("docker-compose.yml", () => {
  it("ends with the example's jobs completed", async () => {
    await expectAllCompleted();
  }, 400_000);

  it("publishes ports on loopback alone", async () => {
    const ports = await docker("ps", "--filter", `name=${NAME}`, "--format", "{{.Ports}}");
    const published = ports.match(/\S+->/g) ?? [];
    expect(published.length).toBeGreaterThan(0);
    for (const port of published) expect(port).toMatch(/^127\.0\.0\.1:/);
  });

  it("runs its workers as no root, and they end when they are told to", async () => {
    const id = await idOf("worker");
    expect(await docker("exec", id, "id", "-u")).toBe("1000");
    await docker("stop", id);
    expect(await docker("inspect", "--format", "{{.State.ExitCode}}", id)).toBe("0");
    await docker("start", id);
    await isHealthy("worker");
  }, 300_000);

  it.each(["worker", "rabbitmq", "slurm", "detector"])(
    "loses nothing when %s is killed at work, and started again",
    async (service) => {
      await compose("up", "-d", "--no-deps", "--force-recreate", "detector");
      await eventually(
        "jobs run",
        async () => {
          const log = await docker("logs", await idOf("detector"));
          return log.includes("job.started") ? true : undefined;
        },
        120_000,
      );
      const id = await idOf(service);
      await docker("kill", "--signal", "KILL", id);
      await docker("start", id);
      if (service !== "detector") await isHealthy(service);
      await expectAllCompleted();
    },
    600_000,
  );
});
