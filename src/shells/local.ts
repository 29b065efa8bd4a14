import { spawn } from "node:child_process";
import { hostname } from "node:os";
import { accountHere } from "../account-here.ts";
import { Unavailable } from "../errors.ts";
import { framed, newMark, readFramed } from "./script.ts";
import type { CommandEnd, RunOptions, Shell } from "./shell.ts";

/** What commands here find in their environment: enough for Slurm, and nothing of the worker's own. */
const PASSED_ON = ["HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "PATH", "TMPDIR", "SLURM_CONF"];
/** What shows a picture on this host's screen. */
const OF_THE_SCREEN = ["DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_RUNTIME_DIR"];

/** A shell on this machine, as the account that Mento runs as. */
export class LocalShell implements Shell {
  readonly host = hostname();
  readonly account = accountHere();
  readonly #commandTimeout: number;

  constructor(commandTimeout: number) {
    this.#commandTimeout = commandTimeout;
  }

  run(script: string, { timeout = this.#commandTimeout }: RunOptions = {}): Promise<CommandEnd> {
    return new Promise((resolve, reject) => {
      const known = [...PASSED_ON, ...OF_THE_SCREEN].map((name) => [name, process.env[name]] as const);
      const env = Object.fromEntries(known.filter(([, value]) => value !== undefined));
      // A group of its own: what is in the terminal's dies with a Ctrl-C.
      const child = spawn("/bin/sh", ["-s"], { env, cwd: "/", detached: true });
      const mark = newMark();
      const stdout: Buffer[] = [];
      const stderr: Buffer[] = [];
      child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
      child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
      // It may end before it has read all.
      child.stdin.on("error", () => undefined);
      const timer = setTimeout(() => {
        if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
        reject(this.#unavailable(`a command did not end in ${timeout} ms`));
      }, timeout);
      child.on("error", (cause) => {
        clearTimeout(timer);
        reject(this.#unavailable(cause.message, cause));
      });
      child.on("close", (code, signal) => {
        clearTimeout(timer);
        const { output, isWhole } = readFramed(Buffer.concat(stdout), mark);
        const said = readFramed(Buffer.concat(stderr), mark).output.toString("utf8");
        if (isWhole || signal !== null) resolve({ code, signal, stdout: output, stderr: said });
        else reject(this.#unavailable("a command did not come to its end"));
      });
      child.stdin.end(framed(script, mark));
    });
  }

  #unavailable(what: string, cause?: unknown): Unavailable {
    return new Unavailable({
      code: "ssh-lost",
      message: `A command on this host (${this.host}) did not work: ${what}.`,
      hint: "Its outcome is unknown; Mento looks before it tries again.",
      cause,
    });
  }
}
