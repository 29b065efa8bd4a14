import { spawn, spawnSync } from "node:child_process";
import { createWriteStream } from "node:fs";

/** What goes wrong here is told in one sentence, without a stack. */
export class Trouble extends Error {}

/** Somebody wants no more of it. */
export class Stopped extends Trouble {}

/** @type {Map<import("node:child_process").ChildProcess, NodeJS.Signals>} */
const running = new Map();
let isStopped = false;

/** On SIGINT or SIGTERM whatever {@link run} and {@link show} have started is ended, and nothing more is started. */
export function endOnSignal() {
  for (const signal of /** @type {const} */ (["SIGINT", "SIGTERM"])) {
    process.on(signal, () => {
      isStopped = true;
      for (const [child, itsSignal] of running) child.kill(itsSignal);
    });
  }
}

function goOn() {
  if (isStopped) throw new Stopped("Stopped.");
}

/**
 * Runs a program whose output is shown; resolves with its exit code.
 *
 * @param {string} program
 * @param {readonly string[]} args
 * @param {{ env?: NodeJS.ProcessEnv, stdout?: number | "inherit" }} [options]
 * @returns {Promise<number>}
 */
export async function show(program, args, { env = {}, stdout = "inherit" } = {}) {
  goOn();
  const child = spawn(program, args, {
    stdio: ["ignore", stdout, "inherit"],
    env: { ...process.env, ...env },
  });
  running.set(child, "SIGINT");
  const code = await new Promise((resolve) => child.on("exit", (code) => resolve(code ?? 1)));
  running.delete(child);
  goOn();
  return code;
}

/**
 * Runs a program whose output goes to a file; its end with another exit code is an error with the last lines.
 *
 * @param {string} program
 * @param {readonly string[]} args
 * @param {{ log: string, env?: NodeJS.ProcessEnv, input?: Buffer | string }} options
 * @returns {Promise<void>}
 */
export async function run(program, args, { log, env = {}, input }) {
  goOn();
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      env: { ...process.env, ...env },
      stdio: ["pipe", "pipe", "pipe"],
      // Out of the terminal's Ctrl-C.
      detached: program === "apt-get",
    });
    // A package that is half installed would be in the next run's way.
    if (program !== "apt-get") running.set(child, "SIGTERM");
    const file = createWriteStream(log, { flags: "a" });
    let end = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (/** @type {Buffer} */ chunk) => {
        file.write(chunk);
        end = (end + chunk.toString("utf8")).slice(-2000);
      });
    }
    child.on("error", reject);
    child.on("close", (code) => {
      running.delete(child);
      file.end();
      if (code === 0) resolve();
      else if (isStopped) reject(new Stopped("Stopped."));
      else reject(new Trouble(`${program} ${args.join(" ")} failed; ${log} ends:\n${end.trimEnd()}`));
    });
    child.stdin.on("error", () => undefined);
    child.stdin.end(input ?? "");
  });
}

/**
 * What a program prints; undefined if it cannot be run, fails, or says nothing within the time.
 *
 * @param {string} program
 * @param {string[]} args
 * @param {number} [seconds]
 */
export function ask(program, args, seconds = 20) {
  const { status, stdout } = spawnSync(program, args, { encoding: "utf8", timeout: seconds * 1000 });
  return status === 0 ? stdout.trim() : undefined;
}
