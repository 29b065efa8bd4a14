import { execFile, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** Names one process for good: a pid is used again, a pid with its start time in this boot is not. */
export interface ProcessIdentity {
  pid: number;
  /** Clock ticks from boot to start: field 22 of /proc/PID/stat. */
  startTicks: number;
  bootId: string;
}

export interface Output {
  exitCode: number;
  stdout: string;
  stderr: string;
}

export const SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** What every child gets, not the caller's environment: a SLURM_CONF or RABBITMQ_* there means another cluster or node. */
const CLEAN_ENVIRONMENT: Readonly<Record<string, string>> = { PATH: SYSTEM_PATH, LANG: "C.UTF-8" };

/** Before a program and its arguments: the kernel kills it when the process that starts it ends, however that ends. */
export const DIES_WITH_PARENT = ["setpriv", "--pdeathsig", "KILL", "--"] as const;

interface RunOptions {
  timeoutSeconds?: number;
  env?: Record<string, string>;
}

/** Runs a program to its end. Any exit code is an answer; a program that cannot be run or overruns its time is an error. */
export function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<Output> {
  const timeoutSeconds = options.timeoutSeconds ?? 30;
  return new Promise((resolve, reject) => {
    const child = execFile(
      program,
      args,
      {
        env: { ...CLEAN_ENVIRONMENT, ...options.env },
        timeout: timeoutSeconds * 1000,
        killSignal: "SIGKILL",
        maxBuffer: 64 * 1024 * 1024,
      },
      (error, stdout, stderr) => {
        if (error === null) resolve({ exitCode: 0, stdout, stderr });
        else if (error.killed === true) {
          reject(new Error(`${program} ${args.join(" ")} did not end within ${timeoutSeconds} s.`));
        } else if (typeof error.code === "number") resolve({ exitCode: error.code, stdout, stderr });
        else reject(new Error(`${program} cannot be run: ${error.message}`, { cause: error }));
      },
    );
    child.stdin?.end();
  });
}

/** Runs a program that must succeed, and gives its standard output. */
export async function runChecked(
  program: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<string> {
  const output = await run(program, args, options);
  if (output.exitCode === 0) return output.stdout;
  const said = (output.stderr.trim() || output.stdout.trim()).replaceAll("\n", " ");
  throw new Error(`${program} ${args.join(" ")} ended with exit code ${output.exitCode}: ${said}`);
}

interface DetachedProgram {
  program: string;
  args: readonly string[];
  logFile: string;
  env?: Record<string, string>;
}

/** Starts a server in a session of its own, so that it outlives this process and no Ctrl-C reaches it. */
export async function startDetached(server: DetachedProgram): Promise<ProcessIdentity> {
  const log = openSync(server.logFile, "a", 0o644);
  try {
    const child = spawn(server.program, server.args, {
      detached: true,
      stdio: ["ignore", log, log],
      env: { ...CLEAN_ENVIRONMENT, ...server.env },
      cwd: dirname(server.logFile),
    });
    const pid = await new Promise<number>((resolve, reject) => {
      child.once("error", reject);
      child.once("spawn", () => resolve(child.pid ?? 0));
    });
    child.unref();
    const identity = identify(pid);
    if (identity === undefined) throw new Error(`${server.program} ended at once.`);
    return identity;
  } finally {
    closeSync(log);
  }
}

interface ProcessStatus {
  parent: number;
  state: string;
  startTicks: number;
}

/** Reads /proc/PID/stat. The program's name stands in parentheses and may itself contain any character. */
export function parseStat(stat: string): ProcessStatus | undefined {
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const [state, parent, startTicks] = [fields[0], Number(fields[1]), Number(fields[19])];
  if (!state || !Number.isInteger(parent) || !Number.isInteger(startTicks)) return undefined;
  return { parent, state, startTicks };
}

export function processStatus(pid: number): ProcessStatus | undefined {
  try {
    return parseStat(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return undefined;
  }
}

let bootId: string | undefined;

function currentBootId(): string {
  bootId ??= readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  return bootId;
}

/** The identity of a running process; none for one that is gone or a zombie. */
export function identify(pid: number): ProcessIdentity | undefined {
  const status = processStatus(pid);
  if (status === undefined || status.state === "Z" || status.state === "X") return undefined;
  return { pid, startTicks: status.startTicks, bootId: currentBootId() };
}

export function isRunning(identity: ProcessIdentity | undefined): identity is ProcessIdentity {
  if (identity === undefined) return false;
  const present = identify(identity.pid);
  return present?.startTicks === identity.startTicks && present.bootId === identity.bootId;
}

/** Sends a signal to exactly this process, and to nobody if it is gone. */
export function sendSignal(identity: ProcessIdentity, name: NodeJS.Signals): void {
  if (!isRunning(identity)) return;
  try {
    process.kill(identity.pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** Asks until the answer is yes; false when the time is over or `giveUp` says so. */
export async function waitUntil(
  isSo: () => boolean | Promise<boolean>,
  limits: { seconds: number; everyMs?: number; giveUp?: () => boolean },
): Promise<boolean> {
  const end = performance.now() + limits.seconds * 1000;
  for (;;) {
    if (await isSo()) return true;
    if (performance.now() >= end || limits.giveUp?.() === true) return false;
    await sleep(limits.everyMs ?? 100);
  }
}

/** Ends exactly these processes: SIGTERM, and SIGKILL for those that have not gone after the grace time. */
export async function endProcesses(
  processes: readonly ProcessIdentity[],
  graceSeconds: number,
): Promise<void> {
  const allGone = () => !processes.some(isRunning);
  for (const each of processes) sendSignal(each, "SIGTERM");
  if (await waitUntil(allGone, { seconds: graceSeconds, everyMs: 20 })) return;
  for (const each of processes) sendSignal(each, "SIGKILL");
  await waitUntil(allGone, { seconds: 10, everyMs: 20 });
}

export function secondsSince(started: number): string {
  return ((performance.now() - started) / 1000).toFixed(1);
}
