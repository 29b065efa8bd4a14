// `npm run containers -- prepare`: a Docker engine, if none answers, and images to build from, also where no registry is in
// reach; then docker-compose.yml works as it stands. `npm run containers -- remove` takes away what it has made.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { ensureEngine, stopEngine } from "./engine.mjs";
import { baseImages, npmRegistry } from "./images.mjs";
import { endOnSignal, Trouble } from "./run.mjs";

const ENV_FILE = fileURLToPath(new URL("../../.env", import.meta.url));
const HEADER = "# Written by `npm run containers -- prepare`; docker-compose reads it.";

const say = (/** @type {string} */ step) => console.error(`${step} …`);

async function prepare() {
  await ensureEngine(say, { forTests: false });
  const log = join(mkdtempSync(join(tmpdir(), "mento-containers-")), "log");
  const images = await baseImages(say, log);
  rmSync(dirname(log), { recursive: true, force: true });
  const lines = Object.entries({ ...images, ...npmRegistry() }).map(([name, image]) => `${name}=${image}`);
  if (existsSync(ENV_FILE) && !readFileSync(ENV_FILE, "utf8").startsWith(HEADER)) {
    console.log(`There is a file .env of yours. These lines belong into it:\n${lines.join("\n")}`);
  } else writeFileSync(ENV_FILE, `${[HEADER, ...lines].join("\n")}\n`);
  console.log("Next: docker-compose up --build   (or docker compose up --build)");
}

async function remove() {
  await stopEngine();
  if (existsSync(ENV_FILE) && readFileSync(ENV_FILE, "utf8").startsWith(HEADER)) rmSync(ENV_FILE);
}

endOnSignal();
try {
  const [command] = process.argv.slice(2);
  if (command === "prepare") await prepare();
  else if (command === "remove") await remove();
  else throw new Trouble("Usage: npm run containers -- prepare, or: npm run containers -- remove");
} catch (error) {
  if (!(error instanceof Trouble)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
