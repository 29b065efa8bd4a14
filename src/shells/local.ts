import { spawn } from "node:child_process";
import { hostname } from "node:os";
import { accountHere } from "../files/account-here.ts";
import { Unavailable } from "../errors.ts";
import { MAX_OUTPUT_BYTES, Output, REST_MS } from "./output.ts";
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
  /** Commands under way. */
  readonly #giveUps = new Set<(what: string) => void>();

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
      const [stdout, stderr] = [new Output(), new Output()];
      const letGo = () => {
        this.#giveUps.delete(giveUp);
        clearTimeout(timer);
        child.stdout.destroy();
        child.stderr.destroy();
      };
      const giveUp = (what: string, cause?: unknown) => {
        letGo();
        killGroup(child.pid);
        reject(this.#unavailable(what, cause));
      };
      this.#giveUps.add(giveUp);
      const conclude = (code: number | null, signal: string | null) => {
        letGo();
        const { output, isWhole } = readFramed(stdout.bytes, mark);
        const said = readFramed(stderr.bytes, mark).output.toString("utf8");
        if (isWhole || signal !== null) resolve({ code, signal, stdout: output, stderr: said });
        else reject(this.#unavailable("a command did not come to its end"));
      };
      const take = (into: Output, chunk: Buffer) => {
        into.add(chunk);
        const isTooMuch = stdout.bytes.length + stderr.bytes.length > MAX_OUTPUT_BYTES;
        if (isTooMuch) giveUp("its output had no end");
      };
      child.stdout.on("data", (chunk: Buffer) => take(stdout, chunk));
      child.stderr.on("data", (chunk: Buffer) => take(stderr, chunk));
      // It may end before it has read all.
      child.stdin.on("error", () => undefined);
      const timer = setTimeout(() => giveUp(`a command did not end in ${timeout} ms`), timeout);
      child.on("error", (cause) => giveUp(cause.message, cause));
      // Something that it has started may hold its outputs for longer.
      child.on("exit", (code, signal) => setTimeout(() => conclude(code, signal), REST_MS).unref());
      child.on("close", conclude);
      // What is made here is run, and read, as this account: it is for nobody else to write to.
      child.stdin.end(framed(`umask go-w\n${script}`, mark));
    });
  }

  /** Ends what is under way: nothing of it keeps the process alive, or goes on without it. */
  close(): void {
    for (const giveUp of this.#giveUps) giveUp("the worker has stopped");
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

function killGroup(pid: number | undefined): void {
  try {
    if (pid !== undefined) process.kill(-pid, "SIGKILL");
  } catch {
    // It has ended.
  }
}
