import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

export const MAIN = fileURLToPath(new URL("../../dist/main.js", import.meta.url));

export interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs the compiled program; whatever its exit status. */
export function tryMento(args: string[], options: { input?: string; cwd?: string } = {}): Promise<Ended> {
  return run(process.execPath, [MAIN, ...args], options);
}

/** Runs the compiled program; an exit status other than 0 is an error. */
export async function mento(...args: string[]): Promise<Ended> {
  const ended = await tryMento(args);
  if (ended.code !== 0) {
    throw new Error(`mento ${args.join(" ")} ended with ${ended.code ?? "a signal"}: ${ended.stderr}`);
  }
  return ended;
}

export function run(
  program: string,
  args: string[],
  options: { input?: string; cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: "pipe",
    });
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
