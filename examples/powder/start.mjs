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
import { connectBroker, publishDataReady, subscribe } from "mento";
import { installPackages } from "../../dist/facility/packages.js";
import { eventLine } from "../../dist/commands/event-line.js";
import { MAIN as main, output, startWorker } from "../start-worker.mjs";
import { ProgressBar } from "./progress-bar.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
const ANALYSIS_PACKAGES = ["python3-h5py", "python3-numpy", "python3-pyfai", "python3-matplotlib"];
const SET_UP_STEPS = 9;
const ENDS = ["completed", "failed", "cancelled", "lost"];

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
/** @type {Map<string, import("mento").JobEventData>} The latest event of each job, by its id. */
const jobs = new Map();
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
  printTable();
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
  const allCompleted =
    jobs.size === files && [...jobs.values()].every(({ job }) => job.state === "completed");
  process.exitCode = allCompleted ? 0 : 1;
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
  const client = await connectBroker({ url: facility.broker.url, name: "the example's detector" });
  undo.push(() => client.close());
  const { events } = await subscribe(client);
  const allEnded = follow(events);

  const raw = join(facility.roots.gpfs, "current/raw/powder");
  mkdirSync(raw, { recursive: true });
  for (let scan = 1; scan <= files; scan++) {
    const written = await writeScan(raw, scan);
    await publishDataReady(
      client,
      {
        path: [
          written.master,
          ...written.files.map(({ path }) => path).filter((path) => path !== written.master),
        ],
        bytes: sizesInOrder(written),
        technique: "powder",
        detector: "eiger",
        scan,
      },
      { source: "/petra3/p11/eiger" },
    );
    bar.step(`the detector has written scan ${scan} of ${files}`);
  }
  await allEnded;
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

/** Prints the events, and resolves when every file's job has ended. */
async function follow(/** @type {AsyncIterable<import("mento").CloudEvent>} */ events) {
  for await (const event of events) {
    bar.say(eventLine(event));
    if (!event.type.startsWith("mento.job.")) continue;
    const data = /** @type {import("mento").JobEventData} */ (event.data);
    const before = jobs.get(data.job.id);
    jobs.set(data.job.id, data);
    if (ENDS.includes(data.job.state) && !ENDS.includes(before?.job.state ?? "")) {
      bar.step(`${countEnded()} of ${files} jobs have ended`);
    }
    if (countEnded() >= files) return;
  }
}

function countEnded() {
  return [...jobs.values()].filter(({ job }) => ENDS.includes(job.state)).length;
}

/** @returns {Promise<{ master: string, files: { path: string, bytes: number }[] }>} */
async function writeScan(/** @type {string} */ folder, /** @type {number} */ scan) {
  const detector = join(here, "detector.py");
  return JSON.parse(await output("/usr/bin/python3", [detector, "--out", folder, "--scan", String(scan)]));
}

/** The sizes, the master's first. */
function sizesInOrder(/** @type {{ master: string, files: { path: string, bytes: number }[] }} */ written) {
  const isMaster = (/** @type {{ path: string }} */ { path }) => path === written.master;
  const sorted = [...written.files].sort((a, b) => Number(isMaster(b)) - Number(isMaster(a)));
  return sorted.map(({ bytes }) => bytes);
}

function printTable() {
  const rows = [...jobs.values()].map(({ paths, job, slurm, times, results }) => {
    const since = (/** @type {string | null} */ time) =>
      time === null || times.ready === null
        ? "-"
        : `${((Date.parse(time) - Date.parse(times.ready)) / 1000).toFixed(2)} s`;
    const file = paths[0]?.split("/").at(-1) ?? "";
    const made = results.map(({ path }) => path.split(".").at(-1)).join(" ");
    const { submitted, started, ended } = times;
    return [
      file,
      slurm.jobId ?? "-",
      slurm.reservation ?? "-",
      job.state,
      since(submitted),
      since(started),
      since(ended),
      made,
    ];
  });
  const head = ["file", "job", "reservation", "state", "submitted", "started", "ended", "results"];
  const widths = head.map((name, column) =>
    Math.max(name.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  console.log("\nTimes are from the moment in which the data was ready.");
  for (const row of [head, ...rows]) {
    console.log(
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    );
  }
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
