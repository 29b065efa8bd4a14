import { closeSync, constants, fstatSync, openSync } from "node:fs";
import { open } from "node:fs/promises";
import { type Readers, readersInside } from "./mirror-readers.ts";

/** Deeper trees are not copied: each level is an open file while the tree is read. */
export const DEEPEST = 64;

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;

/**
 * A directory below a root that others cannot replace, opened level by level without following a link. Whoever may
 * write in it can rename and replace what lies there at any time, and the copy runs as root: so what is opened is held
 * by its descriptor, and a name is looked up in that, never in a path that may lead elsewhere by now.
 */
export class HeldDirectory {
  readonly fd: number;
  /** Who can reach what lies in it, if everybody can reach the root. */
  readonly way: Readers;
  readonly #depth: number;

  private constructor(fd: number, way: Readers, depth: number) {
    this.fd = fd;
    this.way = way;
    this.#depth = depth;
  }

  /**
   * @param path relative to the root; `""` is the root itself
   * @throws with code ENOENT or ENOTDIR (also for a link) if there is no such directory
   */
  static open(root: string, path: string): HeldDirectory {
    let held = new HeldDirectory(openSync(root, DIRECTORY), "all", 0);
    for (const name of namesOf(path)) {
      try {
        const next = held.enter(name);
        held.close();
        held = next;
      } catch (error) {
        held.close();
        throw error;
      }
    }
    return held;
  }

  /** A directory in it; throws as `open` does. */
  enter(name: string): HeldDirectory {
    if (this.#depth === DEEPEST) throw new Error("not copied: it lies too deep");
    const fd = openSync(this.place(name), DIRECTORY);
    return new HeldDirectory(fd, readersInside(this.way, fstatSync(fd)), this.#depth + 1);
  }

  /** The directory itself, for what takes only paths. */
  get path(): string {
    return `/proc/self/fd/${this.fd}`;
  }

  /** A name in it, for calls that do not follow a link there: lstat, link, rename, mkdir, unlink, rmdir. */
  place(name: string): string {
    return `${this.path}/${name}`;
  }

  close(): void {
    closeSync(this.fd);
  }
}

/** The directory that was last asked for stays open: of many paths, those in one directory mostly follow one another. */
export class LastDirectory {
  readonly #root: string;
  #path = "";
  #held: HeldDirectory | undefined;

  constructor(root: string) {
    this.#root = root;
  }

  /** As `HeldDirectory.open` does, but it is not the caller's to close. */
  open(path: string): HeldDirectory {
    if (this.#held !== undefined && this.#path === path) return this.#held;
    this.close();
    this.#held = HeldDirectory.open(this.#root, path);
    this.#path = path;
    return this.#held;
  }

  close(): void {
    this.#held?.close();
    this.#held = undefined;
  }
}

/** Calls `work` with the directory that the path lies in, and its name there. */
export async function inParentOf<T>(
  root: string,
  path: string,
  work: (parent: HeldDirectory, name: string) => Promise<T>,
): Promise<T> {
  const { directory, name } = splitPath(path);
  const parent = HeldDirectory.open(root, directory);
  try {
    return await work(parent, name);
  } finally {
    parent.close();
  }
}

/** The same, at once. */
export function inParentOfSync<T>(
  root: string,
  path: string,
  work: (parent: HeldDirectory, name: string) => T,
): T {
  const { directory, name } = splitPath(path);
  const parent = HeldDirectory.open(root, directory);
  try {
    return work(parent, name);
  } finally {
    parent.close();
  }
}

/** Neither through a link nor waiting for a FIFO's writer. */
export const READ_FILE = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

export function openFile(place: string) {
  return open(place, READ_FILE);
}

export function splitPath(path: string): { directory: string; name: string } {
  const names = namesOf(path);
  return { directory: names.slice(0, -1).join("/"), name: names.at(-1) ?? "." };
}

function namesOf(path: string): string[] {
  const names = path.split("/").filter((name) => name !== "");
  if (!names.includes("..")) return names;
  throw new Error(`${path} leads out of the tree`);
}
