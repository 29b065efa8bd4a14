import { chmodSync, chownSync, existsSync, mkdirSync, readlinkSync, rmSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { isMissing } from "../files/plain-file.ts";
import { runChecked } from "./processes.ts";
import { type Account, makeDirectory, type OpenSession, placesOf } from "./state.ts";
import type { Undo } from "./undo.ts";

/**
 * The beamline's side of a session. Everybody may write there, as detector, control system and users have different
 * accounts, but not rename or remove what is another's, such as the private key in shared: that is the sticky bit.
 */
export function makeBeamlineDirectories(dir: string, name: string, undo: Undo): string {
  const root = join(placesOf(dir).gpfs, ".sessions", name);
  undo.push(() => removeTree(root));
  makeDirectory(root);
  chmodSync(root, 0o700);
  for (const top of ["raw", "processed", "shared", "scratch_bl"]) makeWithMode(join(root, top), 0o1777);
  return root;
}

/** When what nobody else may put there, such as the key, is in its place. */
export function openBeamlineDirectories(root: string): void {
  chmodSync(root, 0o755);
}

/** Only the session's account, or who runs the facility, writes on the core file system. */
export function makeCoreDirectories(corePath: string, account: Account | null, undo: Undo): void {
  if (!existsSync(corePath)) undo.push(() => removeTree(corePath));
  makeDirectory(corePath);
  for (const name of ["raw", "shared", "processed", "scratch_cc"]) {
    const path = join(corePath, name);
    makeWithMode(path, 0o755);
    if (account?.own === true) chownSync(path, account.uid, account.gid);
  }
}

/** By rm(1), which follows no link however the tree changes meanwhile; Node's rm looks a path up twice. */
async function removeTree(path: string): Promise<void> {
  await runChecked("rm", ["-rf", "--one-file-system", "--", path]);
}

/** Links to the beamline's side, where beamline computers and reserved nodes look for an open session. */
export function linkSession(dir: string, session: OpenSession, undo: Undo): void {
  if (session.beamlinePath === null) return;
  for (const link of linksOf(dir, session)) {
    makeDirectory(dirname(link));
    symlinkSync(session.beamlinePath, link);
    undo.push(() => rmSync(link, { force: true }));
  }
}

/** Only its own: while its last files are copied, another may have been started. */
export function unlinkSession(dir: string, session: OpenSession): void {
  for (const link of linksOf(dir, session)) {
    if (targetOf(link) === session.beamlinePath) rmSync(link, { force: true });
  }
}

function targetOf(link: string): string | undefined {
  try {
    return readlinkSync(link);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

function linksOf(dir: string, { kind, beamline }: OpenSession): string[] {
  const { gpfs, beamline: mounts } = placesOf(dir);
  const view = kind === "beamtime" ? "current" : "commissioning";
  return [join(gpfs, view), join(mounts, beamline, view)];
}

/** The umask has no say in it. */
function makeWithMode(path: string, mode: number): void {
  mkdirSync(path, { recursive: true });
  chmodSync(path, mode);
}
