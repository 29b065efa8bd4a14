import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { errorText } from "../errors.ts";
import { logLine } from "../text/terminal.ts";
import { DIES_WITH_PARENT } from "./processes.ts";
import { type OpenSession, placesOf, readSessions } from "./state.ts";

/**
 * The program that has every open session of a facility copied, each by a process of its own:
 * `node mirror-daemon.js DIRECTORY DELAY-SECONDS`. It learns from the files in `<dir>/sessions` what is open, and says
 * with a `.done` file that the last of a session is copied.
 */

const EVERY_MS = 250;
/** Of what the program itself needs; a session's tree takes up to a half of it. */
const MOST_MEGABYTES = 1536;
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 60_000;

/** The copying of one session. */
interface Copying {
  child?: ChildProcess;
  isToldToFinish: boolean;
  startedAt: number;
  /** Before it is started again, if it has ended by itself. */
  pauseMs: number;
  startAt: number;
}

const [dir = "", delay = "0"] = process.argv.slice(2);
const places = placesOf(dir);
const partials = join(places.core, ".partial");
const sessionProgram = fileURLToPath(new URL("mirror-session.js", import.meta.url));
const copyings = new Map<string, Copying>();
const said = new Map<string, string>();

/** What goes wrong at each look is said once. */
function attempt(what: string, work: () => void): void {
  try {
    work();
    said.delete(what);
  } catch (error) {
    const why = errorText(error);
    if (said.get(what) !== why) logLine(`${what}: ${why}`);
    said.set(what, why);
  }
}

function lookForSessions(): void {
  attempt("sessions cannot be read", () => {
    for (const session of readSessions(dir)) {
      attempt(`${session.id} cannot be copied`, () => lookAfter(session));
    }
  });
}

function lookAfter({ beamlinePath, corePath, closing }: OpenSession): void {
  if (beamlinePath === null) return;
  const name = basename(beamlinePath);
  if (existsSync(doneFile(name))) return;
  const copying = copyings.get(name) ?? {
    ...{ isToldToFinish: false, startedAt: 0, pauseMs: FIRST_PAUSE_MS, startAt: 0 },
  };
  copyings.set(name, copying);
  if (copying.child === undefined && performance.now() >= copying.startAt) {
    start(name, copying, beamlinePath, corePath);
  }
  if (!closing || copying.isToldToFinish || copying.child?.connected !== true) return;
  copying.isToldToFinish = true;
  // If it has ended meanwhile, the next one is told.
  copying.child.send("finish", () => undefined);
}

function start(name: string, copying: Copying, beamlinePath: string, corePath: string): void {
  const partial = join(partials, name);
  rmSync(partial, { recursive: true, force: true });
  mkdirSync(partial, { recursive: true, mode: 0o700 });
  const [program, ...first] = DIES_WITH_PARENT;
  const node = [process.execPath, `--max-old-space-size=${MOST_MEGABYTES}`, sessionProgram];
  const args = [
    ...first,
    ...node,
    beamlinePath,
    corePath,
    partial,
    join(places.mirror, `${name}.jsonl`),
    delay,
  ];
  const child = spawn(program, args, { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  Object.assign(copying, { child, isToldToFinish: false, startedAt: performance.now() });
  logLine(`${name}: copying to ${corePath}`);
  child.once("error", (error) => ended(name, copying, errorText(error)));
  child.once("exit", (code, signal) => {
    try {
      if (code === 0) finished(name);
      else ended(name, copying, signal ?? `exit code ${code}`);
    } catch (error) {
      ended(name, copying, errorText(error));
    }
  });
}

function finished(name: string): void {
  rmSync(join(partials, name), { recursive: true, force: true });
  writeFileSync(doneFile(name), "");
  copyings.delete(name);
  logLine(`${name}: finished`);
}

function ended(name: string, copying: Copying, how: string): void {
  if (performance.now() - copying.startedAt > LONGEST_PAUSE_MS) copying.pauseMs = FIRST_PAUSE_MS;
  delete copying.child;
  copying.startAt = performance.now() + copying.pauseMs;
  logLine(`${name}: the copy has ended (${how}), and is started again in ${copying.pauseMs / 1000} s`);
  copying.pauseMs = Math.min(2 * copying.pauseMs, LONGEST_PAUSE_MS);
}

function doneFile(name: string): string {
  return join(places.mirror, `${name}.done`);
}

// What a killed predecessor was just copying.
rmSync(partials, { recursive: true, force: true });
lookForSessions();
setInterval(lookForSessions, EVERY_MS);
