import { type Stats, lstatSync } from "node:fs";
import { chmod, chown, link, lstat, mkdir, rename, rmdir, statfs, unlink, utimes } from "node:fs/promises";
import { join } from "node:path";
import { copyContent } from "./mirror-content.ts";
import type { Copied, MirrorJournal } from "./mirror-journal.ts";
import { hasChanged, type SourceFacts, type Step } from "./mirror-plan.ts";
import {
  type HeldDirectory,
  type LastDirectory,
  splitPath,
  inParentOf,
  inParentOfSync,
  openFile,
} from "./mirror-tree.ts";

export interface MirrorRoots {
  beamline: string;
  core: string;
  /** On the same file system as `core`, so that a finished copy can be moved into place. */
  partial: string;
}

/** What became of a step; `again`: the source changed meanwhile. */
export type Outcome = "done" | "again" | "not-ours";

export function factsOf(stats: Stats): SourceFacts | null {
  const kind = stats.isFile() ? "file" : stats.isDirectory() ? "directory" : undefined;
  if (kind === undefined) return null;
  return { kind, size: kind === "file" ? stats.size : 0, mtimeMs: stats.mtimeMs, inode: stats.ino };
}

/** The facts of a path below a root, `null` if nothing is there; links and devices count as nothing. */
export function look(root: string, path: string): SourceFacts | null {
  return factsOrNone(() => inParentOfSync(root, path, (place) => factsOf(lstatSync(place))));
}

/** The same of many paths. */
export function lookAmong(directories: LastDirectory, path: string): SourceFacts | null {
  const { directory, name } = splitPath(path);
  return factsOrNone(() => factsOf(lstatSync(directories.open(directory).place(name))));
}

/** The same of a name in a directory that is open. */
export function lookIn(directory: HeldDirectory, name: string): SourceFacts | null {
  return factsOrNone(() => factsOf(lstatSync(directory.place(name))));
}

function factsOrNone(facts: () => SourceFacts | null): SourceFacts | null {
  try {
    return facts();
  } catch (error) {
    if (isCode(error, "ENOENT", "ENOTDIR", "ELOOP")) return null;
    throw error;
  }
}

/** Whether what lies at the core is what was copied there, and not what a job made of it. */
export function isOurCopy(core: string, path: string, copied: Copied | undefined): boolean {
  try {
    return inParentOfSync(core, path, (place) => isCopy(lstatSync(place), copied));
  } catch {
    return false;
  }
}

function isCopy(stats: Stats, copied: Copied | undefined): boolean {
  const present = factsOf(stats);
  if (present === null || present.kind !== copied?.kind) return false;
  return present.kind === "directory" || isSameFile(present, copied);
}

/** Times are kept to the microsecond only. */
function isSameFile(present: SourceFacts, copied: SourceFacts): boolean {
  return present.size === copied.size && Math.abs(present.mtimeMs - copied.mtimeMs) < 1;
}

let partials = 0;

function newPartial({ partial }: MirrorRoots): string {
  return join(partial, String(partials++));
}

/** Does one step on the core file system, and keeps the journal. */
export async function doStep(step: Step, roots: MirrorRoots, journal: MirrorJournal): Promise<Outcome> {
  switch (step.do) {
    case "make-directory":
      return makeCoreDirectory(step, roots, journal);
    case "rename":
      return renameCopy(step, roots, journal);
    case "copy":
      return copyIntoPlace(step, roots, journal);
    case "remove":
      return removeCopy(step.path, roots, journal);
  }
}

type StepOf<Kind extends Step["do"]> = Extract<Step, { do: Kind }>;

async function makeCoreDirectory(
  { path, facts }: StepOf<"make-directory">,
  roots: MirrorRoots,
  journal: MirrorJournal,
): Promise<Outcome> {
  return inParentOf(roots.core, path, async (parent, name) => {
    const there = await lstatOrNone(parent.place(name));
    if (there !== undefined) {
      if (there.isDirectory()) journal.add(path, { ...facts, theirs: true });
      return there.isDirectory() ? "done" : "not-ours";
    }
    const partial = newPartial(roots);
    await makeLikeTop(partial, roots.core, path);
    journal.add(path, facts);
    try {
      await rename(partial, parent.place(name));
      return "done";
    } catch (error) {
      journal.forget(path);
      await rmdir(partial);
      if (isCode(error, "EEXIST", "ENOTEMPTY", "ENOTDIR")) return "again";
      throw error;
    }
  });
}

/**
 * As raw, processed or shared themselves: jobs may write below processed wherever the beamline made a directory. Made
 * where nobody else can write, so that it is never seen, or left by a kill, as another's or unreadable.
 */
async function makeLikeTop(partial: string, core: string, path: string): Promise<void> {
  const { mode, uid, gid } = await topOf(core, path);
  await mkdir(partial, 0o700);
  if (process.geteuid?.() === 0) await chown(partial, uid, gid);
  await chmod(partial, mode & 0o777);
}

/** raw, processed or shared at the core, which are the session account's. */
async function topOf(core: string, path: string): Promise<Stats> {
  return inParentOf(core, path.split("/")[0] ?? "", (parent, name) => lstat(parent.place(name)));
}

async function renameCopy(
  { from, to, facts }: StepOf<"rename">,
  roots: MirrorRoots,
  journal: MirrorJournal,
): Promise<Outcome> {
  if (!isOurCopy(roots.core, from, journal.manifest.get(from))) {
    journal.forget(from);
    return copyIntoPlace({ do: "copy", path: to, facts }, roots, journal);
  }
  journal.add(to, facts);
  const outcome = await inParentOf(roots.core, from, (source, oldName) =>
    inParentOf(roots.core, to, (target, newName) => linkNew(source.place(oldName), target.place(newName))),
  );
  if (outcome === "not-ours") journal.forget(to);
  await removeCopy(from, roots, journal);
  return outcome;
}

async function copyIntoPlace(
  { path, facts }: StepOf<"copy">,
  roots: MirrorRoots,
  journal: MirrorJournal,
): Promise<Outcome> {
  return inParentOf(roots.core, path, async (parent, name) => {
    const target = parent.place(name);
    const isOurs = (there: Stats | undefined) =>
      there === undefined || isCopy(there, journal.manifest.get(path));
    if (!isOurs(await lstatOrNone(target))) return "not-ours";
    const partial = newPartial(roots);
    try {
      const copied = await copySource(roots, path, facts, partial);
      if (copied === undefined) return "again";
      // A job may have changed it while a large file was copied.
      const there = await lstatOrNone(target);
      if (!isOurs(there)) return "not-ours";
      journal.add(path, copied);
      if (there !== undefined) {
        await rename(partial, target);
        return "done";
      }
      const outcome = await linkNew(partial, target);
      if (outcome === "not-ours") journal.forget(path);
      return outcome;
    } catch (error) {
      // It vanished while it was copied; that it is gone is seen separately.
      if (isCode(error, "ENOENT", "ENOTDIR", "ELOOP") && look(roots.beamline, path) === null) {
        return "again";
      }
      throw error;
    } finally {
      await unlink(partial).catch(() => undefined);
    }
  });
}

/** Copies what is there now; undefined if it is not, or no longer, the file of these facts. */
async function copySource(
  { beamline, core }: MirrorRoots,
  path: string,
  facts: SourceFacts,
  partial: string,
): Promise<SourceFacts | undefined> {
  const source = await inParentOf(beamline, path, (parent, name) => openFile(parent.place(name)));
  try {
    const before = await source.stat();
    if (!before.isFile()) return undefined;
    const account = await topOf(core, path);
    requireReadable(before, account);
    await requireRoom(before, partial);
    const failed = await copyContent(source, partial, before).then(
      () => undefined,
      (error: unknown) => ({ error }),
    );
    const after = await source.stat();
    const copied = factsOf(after);
    if (copied === null || hasChanged(facts, copied)) return undefined;
    if (failed !== undefined) throw failed.error;
    requireReadable(after, account);
    // The copy's owner is another; only jobs' own files can be changed at the core.
    if (process.geteuid?.() === 0 && !isForAll(after)) await chown(partial, 0, account.gid);
    await chmod(partial, (after.mode & 0o755) | (isForAll(after) ? 0o444 : 0o440));
    await utimes(partial, after.atimeMs / 1000, after.mtimeMs / 1000);
    return copied;
  } finally {
    await source.close();
  }
}

function isForAll({ mode }: Stats): boolean {
  return (mode & 0o004) !== 0;
}

/** Who moved it there, or gave it a second name, may be somebody who may not read it: it is copied for its owner alone. */
function requireReadable(file: Stats, account: Stats): void {
  if (isForAll(file) || file.uid === account.uid) return;
  throw new Error("not copied: not all may read it, and it is not the session account's (chmod o+r)");
}

/** A file may say that it is larger than any disk. */
async function requireRoom({ size }: Stats, partial: string): Promise<void> {
  const { bavail, bsize } = await statfs(join(partial, ".."));
  if (size > bavail * bsize) throw new Error("not copied: the core file system has no room for it");
}

async function lstatOrNone(place: string): Promise<Stats | undefined> {
  try {
    return await lstat(place);
  } catch (error) {
    if (isCode(error, "ENOENT")) return undefined;
    throw error;
  }
}

/** Unlike a rename, a link never replaces what a job wrote there a moment ago. */
async function linkNew(from: string, to: string): Promise<Outcome> {
  try {
    await link(from, to);
    return "done";
  } catch (error) {
    if (isCode(error, "EEXIST")) return "not-ours";
    throw error;
  }
}

async function removeCopy(path: string, { core }: MirrorRoots, journal: MirrorJournal): Promise<Outcome> {
  const copied = journal.manifest.get(path);
  if (copied !== undefined && copied.theirs !== true) {
    try {
      await inParentOf(core, path, async (parent, name) => {
        const place = parent.place(name);
        if (!isCopy(await lstat(place), copied)) return;
        await (copied.kind === "directory" ? rmdir(place) : unlink(place));
      });
    } catch (error) {
      // A directory in which a job has left something stays.
      if (!isCode(error, "ENOENT", "ENOTDIR", "ELOOP", "ENOTEMPTY", "EEXIST")) throw error;
    }
  }
  journal.forget(path);
  return "done";
}

export function isCode(error: unknown, ...codes: string[]): boolean {
  return codes.includes((error as NodeJS.ErrnoException).code ?? "");
}
