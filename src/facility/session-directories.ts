import { chmodSync, chownSync, existsSync, mkdirSync, rmSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { type Account, makeDirectory, type OpenSession, placesOf } from "./state.ts";
import type { Undo } from "./undo.ts";

/** The beamline's side of a session. Everybody may write there: detector, control system and users have different accounts. */
export function makeBeamlineDirectories(dir: string, name: string, undo: Undo): string {
  const root = join(placesOf(dir).gpfs, ".sessions", name);
  undo.push(() => rmSync(root, { recursive: true, force: true }));
  makeDirectory(root);
  for (const top of ["raw", "processed", "shared", "scratch_bl"]) makeWithMode(join(root, top), 0o777);
  return root;
}

export function makeCoreDirectories(corePath: string, account: Account | null, undo: Undo): void {
  if (!existsSync(corePath)) undo.push(() => rmSync(corePath, { recursive: true, force: true }));
  makeDirectory(corePath);
  const modes = { raw: 0o755, shared: 0o755, processed: 0o777, scratch_cc: 0o777 };
  for (const [name, mode] of Object.entries(modes)) {
    const path = join(corePath, name);
    makeWithMode(path, mode);
    if (account?.own === true) chownSync(path, account.uid, account.gid);
  }
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

export function unlinkSession(dir: string, session: OpenSession): void {
  for (const link of linksOf(dir, session)) rmSync(link, { force: true });
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
