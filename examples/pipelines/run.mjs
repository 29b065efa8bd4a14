// Runs a pipeline once: writes the data that it is for, publishes it, and ends when all jobs have ended.
//   node run.mjs powder-plot [--files 3] [--facility DIR]
// On a facility of its own, which goes when it has ended; or on the one in DIR, which stays up.
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync } from "node:fs";
import { readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { parse, parseDocument } from "yaml";
import { connectBroker, findSession, isJobEvent, MentoError, publishDataReady, subscribe } from "mento";
import { eventLine } from "../../dist/commands/event-line.js";
import { installPackages } from "../../dist/facility/packages.js";
import { MAIN, output, startWorker } from "../start-worker.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
const POWDER = join(here, "../powder");
const COMMON = "petra3/gpfs/common/p11/bin";
const ENDS = ["completed", "failed", "cancelled", "lost"];
const PACKAGES = ["python3-h5py", "python3-numpy", "python3-scipy", "python3-pyfai", "python3-matplotlib"];

/** @typedef {{ technique: string, files: number, write: (folder: string, number: number) => Promise<string> }} Pipeline */
/** @type {Record<string, Pipeline>} */
const PIPELINES = {
  "powder-plot": { technique: "powder", files: 3, write: writeScan },
  flood: { technique: "flood", files: 20, write: writeNumbers },
  "fit-copy-back": { technique: "powder", files: 2, write: writeScan },
  "own-sbatch": { technique: "powder", files: 1, write: writeScan },
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    facility: { type: "string" },
    files: { type: "string" },
    prefix: { type: "string", default: "mento" },
  },
});
const [name = ""] = positionals;
const pipeline = PIPELINES[name];
const files = Number(values.files ?? pipeline?.files);
if (pipeline === undefined || !Number.isInteger(files) || files < 1) {
  console.error(`node run.mjs ${Object.keys(PIPELINES).join("|")} [--files N] [--facility DIR]`);
  process.exit(2);
}

/** @type {(() => unknown)[]} What takes down what was set up, last first. */
const undo = [];
let stopping = false;
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    if (stopping) return;
    stopping = true;
    void takeDown().then(() => process.exit(130));
  });
}
try {
  process.exitCode = (await run(pipeline)) ? 0 : 1;
} catch (error) {
  if (!stopping) console.error(error instanceof MentoError ? `${error.message} ${error.hint}` : error);
  process.exitCode = 1;
}
if (!stopping) await takeDown();

/** @returns Whether all jobs have completed. */
async function run(/** @type {Pipeline} */ { technique, write }) {
  const { dir, roots, broker } = await openFacility();
  const own = mkdtempSync(join(tmpdir(), "mento-pipeline-"));
  undo.push(() => rmSync(own, { recursive: true, force: true }));
  const { config, triggers } = await writeConfiguration(dir, own, roots.core);
  copyPrograms(join(roots.core, COMMON));
  const worker = startWorker(config, join(own, "worker.log"));
  undo.push(worker.stop);
  await worker.ready;

  const client = await connectBroker({
    url: broker.url,
    prefix: values.prefix,
    name: "an example's detector",
  });
  undo.push(() => client.close());
  const { events } = await subscribe(client);
  const folder = join(roots.gpfs, "current/raw", name);
  mkdirSync(folder, { recursive: true });
  const ours = new Set();
  for (let number = 1; number <= files; number++) {
    const path = await write(folder, number);
    const data = { path, bytes: statSync(path).size, technique, scan: number };
    ours.add((await publishDataReady(client, data, { source: "/petra3/p11/example" })).id);
  }

  const states = new Map();
  for await (const event of events) {
    if (!isJobEvent(event) || !ours.has(event.data.cause.id)) continue;
    console.log(eventLine(event));
    const { job, results } = event.data;
    if (!ENDS.includes(job.state)) continue;
    for (const { path, beamlinePath } of results) console.log(`  ${beamlinePath ?? path}`);
    states.set(job.id, job.state);
    const isFailure = job.state !== "completed";
    if (isFailure || states.size === files * triggers) break;
  }
  return [...states.values()].every((state) => state === "completed");
}

/** @typedef {{ dir: string, roots: { gpfs: string, core: string }, broker: { url: string } }} Facility */
/** @returns {Promise<Facility>} */
async function openFacility() {
  const say = (/** @type {string} */ line) => console.error(line);
  await installPackages(PACKAGES, say);
  const dir = values.facility ?? mkdtempSync(join(tmpdir(), "mento-example-"));
  if (values.facility === undefined) {
    chmodSync(dir, 0o755);
    undo.push(
      () => rmSync(dir, { recursive: true, force: true }),
      () => command(["facility", "down", "--dir", dir]),
    );
  }
  /** @type {Facility} */
  const facility = JSON.parse(await mento("facility", "up", "--dir", dir, "--json"));
  await findSession({ beamlineRoot: facility.roots.gpfs }).catch(async (error) => {
    if (!(error instanceof MentoError) || error.code !== "no-session-open") throw error;
    const open = ["--beamtimeId", "11010000", "--beamline", "p11", "--online"];
    await mento("facility", "start-beamtime", "--dir", dir, ...open);
  });
  return facility;
}

/** The pipeline's triggers, in a configuration of this facility; where a beamline has /asap3, it has another folder. */
async function writeConfiguration(
  /** @type {string} */ dir,
  /** @type {string} */ own,
  /** @type {string} */ core,
) {
  const config = join(own, "mento.yaml");
  await mento("init", config, "--facility", dir);
  const text = readFileSync(join(here, name, "mento.yaml"), "utf8").replaceAll("/asap3/", `${core}/`);
  /** @type {{ triggers: unknown[] }} */
  const { triggers } = parse(text);
  const document = parseDocument(readFileSync(config, "utf8"));
  document.set("triggers", triggers);
  document.setIn(["broker", "prefix"], values.prefix);
  document.setIn(["worker", "group"], name);
  document.setIn(["site", "localJobs"], join(dir, "local-jobs"));
  writeFileSync(config, document.toString());
  return { config, triggers: triggers.length };
}

/** The analysis lies on the core file system, where the beamtime's account can read it, as at a beamline. */
function copyPrograms(/** @type {string} */ bin) {
  mkdirSync(bin, { recursive: true });
  const own = readdirSync(join(here, name)).filter((file) => file !== "mento.yaml");
  for (const program of [join(POWDER, "integrate.py"), ...own.map((file) => join(here, name, file))]) {
    const target = join(bin, program.slice(program.lastIndexOf("/") + 1));
    copyFileSync(program, `${target}.${process.pid}`);
    renameSync(`${target}.${process.pid}`, target);
  }
}

async function writeScan(/** @type {string} */ folder, /** @type {number} */ scan) {
  const detector = [join(POWDER, "detector.py"), "--out", folder, "--scan", String(scan)];
  /** @type {{ master: string }} */
  const { master } = JSON.parse(await output("/usr/bin/python3", detector));
  return master;
}

async function writeNumbers(/** @type {string} */ folder, /** @type {number} */ number) {
  const path = join(folder, `point_${String(number).padStart(4, "0")}.txt`);
  const numbers = Array.from({ length: 100 }, (_, at) => number + Math.sin(at));
  writeFileSync(`${path}.tmp`, `${numbers.join("\n")}\n`);
  renameSync(`${path}.tmp`, path);
  return path;
}

/** The command `mento`; nothing more is set up once it is being taken down. */
async function mento(/** @type {string[]} */ ...args) {
  if (stopping) throw new Error("interrupted");
  const said = await command(args);
  if (stopping) throw new Error("interrupted");
  return said;
}

function command(/** @type {string[]} */ args) {
  return output(process.execPath, [MAIN, ...args], (line) => console.error(line));
}

async function takeDown() {
  for (const step of undo.splice(0).reverse()) await step();
}
