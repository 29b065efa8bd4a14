import { constants, type Stats, lstatSync } from "node:fs";
import {
  chmod,
  chown,
  copyFile,
  link,
  lstat,
  mkdir,
  rename,
  rmdir,
  stat,
  unlink,
  utimes,
} from "node:fs/promises";
import { join } from "node:path";
import type { Copied, MirrorJournal } from "./mirror-journal.ts";
import { hasChanged, type SourceFacts, type Step } from "./mirror-plan.ts";

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

/** The facts of a path, `null` if nothing is there; links and devices count as nothing. */
export async function look(path: string): Promise<SourceFacts | null> {
  try {
    return factsOf(await lstat(path));
  } catch (error) {
    if (isCode(error, "ENOENT", "ENOTDIR")) return null;
    throw error;
  }
}

/** Whether what lies at the core is what was copied there, and not what a job made of it. */
export function isOurCopy(corePath: string, copied: Copied | undefined): boolean {
  try {
    const present = factsOf(lstatSync(corePath));
    if (present === null || present.kind !== copied?.kind) return false;
    // Times are kept to the microsecond only.
    return present.kind === "directory" || isSameFile(present, copied);
  } catch {
    return false;
  }
}

function isSameFile(present: SourceFacts, copied: SourceFacts): boolean {
  return present.size === copied.size && Math.abs(present.mtimeMs - copied.mtimeMs) < 1;
}

let copies = 0;

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
  { core }: MirrorRoots,
  journal: MirrorJournal,
): Promise<Outcome> {
  const target = join(core, path);
  const there = await look(target);
  if (there !== null) {
    if (there.kind === "directory") journal.add(path, { ...facts, theirs: true });
    return there.kind === "directory" ? "done" : "not-ours";
  }
  journal.add(path, facts);
  await mkdir(target);
  // As raw, processed or shared themselves: jobs may write below processed wherever the beamline made a directory.
  const top = await stat(join(core, path.split("/")[0] ?? ""));
  await chmod(target, top.mode & 0o777);
  if (process.getuid?.() === 0) await chown(target, top.uid, top.gid);
  return "done";
}

async function renameCopy(
  { from, to, facts }: StepOf<"rename">,
  roots: MirrorRoots,
  journal: MirrorJournal,
): Promise<Outcome> {
  if (!isOurCopy(join(roots.core, from), journal.manifest.get(from))) {
    journal.forget(from);
    return copyIntoPlace({ do: "copy", path: to, facts }, roots, journal);
  }
  journal.add(to, facts);
  const outcome = await linkNew(join(roots.core, from), join(roots.core, to));
  if (outcome === "not-ours") journal.forget(to);
  await removeCopy(from, roots, journal);
  return outcome;
}

async function copyIntoPlace(
  { path, facts }: StepOf<"copy">,
  roots: MirrorRoots,
  journal: MirrorJournal,
): Promise<Outcome> {
  const [source, target] = [join(roots.beamline, path), join(roots.core, path)];
  const before = journal.manifest.get(path);
  const there = await lstat(target).catch(() => undefined);
  if (there !== undefined && !isOurCopy(target, before)) return "not-ours";

  const partial = join(roots.partial, `${process.pid}-${copies++}`);
  try {
    await copyFile(source, partial, constants.COPYFILE_FICLONE);
    const after = await lstat(source);
    const copied = factsOf(after);
    if (copied === null || hasChanged(facts, copied)) return "again";
    await chmod(partial, (after.mode & 0o777) | 0o444);
    await utimes(partial, after.atimeMs / 1000, after.mtimeMs / 1000);
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
    if (isCode(error, "ENOENT") && (await look(source)) === null) return "again";
    throw error;
  } finally {
    await unlink(partial).catch(() => undefined);
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
  const target = join(core, path);
  const copied = journal.manifest.get(path);
  if (copied?.theirs !== true && isOurCopy(target, copied)) {
    try {
      await (copied?.kind === "directory" ? rmdir(target) : unlink(target));
    } catch (error) {
      // A directory in which a job has left something stays.
      if (!isCode(error, "ENOENT", "ENOTEMPTY", "EEXIST")) throw error;
    }
  }
  journal.forget(path);
  return "done";
}

export function isCode(error: unknown, ...codes: string[]): boolean {
  return codes.includes((error as NodeJS.ErrnoException).code ?? "");
}
