import { spawn } from "node:child_process";
import { appendFileSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export const MAIN = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));

/**
 * What a program prints on stdout; its end with another exit code is an error.
 *
 * @type {(program: string, args: string[], onLine?: (line: string) => void) => Promise<string>}
 */
export function output(program, args, onLine = () => undefined) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    let rest = "";
    child.stdout.on("data", (chunk) => (stdout += chunk));
    child.stderr.on("data", (chunk) => {
      stderr += chunk;
      const lines = (rest + chunk).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) onLine(line);
    });
    child.on("error", reject);
    child.on("close", (code) => {
      if (code === 0) resolve(stdout);
      else reject(new Error(`${[program, ...args].join(" ")} ended with ${code}:\n${stderr}`));
    });
  });
}

/**
 * A worker as a process of its own. Its exchanges and queues are there when it is ready.
 *
 * @type {(config: string, logFile: string) => { ready: Promise<unknown>, stop: () => Promise<unknown> }}
 */
export function startWorker(config, logFile) {
  const worker = spawn(process.execPath, [MAIN, "worker", "-c", config], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const ended = new Promise((resolve) => worker.on("exit", resolve));
  const ready = new Promise((resolve, reject) => {
    const take = (/** @type {Buffer} */ chunk) => {
      appendFileSync(logFile, chunk);
      if (chunk.includes('"msg":"ready"')) resolve(undefined);
    };
    worker.stdout.on("data", take);
    worker.stderr.on("data", take);
    void ended.then(() => reject(new Error(`the worker ended:\n${readFileSync(logFile, "utf8")}`)));
  });
  const stop = () => {
    worker.kill("SIGTERM");
    return ended;
  };
  return { ready, stop };
}
