import { closeSync, fchmodSync, fchownSync, fstatSync, lstatSync, openSync, type Stats } from "node:fs";
import { chmod, chown, link, lstat, mkdir, rename, rmdir, statfs, unlink, utimes } from "node:fs/promises";
import { join } from "node:path";
import { copyContent } from "./mirror-content.ts";
import type { Copied, MirrorJournal } from "./mirror-journal.ts";
import { hasChanged, type SourceFacts, type Step } from "./mirror-plan.ts";
import { modeOfCopy, mostOfDirectory, type Readers, readersInside, readersOfFile } from "./mirror-readers.ts";
import {
  HeldDirectory,
  type LastDirectory,
  READ_FILE,
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

/** @param way who can reach the directory that it lies in */
function factsOf(stats: Stats, way: Readers): SourceFacts | null {
  const { size, mtimeMs, ino: inode } = stats;
  if (stats.isFile()) {
    const readers = readersOfFile(way, stats);
    return { kind: "file", size, mtimeMs, inode, readers, mode: modeOfCopy(readers, stats) };
  }
  if (!stats.isDirectory()) return null;
  const readers = readersInside(way, stats);
  return { kind: "directory", size: 0, mtimeMs, inode, readers, mode: mostOfDirectory(readers, stats) };
}

/** The facts of a path below a root, `null` if nothing is there; links and devices count as nothing. */
export function look(root: string, path: string): SourceFacts | null {
  return factsOrNone(() => inParentOfSync(root, path, statNow));
}

/** The same of many paths. */
export function lookAmong(directories: LastDirectory, path: string): SourceFacts | null {
  const { directory, name } = splitPath(path);
  return factsOrNone(() => statNow(directories.open(directory), name));
}

/** The same of a name in a directory that is open. */
export function lookIn(directory: HeldDirectory, name: string): SourceFacts | null {
  return factsOrNone(() => statNow(directory, name));
}

function statNow(directory: HeldDirectory, name: string): SourceFacts | null {
  return factsOf(lstatSync(directory.place(name)), directory.way);
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
    return inParentOfSync(core, path, (parent, name) => isCopy(lstatSync(parent.place(name)), copied));
  } catch {
    return false;
  }
}

function isCopy(stats: Stats, copied: Copied | undefined): boolean {
  if (copied?.kind === "directory") return stats.isDirectory();
  if (copied === undefined || !stats.isFile()) return false;
  // Times are kept to the microsecond only.
  return stats.size === copied.size && Math.abs(stats.mtimeMs - copied.mtimeMs) < 1;
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
    case "set-rights":
      return setRights(step.path, step.facts, roots, journal);
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
      if (!there.isDirectory()) return "not-ours";
      journal.add(path, { ...facts, theirs: there.mode & 0o777 });
      return setRights(path, facts, roots, journal);
    }
    const partial = newPartial(roots);
    await makeLikeTop(partial, roots.core, path, facts.mode);
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
async function makeLikeTop(partial: string, core: string, path: string, most: number): Promise<void> {
  const { mode, uid, gid } = topOf(core, path);
  await mkdir(partial, 0o700);
  if (process.geteuid?.() === 0) await chown(partial, uid, gid);
  await chmod(partial, mode & most);
}

/** raw, processed or shared at the core, which are the session account's. */
export function topOf(core: string, path: string): Stats {
  const top = path.split("/")[0] ?? "";
  return inParentOfSync(core, top, (parent, name) => lstatSync(parent.place(name)));
}

/** The session account's number, as far as the core file system is there. */
export function accountOf(core: string): Readers {
  try {
    return topOf(core, "raw").uid;
  } catch (error) {
    if (isCode(error, "ENOENT", "ENOTDIR")) return "nobody";
    throw error;
  }
}

/**
 * Without copying anything anew, and at once: a copy that is under way beside it keeps the journal too. A job may have
 * put anything under the name, such as a second name of what is not its own, so what changes is held and known.
 */
function setRights(path: string, facts: SourceFacts, roots: MirrorRoots, journal: MirrorJournal): Outcome {
  const copied = journal.manifest.get(path);
  if (copied?.kind !== facts.kind) return "again";
  try {
    const top = topOf(roots.core, path);
    const isDone = inParentOfSync(roots.core, path, (parent, name) =>
      facts.kind === "directory"
        ? setDirectoryRights(parent.enter(name), (copied.theirs ?? top.mode & 0o777) & facts.mode, top)
        : setFileRights(openSync(parent.place(name), READ_FILE), copied, facts, top),
    );
    if (isDone) journal.add(path, { ...copied, ...facts });
    else journal.forget(path);
    return isDone ? "done" : "not-ours";
  } catch (error) {
    if (!isCode(error, "ENOENT", "ENOTDIR", "ELOOP")) throw error;
    journal.forget(path);
    return "again";
  }
}

/** A directory that is not the session account's is not one that the copy or a job made: it stays as it is. */
function setDirectoryRights(directory: HeldDirectory, mode: number, top: Stats): true {
  try {
    const there = fstatSync(directory.fd);
    if (there.uid === top.uid && (there.mode & 0o777) !== mode) fchmodSync(directory.fd, mode);
    return true;
  } finally {
    directory.close();
  }
}

function setFileRights(fd: number, copied: Copied, { mode, readers }: SourceFacts, top: Stats): boolean {
  try {
    const there = fstatSync(fd);
    if (there.ino !== copied.copyInode || there.uid !== process.geteuid?.() || !isCopy(there, copied))
      return false;
    fchmodSync(fd, mode);
    if (there.uid === 0 && readers !== "all") fchownSync(fd, 0, top.gid);
    return true;
  } finally {
    closeSync(fd);
  }
}

async function renameCopy(
  { from, to, facts }: StepOf<"rename">,
  roots: MirrorRoots,
  journal: MirrorJournal,
): Promise<Outcome> {
  const before = journal.manifest.get(from);
  const isOurs = before !== undefined && isOurCopy(roots.core, from, before);
  // First closed, then shown where others may look.
  if (!isOurs || (before.mode !== facts.mode && setRights(from, facts, roots, journal) !== "done")) {
    journal.forget(from);
    return "again";
  }
  journal.add(to, { ...before, ...facts });
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
): Promise<Copied | undefined> {
  const { source, way } = await inParentOf(beamline, path, async (parent, name) => {
    return { source: await openFile(parent.place(name)), way: parent.way };
  });
  try {
    const before = await source.stat();
    const atFirst = factsOf(before, way);
    if (atFirst === null || hasChanged(facts, atFirst)) return undefined;
    await requireRoom(before, partial);
    const failed = await copyContent(source, partial, before).then(
      () => undefined,
      (error: unknown) => ({ error }),
    );
    const after = await source.stat();
    // A folder on the way may have been closed before the last was written.
    const copied = factsOf(
      after,
      inParentOfSync(beamline, path, (parent) => parent.way),
    );
    if (copied === null || hasChanged(facts, copied)) return undefined;
    if (failed !== undefined) throw failed.error;
    if (process.geteuid?.() === 0 && copied.readers !== "all") await chown(partial, 0, topOf(core, path).gid);
    await chmod(partial, copied.mode);
    // As numbers, times before 1970 would be taken for now.
    await utimes(partial, after.atime, after.mtime);
    return { ...copied, copyInode: (await lstat(partial)).ino };
  } finally {
    await source.close();
  }
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
  if (copied !== undefined && copied.theirs === undefined) {
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
