import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { posix } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { toCorePath, toNodePath } from "../beamtime/paths.ts";
import type { Session } from "../beamtime/session.ts";
import { errorText } from "../errors.ts";
import { readPlainFile, textOf, type FileRules } from "../files/plain-file.ts";
import { quote, quoteAll } from "../shells/quote.ts";
import type { Shell } from "../shells/shell.ts";
import { sayLine } from "../text/terminal.ts";
import type { Finding } from "./checklist.ts";

const LOOK_EVERY_MS = 200;
/** The account can put anything in its place. */
const PROBE_FILE: FileRules = { maxBytes: 4096, links: "refuse" };

/** A small file in the session, on all file systems that it can appear on. */
interface TestFile {
  beamline: string;
  core: string;
  node: string;
  content: string;
}

function testFileOf({ roots }: Session): TestFile {
  const processed = posix.join(roots.beamline, "processed");
  const folder = existsSync(processed) ? processed : roots.beamline;
  const beamline = posix.join(folder, `mento-doctor-${randomUUID().slice(0, 8)}.txt`);
  return {
    beamline,
    core: toCorePath(beamline, roots),
    node: toNodePath(beamline, roots),
    content: `mento doctor on ${hostname()}, ${new Date().toISOString()}\n`,
  };
}

/** The way of the data: written at the beamline, read by jobs on the core file system. */
export async function checkCopyToCore(
  session: Session,
  shell: Shell,
  timeoutSeconds: number,
  stop: AbortSignal,
): Promise<Finding<undefined>> {
  if (!session.isOpen) return notOpen(session);
  const file = testFileOf(session);
  try {
    await writeFile(file.beamline, file.content, { flag: "wx" });
  } catch (error) {
    await rm(file.beamline, { force: true }).catch(() => undefined);
    return {
      state: "failed",
      message: `${file.beamline} cannot be written here: ${errorText(error)}.`,
      hint: "Run mento doctor on a host that has the beamline's file system, as an account that may write there.",
    };
  }
  try {
    let said = "";
    // A listing is right where the absence of a file is still cached.
    const look = `ls -1 ${quote(posix.dirname(file.core))} | grep -qxF -e ${quote(posix.basename(file.core))} && cat ${quote(file.core)}`;
    const seconds = await waitUntil(timeoutSeconds, stop, async () => {
      const end = await shell.run(look);
      said = end.stderr.trim();
      return end.stdout.toString("utf8") === file.content;
    });
    if (seconds !== undefined) {
      const message = `what is written to ${posix.dirname(file.beamline)} is on core after ${seconds.toFixed(1)} s, as ${shell.host} sees it`;
      return { state: "ok", message, value: undefined };
    }
    return {
      state: "failed",
      message: `${file.beamline} is not on core after ${timeoutSeconds} s: ${shell.host} has no ${file.core}.${said === "" ? "" : ` ${said}`}`,
      hint: `Does the copy from the beamline to core run? If it is only slow, wait longer: --copy-timeout ${timeoutSeconds * 10}`,
      code: "data-not-there",
    };
  } finally {
    await remove(file, shell);
  }
}

/** The way of small results: written by a job into its mount of the beamline's file system, seen at the beamline. */
export async function checkWriteBack(
  session: Session,
  shell: Shell,
  timeoutSeconds: number,
  stop: AbortSignal,
): Promise<Finding<undefined>> {
  const { roots } = session;
  if (!session.isOpen) return notOpen(session);
  if (roots.node === roots.core && roots.beamline !== roots.core) {
    const message = "the nodes do not mount the beamline's file system (site.sessions, paths.node)";
    return { state: "skipped", message };
  }
  const file = testFileOf(session);
  try {
    const written = await shell.run(`printf %s ${quote(file.content)} > ${quote(file.node)}`);
    if (written.code !== 0) {
      return {
        state: "failed",
        message: `${shell.account} cannot write ${file.node} on ${shell.host}: ${withoutPlace(written.stderr)}`,
        hint: "Is the beamline's file system mounted there (site.beamline), and may the account write to that folder?",
      };
    }
    const seconds = await waitUntil(timeoutSeconds, stop, async () => {
      const seen = await readPlainFile(file.beamline, PROBE_FILE).catch(() => undefined);
      return seen !== undefined && textOf(seen.bytes) === file.content;
    });
    if (seconds !== undefined) {
      const message = `what ${shell.host} writes to ${posix.dirname(file.node)} is seen here after ${seconds.toFixed(1)} s`;
      return { state: "ok", message, value: undefined };
    }
    return {
      state: "failed",
      message: `${shell.host} has written ${file.node}, but this host has no ${file.beamline} after ${timeoutSeconds} s.`,
      hint: "Are site.gpfs here and site.beamline on the nodes the same file system?",
    };
  } finally {
    await remove(file, shell);
  }
}

/** Where job directories are made, by the account itself. */
export async function checkJobsDirectory(directory: string, shell: Shell): Promise<Finding<undefined>> {
  const test = posix.join(directory, `.mento-doctor-${randomUUID().slice(0, 8)}`);
  const end = await shell.run(`d=${quote(directory)} t=${quote(test)}
[ -d "$d" ] || echo made
mkdir -p "$d" && mkdir "$t" && rmdir "$t"`);
  if (end.code === 0) {
    const made = end.stdout.length === 0 ? "" : "; it is made now";
    return { state: "ok", message: `${shell.account} can write to ${directory}${made}`, value: undefined };
  }
  return {
    state: "failed",
    message: `${shell.account} cannot write to ${directory} on ${shell.host}: ${withoutPlace(end.stderr)}`,
    hint: "Job directories are made there (site.jobs, below the session's folder on core): permissions, quota?",
  };
}

/** bash says `environment: line 2: ` before what matters, where it runs a script that it was given by its input. */
function withoutPlace(stderr: string): string {
  return stderr.trim().replace(/^\S+: line \d+: /, "");
}

function notOpen({ id }: Session): Finding<never> {
  return { state: "skipped", message: `not checked, because ${id} is not open at the beamline` };
}

/** The seconds until it was so; undefined if it was not in time. */
async function waitUntil(
  timeoutSeconds: number,
  stop: AbortSignal,
  isSo: () => Promise<boolean>,
): Promise<number | undefined> {
  const from = performance.now();
  const passed = () => (performance.now() - from) / 1000;
  for (;;) {
    if (await isSo()) return passed();
    if (passed() > timeoutSeconds) return undefined;
    await sleep(LOOK_EVERY_MS, undefined, { signal: stop });
  }
}

/** Everywhere: here first, so that nothing is copied to core again. */
async function remove(file: TestFile, shell: Shell): Promise<void> {
  const failed: string[] = [];
  await rm(file.beamline, { force: true }).catch((error: unknown) => failed.push(errorText(error)));
  try {
    const end = await shell.run(`rm -f ${quoteAll([file.node, file.core])}`);
    if (end.code !== 0) failed.push(end.stderr.trim());
  } catch (error) {
    failed.push(errorText(error));
  }
  if (failed.length > 0) sayLine(`mento: a test file could not be removed: ${failed.join("; ")}`);
}
