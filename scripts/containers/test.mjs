// `npm run test:containers`: the integration tests with all servers in containers of Debian 13, and docker-compose.yml itself.
// Installs and starts a Docker engine if none answers, and ends it again; --keep leaves it for the next run. Other arguments
// go to vitest.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { ensureEngine, stopEngineOfTests } from "./engine.mjs";
import { baseImages, build, buildFacility, npmRegistry } from "./images.mjs";
import { ask, endOnSignal, show, Trouble } from "./run.mjs";

const started = performance.now();
const [...args] = process.argv.slice(2).filter((arg) => arg !== "--keep");
const isKept = process.argv.includes("--keep");

const say = (/** @type {string} */ step) => {
  const seconds = Math.round((performance.now() - started) / 1000);
  console.error(`${String(seconds).padStart(4)} s  ${step} …`);
};

endOnSignal();
try {
  await ensureEngine(say, { forTests: true });
  const log = join(mkdtempSync(join(tmpdir(), "mento-containers-")), "log");
  const images = await baseImages(say, log);
  const facility = await buildFacility(say, log, images);
  await build("slurm", "mento-slurm-test", images, say, log);
  await build("mento", "mento-test", images, say, log);
  rmSync(dirname(log), { recursive: true });
  say("testing");
  const projects = args.includes("--project") ? [] : ["--project", "integration", "--project", "containers"];
  process.exitCode = await show(
    process.execPath,
    ["node_modules/vitest/vitest.mjs", "run", ...projects, ...args],
    { env: { ...images, ...npmRegistry(), MENTO_TEST_SERVERS: "containers", MENTO_TEST_IMAGE: facility } },
  );
} catch (error) {
  if (!(error instanceof Trouble)) throw error;
  console.error(error.message);
  process.exitCode = 1;
} finally {
  ask("docker-compose", ["--project-name", "mento-test", "down", "--volumes", "--timeout", "5"], 60);
  if (!isKept) await stopEngineOfTests();
  say("done");
}
