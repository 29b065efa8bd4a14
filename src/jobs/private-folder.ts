import { randomUUID } from "node:crypto";
import { lstatSync, mkdirSync, readlinkSync, rmSync, type Stats } from "node:fs";
import { posix } from "node:path";
import { Deferred, errorText } from "../errors.ts";

const WRITABLE_BY_OTHERS = 0o022;
const STICKY = 0o1000;
const MOST_LINKS = 40;
/** An operator must look. */
const GIVE_UP_AFTER_SECONDS = 24 * 3600;

/**
 * Makes the folder if it is not there, and makes sure that nobody but this account and root can put anything into it, or
 * something else into its place: what is written below it as this account then goes nowhere else. The folders above, and
 * links on the way, must be this account's or root's, and writable by no one else; like /tmp, a folder with the sticky bit
 * may be, for there others cannot rename what is not theirs. An ACL shows in the group's bits; a default ACL, which gives
 * others what is made in the folder, is tried.
 *
 * @throws Deferred `jobs-folder-unsafe`
 */
export function requirePrivateFolder(folder: string): void {
  let made: string;
  try {
    // Through what is there already nothing is made before it has been looked at.
    requirePrivate(existingAbove(folder), folder);
    mkdirSync(folder, { recursive: true, mode: 0o755 });
    made = requirePrivate(folder, folder);
    const { mode } = lstatSync(made);
    if ((mode & WRITABLE_BY_OTHERS) !== 0) throw unsafe(folder, describe(made));
    if (givesToOthers(made))
      throw unsafe(folder, `${made} has a default ACL that lets others write to what is made in it`);
  } catch (error) {
    if (error instanceof Deferred) throw error;
    throw unsafe(folder, errorText(error), error);
  }
}

/** Below a default ACL the kernel asks no umask, however much it takes away. */
function givesToOthers(folder: string): boolean {
  const before = process.umask(0o077);
  const probe = posix.join(folder, `.probe-${randomUUID()}`);
  try {
    mkdirSync(probe, { mode: 0o777 });
    return (lstatSync(probe).mode & WRITABLE_BY_OTHERS) !== 0;
  } finally {
    process.umask(before);
    rmSync(probe, { recursive: true, force: true });
  }
}

/** The lowest folder on the way that is there. */
function existingAbove(folder: string): string {
  for (let at = posix.resolve(folder); at !== "/"; at = posix.dirname(at)) {
    if (lstatSync(at, { throwIfNoEntry: false }) !== undefined) return at;
  }
  return "/";
}

/** Goes down to the folder, through links; returns where they lead. */
function requirePrivate(folder: string, wanted: string): string {
  let reached = "/";
  requireSafe(reached, wanted);
  const left = namesOf(posix.resolve(folder));
  let links = 0;
  for (let name = left.shift(); name !== undefined; name = left.shift()) {
    const next = posix.join(reached, name);
    const stats = requireSafe(next, wanted);
    if (stats.isSymbolicLink()) {
      if (++links > MOST_LINKS) throw unsafe(wanted, `${next} is one of too many links`);
      const target = posix.resolve(reached, readlinkSync(next));
      left.unshift(...namesOf(target));
      reached = "/";
    } else if (stats.isDirectory()) reached = next;
    else throw unsafe(wanted, `${next} is no folder`);
  }
  return reached;
}

function requireSafe(path: string, wanted: string): Stats {
  const stats = lstatSync(path);
  const isOwned = stats.uid === 0 || stats.uid === process.getuid?.();
  const isOpen = (stats.mode & WRITABLE_BY_OTHERS) !== 0 && (stats.mode & STICKY) === 0;
  if (!isOwned || (isOpen && !stats.isSymbolicLink())) throw unsafe(wanted, describe(path));
  return stats;
}

function namesOf(path: string): string[] {
  return path.split("/").filter((name) => name !== "");
}

function describe(path: string): string {
  const { uid, mode } = lstatSync(path);
  return `${path} belongs to uid ${uid} and has mode ${(mode & 0o7777).toString(8)}`;
}

function unsafe(folder: string, why: string, cause?: unknown): Deferred {
  return new Deferred({
    code: "jobs-folder-unsafe",
    message: `Others could write into ${folder}, where this worker keeps jobs of its own account (uid ${process.getuid?.() ?? "?"}): ${why}.`,
    hint: "Name a folder in site.slurmJobs or site.localJobs that only this account can write to, and whose parents only it or root can; or take the others' right away (setfacl -b, setfacl -k, chmod go-w).",
    giveUpAfterSeconds: GIVE_UP_AFTER_SECONDS,
    cause,
  });
}
