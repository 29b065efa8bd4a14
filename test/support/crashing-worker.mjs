// A worker that dies at one point of its lines: node crashing-worker.mjs CONFIG POINT. It prints each that it passes.
import { writeSync } from "node:fs";
import { loadConfig } from "../../dist/config/config.js";
import { openLog } from "../../dist/log.js";
import { runWorker } from "../../dist/worker/worker.js";

const [configFile = "", fatal] = process.argv.slice(2);

/** @param {string} name */
function point(name) {
  writeSync(1, `point ${name}\n`);
  if (name === fatal) process.kill(process.pid, "SIGKILL");
}

/** What tells calls of one name apart: the event's kind, a command's first word. @param {any} first */
function kindOf(first) {
  if (typeof first?.type === "string") return ` ${first.type.replace(/^mento\.|\.v1$/g, "")}`;
  if (typeof first?.routingKey === "string")
    return ` ${first.routingKey.replace(/^[^.]*\.(default\.)?/, "")}`;
  if (typeof first !== "string") return "";
  const word = /^(squeue|scontrol|ls|cd)\b/.exec(first)?.[1];
  return ` ${{ cd: "read" }[word ?? ""] ?? word ?? "submit"}`;
}

/**
 * Each step that leaves the worker is three points: before it, during it, after it.
 *
 * @param {string} path @param {any} value @param {any} [self] @returns {any}
 */
function watched(path, value, self) {
  if (typeof value === "function") {
    return (/** @type {any[]} */ ...args) => {
      const name = `${path}${kindOf(args[0])}`;
      point(`${name}: before`);
      const given = value.apply(self, args);
      if (typeof given?.then !== "function") return given;
      const during = setImmediate(() => point(`${name}: during`));
      return given.then(
        (/** @type {any} */ result) => {
          clearImmediate(during);
          point(`${name}: after`);
          if (typeof result?.run === "function") return shell(path, result);
          return result?.shell === undefined ? result : { ...result, shell: shell(path, result.shell) };
        },
        (/** @type {unknown} */ error) => {
          clearImmediate(during);
          throw error;
        },
      );
    };
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, one]) => [
      key,
      ["log", "now", "triggers"].includes(key) ? one : watched(`${path}.${key}`, one, value),
    ]),
  );
}

/** @param {string} path @param {any} one */
function shell(path, one) {
  const run = watched(`${path.split(".")[0]}.run`, one.run, one);
  return {
    run,
    get host() {
      return one.host;
    },
    get account() {
      return one.account;
    },
  };
}

const config = loadConfig(configFile, process.env);
const stop = new AbortController();
process.on("SIGTERM", () => stop.abort());
await runWorker(config, openLog("info"), stop.signal, (line, deps) => watched(line, deps));
