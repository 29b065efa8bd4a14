// `npm run test:matrix`: Node 20, 22 and 24 with both generations of servers: Debian's packages on this machine, and those of
// Debian 13 in a container. Unit tests with each Node, integration tests with each pair: those of CORE, or all with --all.
// Prints a table.
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ensureEngine, stopEngineOfTests } from "./containers/engine.mjs";
import { buildFacility } from "./containers/images.mjs";
import { ask, endOnSignal, show, Trouble } from "./containers/run.mjs";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
const CACHE = join(process.cwd(), "node_modules/.cache/matrix");
/** As vitest.config.ts says. */
const REPORT = "node_modules/.cache/tests.json";
const NODES = ["20", "22", "24"];
/** What speaks to servers in every way that Mento has. */
const CORE = [
  ...["one-message", "methods", "slurm-rest", "library", "trigger-language", "chains", "cancel", "latest"],
  ...["data", "subscribe", "clients", "python", "replay", "dead-letters", "ssh", "serving-facility"],
  ...["hostile-messages"],
];
const isAll = process.argv.includes("--all");
const say = (/** @type {string} */ step) =>
  console.error(`${new Date().toISOString().slice(11, 19)}  ${step} …`);

/** Node's program of a major version, as npm has it. */
function nodeOf(/** @type {string} */ major) {
  const prefix = join(CACHE, `node-${major}`);
  mkdirSync(prefix, { recursive: true });
  const name = `node-${process.platform}-${process.arch}`;
  const install = ["install", "--prefix", prefix, "--no-save", "--ignore-scripts", "--no-audit", "--no-fund"];
  const { status, stderr } = spawnSync("npm", [...install, `${name}@${major}`], { encoding: "utf8" });
  if (status !== 0) throw new Trouble(`npm has no ${name}@${major}: ${stderr.trim()}`);
  const program = join(prefix, "node_modules", name, "bin/node");
  return { program, version: (ask(program, ["--version"]) ?? "?").replace(/^v/, "") };
}

/**
 * @param {string} program
 * @param {string[]} parameters
 * @param {Record<string, string>} env
 */
async function vitest(program, parameters, env = {}) {
  rmSync(REPORT, { force: true });
  const started = Date.now();
  await show(program, ["node_modules/vitest/vitest.mjs", "run", ...parameters], { env, stdout: 2 });
  const minutes = ((Date.now() - started) / 60_000).toFixed(1);
  try {
    const { numPassedTests, numFailedTests, success } = JSON.parse(readFileSync(REPORT, "utf8"));
    if (success !== true) process.exitCode = 1;
    const failed = success === true ? "" : `, **${Math.max(numFailedTests, 1)} failed**`;
    return `${numPassedTests} passed${failed} (${minutes} min)`;
  } catch {
    process.exitCode = 1;
    return "**did not run**";
  }
}

endOnSignal();
try {
  await ensureEngine(say, { forTests: true });
  mkdirSync(CACHE, { recursive: true });
  const image = await buildFacility(say, join(CACHE, "images.log"));
  const files = isAll ? [] : CORE.map((name) => `test/integration/${name}.test.ts`);
  const integration = ["--project", "integration", ...files];
  const rows = [];
  for (const major of NODES) {
    const { program, version } = nodeOf(major);
    say(`Node ${version}: unit tests`);
    const unit = await vitest(program, ["--project", "unit"]);
    say(`Node ${version}: integration tests, servers of this machine`);
    const older = await vitest(program, integration, { MENTO_TEST_SERVERS: "debian" });
    say(`Node ${version}: integration tests, servers in a container`);
    const newer = await vitest(program, integration, {
      MENTO_TEST_SERVERS: "containers",
      MENTO_TEST_IMAGE: image,
    });
    rows.push([`Node ${version}`, unit, older, newer]);
  }
  /** @type {(...command: string[]) => string} */
  const inImage = (...command) => ask("docker", ["run", "--rm", image, ...command]) ?? "?";
  const versions = (/** @type {(...command: string[]) => string} */ run) => {
    const slurm = run("slurmctld", "-V").replace("slurm-wlm ", "Slurm ").replace("slurm ", "Slurm ");
    const rabbitmq = run("dpkg-query", "--show", "--showformat=${Version}", "rabbitmq-server").split("-")[0];
    const ssh = run("dpkg-query", "--show", "--showformat=${Version}", "openssh-server").replace(
      /^1:|[-+].*/g,
      "",
    );
    return `RabbitMQ ${rabbitmq}, ${slurm}, OpenSSH ${ssh}`;
  };
  const here = versions((program = "", ...args) => ask(program, args) ?? "?");
  console.log(
    `${new Date().toISOString().slice(0, 10)}, integration: ${isAll ? "all files" : `${CORE.length} files`}\n`,
  );
  const table = [
    ["", "unit", `integration: ${here}`, `integration: ${versions(inImage)}`],
    ["-", "-", "-", "-"],
    ...rows,
  ];
  for (const row of table) console.log(`| ${row.join(" | ")} |`);
} catch (error) {
  if (!(error instanceof Trouble)) throw error;
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await stopEngineOfTests();
}
