// `npm run test:containers`: the integration tests with all servers in containers of Debian 13, and docker-compose.yml itself.
// Installs and starts a Docker engine if none answers, and ends it again; --keep leaves it for the next run. Other arguments
// go to vitest.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ensureEngine, stopEngineOfTests } from "./engine.mjs";
import { baseImages, build, buildFacility } from "./images.mjs";
import { stopRunning, Trouble } from "./run.mjs";

const started = performance.now();
const [...args] = process.argv.slice(2).filter((arg) => arg !== "--keep");
const isKept = process.argv.includes("--keep");

const say = (/** @type {string} */ step) => {
  const seconds = Math.round((performance.now() - started) / 1000);
  console.error(`${String(seconds).padStart(4)} s  ${step} …`);
};

/** @type {import("node:child_process").ChildProcess | undefined} */
let tests;
let isStopped = false;
for (const signal of /** @type {const} */ (["SIGINT", "SIGTERM"])) {
  process.on(signal, () => {
    isStopped = true;
    stopRunning();
    tests?.kill("SIGINT");
  });
}

try {
  await ensureEngine(say, { forTests: true });
  const folder = mkdtempSync(join(tmpdir(), "mento-containers-"));
  const log = join(folder, "log");
  const images = await baseImages(say, log);
  const facility = await buildFacility(say, log);
  await build("slurm", "mento-slurm", images, say, log);
  await build("mento", "mento", images, say, log);
  rmSync(folder, { recursive: true });
  if (!isStopped) {
    say("testing");
    const projects = ["--project", "integration", "--project", "containers"];
    process.exitCode = await vitest([...(args.includes("--project") ? [] : projects), ...args], {
      ...images,
      MENTO_TEST_SERVERS: "containers",
      MENTO_TEST_IMAGE: facility,
    });
  }
} catch (error) {
  if (!(error instanceof Trouble)) throw error;
  console.error(error.message);
  process.exitCode = 1;
} finally {
  if (!isKept) await stopEngineOfTests();
  say("done");
}

/**
 * @param {string[]} parameters
 * @param {Record<string, string>} env
 * @returns {Promise<number>}
 */
function vitest(parameters, env) {
  return new Promise((resolve) => {
    tests = spawn(process.execPath, ["node_modules/vitest/vitest.mjs", "run", ...parameters], {
      stdio: "inherit",
      env: { ...process.env, ...env },
    });
    tests.on("exit", (code) => resolve(code ?? 1));
  });
}
