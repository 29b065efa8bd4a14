import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MAIN } from "./mento.ts";

const NAME = /^mento-(\d+)-/;

/**
 * A folder for all temporary files of this run. They go with it at the end, and so does whatever runs there, also if the
 * run is stopped half-way; and what a run has left that was killed goes when the next one begins.
 */
export function makeRunFolder(): string {
  const usual = tmpdir();
  for (const name of readdirSync(usual)) {
    const pid = NAME.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) removeRunFolder(join(usual, name));
  }
  const folder = mkdtempSync(join(usual, `mento-${process.pid}-`));
  // As /tmp: for all accounts.
  chmodSync(folder, 0o1777);
  process.env["TMPDIR"] = folder;
  atEnd(() => removeRunFolder(folder));
  return folder;
}

/** However the process ends, unless it is killed. Others' handlers of a signal may end it at once. */
export function atEnd(work: () => void): void {
  process.once("exit", work);
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.prependOnceListener(signal, work);
}

export function removeRunFolder(folder: string): void {
  if (!existsSync(folder)) return;
  const facilities = readdirSync(folder)
    .map((name) => join(folder, name))
    .filter((dir) => existsSync(join(dir, "facility.json")));
  const down = 'for dir; do "$0" "$main" facility down --dir "$dir" & done; wait';
  if (facilities.length > 0) {
    spawnSync("sh", ["-c", down, process.execPath, ...facilities], { env: { ...process.env, main: MAIN } });
  }
  for (const pid of readdirSync("/proc").map(Number).filter(Number.isInteger)) {
    if (pid !== process.pid && environmentOf(pid).includes(folder)) endAtOnce(pid);
  }
  rmSync(folder, { recursive: true, force: true });
}

function environmentOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/environ`, "utf8");
  } catch {
    return "";
  }
}

export function endAtOnce(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended meanwhile.
  }
}
