import { execFile, spawn } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { parseDocument } from "yaml";

const main = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
const execute = promisify(execFile);

/** @typedef {{ broker: { url: string }, slurm: { conf: string }, ssh: { address: string, port: number } }} Facility */
/**
 * @typedef {{ corePath: string, account: string, privateKey: string, reservation: string, partition: string }}
 *   Beamtime
 */

/** @param {string[]} args */
async function mento(...args) {
  return (await execute(process.execPath, [main, ...args])).stdout;
}

/**
 * A facility with an open beamtime and a worker with these triggers, for as long as `measure` takes.
 *
 * @param {object[]} triggers
 * @param {(bench: { facility: Facility, beamtime: Beamtime, worker: WorkerLog }) => Promise<void>} measure
 */
export async function withFacility(triggers, measure) {
  const dir = mkdtempSync(join(tmpdir(), "mento-bench-"));
  chmodSync(dir, 0o755);
  try {
    const facility = /** @type {Facility} */ (
      JSON.parse(await mento("facility", "up", "--dir", dir, "--json"))
    );
    const nodes = ["--online", "--resources", "dedicated", "--nodes", "2"];
    const options = ["--dir", dir, "--beamtimeId", "11010000", "--beamline", "p11", ...nodes, "--json"];
    const beamtime = /** @type {Beamtime} */ (
      JSON.parse(await mento("facility", "start-beamtime", ...options))
    );
    const config = join(dir, "mento.yaml");
    await mento("init", config, "--facility", dir);
    const document = parseDocument(readFileSync(config, "utf8"));
    document.set("triggers", triggers);
    // Nothing starts while submits are measured.
    document.set("worker", { maxPending: 100_000, maxSubmitRate: 10_000 });
    writeFileSync(config, document.toString());

    const child = spawn(process.execPath, [main, "worker", "-c", config], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const ended = new Promise((resolve) => child.on("exit", resolve));
    const worker = new WorkerLog(child.stdout);
    try {
      await worker.ready;
      await measure({ facility, beamtime, worker });
    } finally {
      child.kill("SIGTERM");
      await ended;
    }
  } finally {
    await mento("facility", "down", "--dir", dir).catch((/** @type {unknown} */ error) => {
      console.error(String(error));
    });
    rmSync(dir, { recursive: true, force: true });
  }
}

/** What a worker logs, with the moment in which it arrived here. */
class WorkerLog {
  /** @type {Map<string, (at: number) => void>} */
  #waiting = new Map();
  /** @type {Promise<void>} */
  ready;

  /** @param {import("node:stream").Readable} output */
  constructor(output) {
    let rest = "";
    this.ready = new Promise((resolve) => {
      output.on("data", (/** @type {Buffer} */ chunk) => {
        const at = performance.now();
        const lines = (rest + chunk.toString()).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) {
          const { msg, job = "" } = /** @type {{ msg: string, job?: string }} */ (JSON.parse(line));
          if (msg === "ready") resolve();
          if (msg === "submitted") this.#waiting.get(job)?.(at);
        }
      });
    });
  }

  /**
   * The moment in which Slurm accepted the job, on the clock of performance.now(). Rejects after a minute.
   *
   * @param {string} jobId
   * @returns {Promise<number>}
   */
  accepted(jobId) {
    return new Promise((resolve, reject) => {
      const why = new Error(`the worker does not say within a minute that job ${jobId} was submitted`);
      const timeout = setTimeout(() => reject(why), 60_000);
      this.#waiting.set(jobId, (at) => {
        clearTimeout(timeout);
        resolve(at);
      });
    });
  }
}
