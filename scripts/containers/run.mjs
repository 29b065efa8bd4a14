import { spawn, spawnSync } from "node:child_process";
import { createWriteStream } from "node:fs";

/** What goes wrong here is told in one sentence, without a stack. */
export class Trouble extends Error {}

/** @type {Set<import("node:child_process").ChildProcess>} */
const running = new Set();

/** Ends what {@link run} has started: whoever waits for it gets an error. */
export function stopRunning() {
  for (const child of running) child.kill("SIGTERM");
}

/**
 * Runs a program whose output goes to a file; its end with another exit code is an error with the last lines.
 *
 * @param {string} program
 * @param {readonly string[]} args
 * @param {{ log: string, env?: NodeJS.ProcessEnv, input?: Buffer | string }} options
 * @returns {Promise<void>}
 */
export function run(program, args, { log, env = {}, input }) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env: { ...process.env, ...env }, stdio: ["pipe", "pipe", "pipe"] });
    running.add(child);
    const file = createWriteStream(log, { flags: "a" });
    let end = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (/** @type {Buffer} */ chunk) => {
        file.write(chunk);
        end = (end + chunk.toString("utf8")).slice(-2000);
      });
    }
    child.on("error", reject);
    child.on("close", (code, signal) => {
      running.delete(child);
      file.end();
      if (code === 0) resolve();
      else if (signal === "SIGTERM") reject(new Trouble(`${program} was ended.`));
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
