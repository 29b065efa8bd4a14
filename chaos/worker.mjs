import { spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { waitUntil } from "../dist/facility/processes.js";

const MAIN = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
/** `mento worker` ends with this when a server is out of reach as it starts. */
const OUT_OF_REACH = 3;
const START_AGAIN_AFTER_MS = 1000;
/** More than `worker.shutdownGraceSeconds`. */
const STOP_SECONDS = 45;
/** So much of its output is kept for the report; the log has all of it. */
const LAST_WORDS = 10_000;

/**
 * @typedef {{ child: import("node:child_process").ChildProcess, ended: Promise<void>, isReady: boolean,
 *   isMeantToEnd: boolean, lastWords: string }} Process
 */

/**
 * A worker that is started again whenever it has ended, as systemd does: after a `kill -9`, and when it could not start
 * because a server was away. Any other end of its own is a mistake of the worker's.
 */
export class Worker {
  /** How often one could not start, because a server was away. */
  startedInVain = 0;
  /** What no worker may do. @type {string[]} */
  mistakes = [];
  #name;
  #configFile;
  #environment;
  #log;
  /** @type {Process | undefined} */
  #process;
  #isStopping = false;
  #starting = Promise.resolve();

  /**
   * @param {string} name
   * @param {{ configFile: string, logFile: string, environment: Record<string, string> }} where
   */
  constructor(name, { configFile, logFile, environment }) {
    this.#name = name;
    this.#configFile = configFile;
    this.#environment = environment;
    this.#log = createWriteStream(logFile, { flags: "a" });
  }

  start() {
    const child = spawn(process.execPath, [MAIN, "worker", "-c", this.#configFile], {
      stdio: ["ignore", "pipe", "pipe"],
      // In a session of its own: a Ctrl-C is for the run, which then ends it once, not twice.
      detached: true,
      env: { ...process.env, ...this.#environment },
    });
    /** @type {Process} */
    const mine = { child, ended: Promise.resolve(), isReady: false, isMeantToEnd: false, lastWords: "" };
    this.#process = mine;
    this.#note(mine, "started");
    for (const output of [child.stdout, child.stderr]) {
      output.on("data", (/** @type {Buffer} */ bytes) => {
        const text = bytes.toString("utf8");
        this.#log.write(text);
        if (text.includes('"msg":"ready"')) mine.isReady = true;
        mine.lastWords = (mine.lastWords + text).slice(-LAST_WORDS);
      });
    }
    mine.ended = new Promise((resolve) => {
      child.on("close", (code, signal) => {
        this.#note(mine, `ended with ${code ?? signal}`);
        this.#onEnd(mine, code, signal);
        resolve();
      });
    });
  }

  /** @param {number} seconds */
  async becomesReady(seconds) {
    if (await waitUntil(() => this.#process?.isReady === true, { seconds })) return;
    throw new Error(
      `${this.#name} is not ready in ${seconds} s: ${this.#process && lastError(this.#process)}`,
    );
  }

  /**
   * `kill -9`, also of one that is frozen or only just starting; then another is started.
   *
   * @param {number} seconds until then
   */
  async kill(seconds) {
    const mine = this.#process;
    if (mine === undefined || mine.isMeantToEnd) return false;
    mine.isMeantToEnd = true;
    mine.child.kill("SIGKILL");
    await mine.ended;
    await sleep(seconds * 1000);
    if (!this.#isStopping) this.start();
    return true;
  }

  /** @param {number} seconds */
  async freeze(seconds) {
    const mine = this.#process;
    if (mine === undefined || mine.isMeantToEnd) return false;
    this.#note(mine, "SIGSTOP");
    mine.child.kill("SIGSTOP");
    await Promise.race([sleep(seconds * 1000), mine.ended]);
    this.#note(mine, "SIGCONT");
    mine.child.kill("SIGCONT");
    return true;
  }

  /** Ends it as an operator does. Whatever happens, no process is left. */
  async stop() {
    this.#isStopping = true;
    await this.#starting;
    const mine = this.#process;
    if (mine !== undefined && mine.child.exitCode === null && mine.child.signalCode === null) {
      mine.child.kill("SIGCONT");
      mine.child.kill("SIGTERM");
      const timer = setTimeout(() => {
        this.mistakes.push(`${this.#name} did not end within ${STOP_SECONDS} s of SIGTERM`);
        mine.child.kill("SIGKILL");
      }, STOP_SECONDS * 1000);
      await mine.ended;
      clearTimeout(timer);
    }
    await new Promise((resolve) => this.#log.end(resolve));
  }

  /**
   * @param {Process} mine
   * @param {number | null} code
   * @param {NodeJS.Signals | null} signal
   */
  #onEnd(mine, code, signal) {
    if (mine.isMeantToEnd) return;
    mine.isMeantToEnd = true;
    if (this.#isStopping) {
      if (code !== 0 && signal !== "SIGKILL") {
        this.mistakes.push(`${this.#name} ended with ${code ?? signal} on SIGTERM: ${lastError(mine)}`);
      }
      return;
    }
    if (code === OUT_OF_REACH && !mine.isReady) this.startedInVain += 1;
    else this.mistakes.push(`${this.#name} ended by itself with ${code ?? signal}: ${lastError(mine)}`);
    this.#starting = sleep(START_AGAIN_AFTER_MS).then(() => {
      if (!this.#isStopping) this.start();
    });
  }

  /**
   * @param {Process} mine
   * @param {string} what
   */
  #note(mine, what) {
    const time = new Date().toISOString();
    this.#log.write(`${JSON.stringify({ chaos: `${this.#name} ${what}`, pid: mine.child.pid, time })}\n`);
  }
}

/**
 * The line that says why it ended: of a stack, the one above it.
 *
 * @param {Process} mine
 */
function lastError({ lastWords }) {
  const lines = lastWords.trimEnd().split("\n");
  return lines.findLast((line) => /Error:|^mento:/.test(line)) ?? lines.at(-1);
}
