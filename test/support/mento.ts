import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { nodeThere, there } from "./servers.ts";

export const MAIN = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
export const LIBRARY = fileURLToPath(new URL("../../dist/index.js", import.meta.url));

export interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs the compiled program; whatever its exit status. */
export function tryMento(args: string[], options: RunOptions = {}): Promise<Ended> {
  return runNode([MAIN, ...args], options);
}

/** Runs the compiled program; an exit status other than 0 is an error. */
export async function mento(...args: string[]): Promise<Ended> {
  const ended = await tryMento(args);
  if (ended.code !== 0) {
    throw new Error(`mento ${args.join(" ")} ended with ${ended.code ?? "a signal"}: ${ended.stderr}`);
  }
  return ended;
}

interface RunOptions {
  input?: string;
  cwd?: string;
  env?: NodeJS.ProcessEnv;
}

/** Runs a program of Node where the servers are, to its end. */
export function runNode(args: string[], options: RunOptions = {}): Promise<Ended> {
  return run(nodeThere(), args, options);
}

/** Runs a program where the servers are, to its end. */
export function run(program: string, args: string[], options: RunOptions = {}): Promise<Ended> {
  const { cwd } = options;
  return new Promise((resolve, reject) => {
    const env = { ...process.env, ...options.env };
    const child = spawn(...there(program, args, { cwd }), { cwd, env, stdio: "pipe" });
    const ended: Ended = { code: null, stdout: "", stderr: "" };
    child.stdout.on("data", (chunk: Buffer) => (ended.stdout += chunk.toString("utf8")));
    child.stderr.on("data", (chunk: Buffer) => (ended.stderr += chunk.toString("utf8")));
    child.on("error", reject);
    child.on("close", (code) => {
      resolve({ ...ended, code });
    });
    // It may end before it has read anything.
    child.stdin.on("error", () => undefined);
    child.stdin.end(options.input ?? "");
  });
}
