// A plot in the browser that redraws by itself when a job has made a new curve:
//   node server.mjs --beamline p11 --columns 1,3        then open http://127.0.0.1:8917
// The broker: --url, or MENTO_BROKER_URL. Needs a file system on which the results can be read.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { connectBroker, isJobEvent, MentoError, subscribe } from "mento";
import { readCurve } from "./curve.mjs";

/** @typedef {import("./curve.mjs").Curve & { title: string, details: string, time: string }} Shown */

const { values } = parseArgs({
  options: {
    url: { type: "string", default: process.env["MENTO_BROKER_URL"] ?? "amqp://127.0.0.1" },
    prefix: { type: "string", default: "mento" },
    beamline: { type: "string" },
    session: { type: "string" },
    trigger: { type: "string" },
    since: { type: "string", default: "8h" },
    columns: { type: "string", default: "1,2" },
    keep: { type: "string", default: "8" },
    port: { type: "string", default: "8917" },
  },
});
const { url, prefix, beamline, session, trigger, since } = values;
const columns = columnsOf(values.columns);
const keep = Math.min(wholeNumber("--keep", values.keep), 100);
const port = values.port === "0" ? 0 : wholeNumber("--port", values.port);

const CURVE = /\.(dat|xy|chi)$/;
const page = readFileSync(new URL("page.html", import.meta.url));
/** @type {Shown[]} The newest last. */
const curves = [];
/** What a person should know, by what it is about. @type {Map<string, string>} */
const failures = new Map();
/** @type {Set<import("node:http").ServerResponse>} The browsers. */
const browsers = new Set();

const server = createServer((request, response) => {
  // A page of another site cannot make a browser read from here under that site's name.
  const host = (request.headers.host ?? "").replace(/:\d+$/, "");
  if (!["127.0.0.1", "localhost", "[::1]"].includes(host)) {
    response.writeHead(403).end("Only for this machine: forward a port with ssh -L.\n");
  } else if (request.method === "GET" && request.url === "/") {
    response.writeHead(200, {
      "content-type": "text/html; charset=utf-8",
      "content-security-policy":
        "default-src 'none'; connect-src 'self'; img-src data:; script-src 'unsafe-inline'; style-src 'unsafe-inline'",
    });
    response.end(page);
  } else if (request.method === "GET" && request.url === "/events") {
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    browsers.add(response);
    response.on("close", () => browsers.delete(response));
    send("begin", { keep }, response);
    send("trouble", [...failures.values()], response);
    for (const curve of curves) send("curve", curve, response);
  } else {
    response.writeHead(404).end("There is only / and /events.\n");
  }
});

try {
  await listen();
  await follow();
} catch (error) {
  console.error(error instanceof MentoError ? `${error.message} ${error.hint}` : error);
  process.exit(1);
}

/** @returns {Promise<void>} */
function listen() {
  // So that a browser notices that this program is gone.
  setInterval(() => browsers.forEach((one) => one.write(": still here\n\n")), 15_000).unref();
  return new Promise((resolve, reject) => {
    server.on("error", reject);
    server.listen(port, "127.0.0.1", () => {
      const address = /** @type {import("node:net").AddressInfo} */ (server.address());
      console.log(`open http://127.0.0.1:${address.port}`);
      resolve();
    });
  });
}

async function follow() {
  const broker = await connectBroker({ url, prefix, name: "live plot" });
  const { events } = await subscribe(broker, {
    ...{ beamline, session, trigger, since, types: ["job.completed"], wait: true },
    onFailure: (failure) => tell("broker", failure?.message),
  });
  /** @type {import("mento").JobEvent[]} What is still to be read: of many at once, the newest. */
  const waiting = [];
  let isReading = false;
  for await (const event of events) {
    if (!isJobEvent(event) || !event.data.results.some(({ path }) => CURVE.test(path))) continue;
    waiting.push(event);
    waiting.splice(0, waiting.length - keep);
    if (isReading) continue;
    isReading = true;
    void (async () => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await show(next);
      isReading = false;
    })();
  }
}

/** @param {import("mento").JobEvent} event */
async function show({ data, time = "" }) {
  const result = data.results.find(({ path }) => CURVE.test(path));
  const path = result?.beamlinePath ?? result?.path ?? "";
  const file = data.paths[0]?.split("/").at(-1) ?? "";
  try {
    const curve = await readCurve(path, columns);
    add({ ...curve, time, ...words(data, file) });
    tell("file", undefined);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    tell(
      "file",
      `The curve of ${file} cannot be shown: ${path}: ${reason}. Does this machine see that file system?`,
    );
  }
}

/**
 * @param {import("mento").JobEventData} data
 * @param {string} file
 */
function words({ message, job, session }, file) {
  const { scan, sample } = message;
  const names = [...(scan === null ? [] : [`scan ${scan}`]), ...(sample === null ? [] : [sample])];
  const place = [session.beamline, session.id, job.trigger].filter(Boolean).join(" · ");
  return names.length === 0
    ? { title: file, details: place }
    : { title: names.join(" · "), details: `${file} · ${place}` };
}

/** @param {Shown} curve */
function add(curve) {
  curves.push(curve);
  curves.splice(0, curves.length - keep);
  for (const browser of browsers) send("curve", curve, browser);
}

/**
 * @param {string} about
 * @param {string | undefined} text
 */
function tell(about, text) {
  if (failures.get(about) === text) return;
  console.error(text ?? `${about}: well again`);
  if (text === undefined) failures.delete(about);
  else failures.set(about, text);
  for (const browser of browsers) send("trouble", [...failures.values()], browser);
}

/**
 * @param {string} name
 * @param {unknown} value
 * @param {import("node:http").ServerResponse} browser
 */
function send(name, value, browser) {
  browser.write(`event: ${name}\ndata: ${JSON.stringify(value)}\n\n`);
  // One that sleeps comes back by itself, and then gets what is new.
  if (browser.writableLength > 20_000_000) browser.destroy();
}

/** @returns {[number, number]} */
function columnsOf(/** @type {string} */ text) {
  const [x, y, ...more] = text.split(",");
  if (x === undefined || y === undefined || more.length > 0) usage(`--columns is like 1,2, not ${text}`);
  return [wholeNumber("--columns", x ?? ""), wholeNumber("--columns", y ?? "")];
}

function wholeNumber(/** @type {string} */ option, /** @type {string} */ text) {
  if (!/^[1-9]\d{0,4}$/.test(text)) usage(`${option} must be a whole number from 1, not ${text}`);
  return Number(text);
}

function usage(/** @type {string} */ mistake) {
  console.error(`live-plot: ${mistake}`);
  process.exit(2);
}
