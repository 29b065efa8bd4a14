// `npm start`: a whole beamline on this machine, with a detector that writes powder patterns and an analysis that
// integrates them. `--once` ends when all jobs have ended; `--files N` says how many files the detector writes.
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { parseDocument } from "yaml";
import { installPackages } from "../../dist/facility/packages.js";
import { MAIN as main, output, startWorker } from "../start-worker.mjs";
import { detect, haveAllCompleted, printTable } from "./detect.mjs";
import { ProgressBar } from "./progress-bar.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
const ANALYSIS_PACKAGES = ["python3-h5py", "python3-numpy", "python3-pyfai", "python3-matplotlib"];
const SET_UP_STEPS = 9;

const { values } = parseArgs({
  options: { once: { type: "boolean", default: false }, files: { type: "string", default: "8" } },
});
const files = Number(values.files);
if (!Number.isInteger(files) || files < 1) {
  console.error("npm start: --files must be a whole number from 1");
  process.exit(2);
}

const bar = new ProgressBar(SET_UP_STEPS + 2 * files);
const dir = mkdtempSync(join(tmpdir(), "mento-start-"));
chmodSync(dir, 0o755);
/** @type {(() => Promise<unknown> | void)[]} What takes down what was set up, last first. */
const undo = [() => rmSync(dir, { recursive: true, force: true })];
/** @type {import("./detect.mjs").Jobs} */
let jobs = new Map();
let brokerUrl = "";

let stopping = false;
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    if (stopping) return;
    void takeDown().then(() => process.exit(130));
  });
}

try {
  await run();
  bar.end();
  printTable(jobs);
  if (!values.once) {
    console.log(`\nThe facility stays up in ${dir} until Ctrl-C. Try, in another terminal:`);
    console.log(`  export MENTO_CONFIG=${dir}/mento.yaml`);
    console.log(`  node ${main} watch`);
    console.log(`  node ${join(here, "../live-plot/server.mjs")} --columns 1,3 --url ${brokerUrl}`);
    console.log(
      `  node ${main} publish data-ready --technique powder --wait --path FILE   # FILE from above`,
    );
    await new Promise(() => setInterval(() => undefined, 60_000));
  }
  process.exitCode = haveAllCompleted(jobs, files) ? 0 : 1;
} catch (error) {
  bar.end();
  if (!stopping) console.error(`npm start: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
await takeDown();
process.exit();

async function run() {
  bar.step("looking for the programs of the analysis");
  await installPackages(ANALYSIS_PACKAGES, (step) => bar.say(step));
  undo.push(() => output(process.execPath, [main, "facility", "down", "--dir", dir]));
  /** @type {{ broker: { url: string }, roots: { gpfs: string, core: string } }} */
  const facility = JSON.parse(await mento("facility", "up", "--dir", dir, "--json"));
  brokerUrl = facility.broker.url;
  bar.step("opening beamtime 11010000 at p11");
  await mento(
    "facility",
    "start-beamtime",
    "--dir",
    dir,
    "--beamtimeId",
    "11010000",
    "--beamline",
    "p11",
    "--online",
  );
  const config = await writeConfiguration(facility.roots.core);
  bar.step("starting a worker");
  const worker = startWorker(config, join(dir, "worker.log"));
  undo.push(worker.stop);
  await worker.ready;
  const { gpfs } = facility.roots;
  jobs = await detect({
    ...{ broker: { url: brokerUrl }, gpfs, files },
    say: (line) => bar.say(line),
    step: (what) => bar.step(what),
  });
}

/** The analysis lies on the core file system, where the beamtime's account can read it, as at a real beamline. */
async function writeConfiguration(/** @type {string} */ core) {
  const bin = join(core, "petra3/gpfs/common/p11/bin");
  mkdirSync(bin, { recursive: true });
  const program = join(bin, "integrate.py");
  copyFileSync(join(here, "integrate.py"), program);
  const file = join(dir, "mento.yaml");
  await mento("init", file, "--facility", dir, "--force");
  const config = parseDocument(readFileSync(file, "utf8"));
  config.set("triggers", [
    {
      name: "powder",
      on: { technique: "powder" },
      run: ["/usr/bin/python3", program, "{{ path }}", "--out", "{{ results }}"],
      slurm: { time: "00:10:00", cpusPerTask: 2 },
      results: ["*.dat", "*.png"],
    },
  ]);
  writeFileSync(file, config.toString());
  return file;
}

/** Runs the command `mento`; what it says on the way moves the progress bar. */
function mento(/** @type {string[]} */ ...args) {
  return output(process.execPath, [main, ...args], (line) => {
    if (line.endsWith("…")) bar.step(line.replace(/ …$/, ""));
    else bar.say(line);
  });
}

async function takeDown() {
  stopping = true;
  bar.end();
  console.log("Taking everything down …");
  for (const step of undo.reverse()) {
    try {
      await step();
    } catch (error) {
      console.error(error instanceof Error ? error.message : String(error));
      process.exitCode = 1;
    }
  }
}
