import { existsSync, mkdirSync, rmSync, watch, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { errorText } from "../errors.ts";
import { printLine } from "../terminal.ts";
import { BeamtimeMirror } from "./mirror-beamtime.ts";
import { placesOf, readSessions } from "./state.ts";

/**
 * The program that copies every open session of a facility: `node mirror-daemon.js DIRECTORY DELAY-SECONDS`.
 * It learns from the files in `<dir>/sessions` what is open, and says with a `.done` file that it has copied the last.
 */

const [dir = "", delay = "0"] = process.argv.slice(2);
const places = placesOf(dir);
const mirrors = new Map<string, BeamtimeMirror>();
const saidOf = new Map<string, string>();

function say(line: string): void {
  printLine(`${new Date().toISOString()} ${line}`);
}

function lookForSessions(): void {
  for (const { beamlinePath, corePath, closing } of readSessions(dir)) {
    if (beamlinePath === null) continue;
    const name = basename(beamlinePath);
    if (!mirrors.has(name) && !existsSync(doneFile(name))) {
      try {
        startMirroring(name, beamlinePath, corePath);
      } catch (error) {
        // The others' files are copied all the same.
        const why = errorText(error);
        if (saidOf.get(name) !== why) say(`${name}: cannot be copied: ${why}`);
        saidOf.set(name, why);
        continue;
      }
    }
    if (closing) mirrors.get(name)?.finish();
  }
}

function startMirroring(name: string, beamlinePath: string, corePath: string): void {
  const partial = join(places.core, ".partial");
  mkdirSync(partial, { recursive: true, mode: 0o700 });
  const roots = { beamline: beamlinePath, core: corePath, partial };
  const mirror = new BeamtimeMirror(roots, join(places.mirror, `${name}.jsonl`), Number(delay), say);
  mirrors.set(name, mirror);
  say(`${name}: copying to ${corePath}`);
  void mirror.run().then(() => {
    mirrors.delete(name);
    writeFileSync(doneFile(name), "");
    say(`${name}: finished`);
  });
}

function doneFile(name: string): string {
  return join(places.mirror, `${name}.done`);
}

// What a killed predecessor was just copying.
rmSync(join(places.core, ".partial"), { recursive: true, force: true });
lookForSessions();
watch(places.sessions, lookForSessions);
setInterval(lookForSessions, 1000);
