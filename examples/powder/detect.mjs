// The detector of the powder beamline, and who watches its jobs: writes scans, publishes each, and waits until every job
// has ended. By itself, on a facility that is up, with a worker that has the trigger of start.mjs:
//
//   MENTO_BROKER_URL=amqp://… node detect.mjs --gpfs DIR --files 8   (and MENTO_BROKER_USERNAME, MENTO_BROKER_PASSWORD)
import { randomUUID } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { connectBroker, publishDataReady, subscribe } from "mento";
import { eventLine } from "../../dist/commands/event-line.js";
import { output } from "../start-worker.mjs";

const DETECTOR = fileURLToPath(new URL("detector.py", import.meta.url));
const ENDS = ["completed", "failed", "cancelled", "lost"];

/** @typedef {{ url: string, username?: string | undefined, password?: string | undefined }} Broker */
/** @typedef {Map<string, import("mento").JobEventData>} Jobs The latest event of each job, by its id. */

/**
 * @param {{ broker: Broker, gpfs: string, files: number, say: (line: string) => void, step: (what: string) => void }} options
 * @returns {Promise<Jobs>} when every file's job has ended
 */
export async function detect({ broker, gpfs, files, say, step }) {
  const display = await connectBroker({ ...broker, name: "the example's display" });
  const { events } = await subscribe(display);
  /** @type {Set<string>} */
  const ids = new Set();
  const allEnded = follow(events, ids, { files, say, step });
  const detector = producer(broker, say);
  const raw = join(gpfs, "current/raw/powder");
  mkdirSync(raw, { recursive: true });
  for (let scan = 1; scan <= files; scan++) {
    const { master, files: written } = await writeScan(raw, scan);
    const sorted = [...written].sort((a, b) => Number(b.path === master) - Number(a.path === master));
    const id = randomUUID();
    ids.add(id);
    const data = {
      path: sorted.map(({ path }) => path),
      bytes: sorted.map(({ bytes }) => bytes),
      ...{ technique: "powder", detector: "eiger", scan },
    };
    await detector.publish(data, id);
    step(`the detector has written scan ${scan} of ${files}`);
  }
  const jobs = await allEnded;
  await Promise.all([display.close(), detector.close()]);
  return jobs;
}

/**
 * Publishes until the broker has the message: by its id it is the same one, however often it is sent.
 *
 * @type {(broker: Broker, say: (line: string) => void) => { publish: (data: Parameters<typeof publishDataReady>[1], id: string) => Promise<void>, close: () => Promise<void> }}
 */
function producer(broker, say) {
  /** @type {import("mento").BrokerClient | undefined} */
  let client;
  const close = async () => client?.close();
  const publish = async (
    /** @type {Parameters<typeof publishDataReady>[1]} */ data,
    /** @type {string} */ id,
  ) => {
    for (;;) {
      try {
        client ??= await connectBroker({ ...broker, name: "the example's detector" });
        await publishDataReady(client, data, { id, source: "/petra3/p11/eiger" });
        return;
      } catch (error) {
        say(`${error instanceof Error ? error.message : String(error)} It is published again.`);
        await close();
        client = undefined;
        await sleep(2000);
      }
    }
  };
  return { publish, close };
}

/**
 * Prints the events of these messages.
 *
 * @param {AsyncIterable<import("mento").CloudEvent>} events
 * @param {Set<string>} ids
 * @param {{ files: number, say: (line: string) => void, step: (what: string) => void }} options
 * @returns {Promise<Jobs>}
 */
async function follow(events, ids, { files, say, step }) {
  /** @type {Jobs} */
  const jobs = new Map();
  const countEnded = () => [...jobs.values()].filter(({ job }) => ENDS.includes(job.state)).length;
  for await (const event of events) {
    const data = /** @type {import("mento").JobEventData} */ (event.data);
    if (!ids.has(data.cause?.id)) continue;
    say(eventLine(event));
    if (!event.type.startsWith("mento.job.")) continue;
    const before = jobs.get(data.job.id);
    jobs.set(data.job.id, data);
    if (ENDS.includes(data.job.state) && !ENDS.includes(before?.job.state ?? "")) {
      step(`${countEnded()} of ${files} jobs have ended`);
    }
    if (countEnded() >= files) break;
  }
  return jobs;
}

/** @returns {Promise<{ master: string, files: { path: string, bytes: number }[] }>} */
async function writeScan(/** @type {string} */ folder, /** @type {number} */ scan) {
  return JSON.parse(await output("/usr/bin/python3", [DETECTOR, "--out", folder, "--scan", String(scan)]));
}

/** @type {(jobs: Jobs, files: number) => boolean} */
export function haveAllCompleted(jobs, files) {
  return jobs.size === files && [...jobs.values()].every(({ job }) => job.state === "completed");
}

export function printTable(/** @type {Jobs} */ jobs) {
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

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const { values } = parseArgs({
    options: { gpfs: { type: "string", default: "/gpfs" }, files: { type: "string", default: "8" } },
  });
  const {
    MENTO_BROKER_URL: url = "amqp://127.0.0.1",
    MENTO_BROKER_USERNAME: username,
    MENTO_BROKER_PASSWORD: password,
  } = process.env;
  const files = Number(values.files);
  const jobs = await detect({
    broker: { url, username, password },
    gpfs: values.gpfs,
    files,
    say: console.log,
    step: console.log,
  });
  printTable(jobs);
  process.exit(haveAllCompleted(jobs, files) ? 0 : 1);
}
