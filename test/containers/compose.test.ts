import { spawnSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { fileURLToPath } from "node:url";
import { eventually } from "../support/eventually.ts";
import { run } from "../support/mento.ts";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
/** Always the same: what a run that was killed has left is removed by the next. */
const NAME = "mento-test";
const FILES = 8;

/** Compose v2, as Docker has it today, or 1.29, as Debian has it. */
const COMPOSE =
  spawnSync("docker", ["compose", "version"]).status === 0 ? ["docker", "compose"] : ["docker-compose"];

const env = {
  COMPOSE_PROJECT_NAME: NAME,
  // Not those that a site may use.
  MENTO_IMAGE: "mento-test",
  SLURM_IMAGE: "mento-slurm-test",
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
/** Begins anew. */
async function runDetector(): Promise<string> {
  await compose("up", "-d", "--no-deps", "--force-recreate", "detector");
  return idOf("detector");
}

/** Resolves when the container has printed this so often. */
const until = (id: string, text: string, times = 1) =>
  eventually(
    `${id} says ${text}`,
    async () => {
      await sleep(200);
      return (await docker("logs", id)).split(text).length > times ? true : undefined;
    },
    120_000,
  );

/** Resolves when this is said of the container. */
const untilIs = (id: string, format: string, expected: string, milliseconds: number) =>
  eventually(
    `${format} of ${id} is ${expected}`,
    async () => {
      await sleep(500);
      return (await docker("inspect", "--format", `{{${format}}}`, id)) === expected ? true : undefined;
    },
    milliseconds,
  );
const isHealthy = async (service: string) =>
  untilIs(await idOf(service), ".State.Health.Status", "healthy", 180_000);

/** The detector has ended with its table: one line for each file, with how its job has ended. */
async function expectAllCompleted(): Promise<void> {
  const id = await idOf("detector");
  await untilIs(id, ".State.Status", "exited", 300_000);
  const log = await docker("logs", id);
  const table = log.slice(log.lastIndexOf("Times are from"));
  const states = [...table.matchAll(/^scan_\d{4}\S* +\d+ +\S+ +(\w+)/gm)].map(([, state]) => state);
  expect(states).toEqual(Array<string>(FILES).fill("completed"));
  expect(await docker("inspect", "--format", "{{.State.ExitCode}}", id)).toBe("0");
}

beforeAll(async () => {
  await compose("down", "--volumes", "--timeout", "5");
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

  it.each(["worker", "rabbitmq", "detector"])(
    "loses nothing when %s is killed at work, and started again",
    async (service) => {
      const detector = await runDetector();
      await until(detector, "job.started");
      const id = await idOf(service);
      await docker("kill", "--signal", "KILL", id);
      await docker("start", id);
      if (service !== "detector") await isHealthy(service);
      await expectAllCompleted();
    },
    600_000,
  );

  describe("loses nothing when slurm is killed, and started again,", () => {
    let slurm: string;
    const partition = (state: string) =>
      docker("exec", slurm, "scontrol", "update", "PartitionName=ponline_p11", `State=${state}`);
    const killAndStart = async () => {
      await docker("kill", "--signal", "KILL", slurm);
      await docker("start", slurm);
      await isHealthy("slurm");
      await partition("UP");
    };
    beforeEach(async () => {
      slurm = await idOf("slurm");
      await partition("DOWN");
      await until(await runDetector(), "Slurm job", FILES);
    }, 200_000);

    it("with jobs that wait, and that it has not written down", async () => {
      await killAndStart();
      await expectAllCompleted();
    }, 600_000);

    it("with jobs that wait, and others that run", async () => {
      // It writes down what it has accepted within 5 s.
      await sleep(7_000);
      await partition("UP");
      await until(await idOf("detector"), "job.started");
      await killAndStart();
      await expectAllCompleted();
    }, 600_000);
  });
});
