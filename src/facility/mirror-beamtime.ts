import { type Dir, type FSWatcher, watch } from "node:fs";
import { opendir } from "node:fs/promises";
import { basename } from "node:path";
import { errorText } from "../errors.ts";
import { plainLine } from "../terminal.ts";
import {
  ASAPO_READ_TOKEN_PATH,
  ASAPO_TOKEN_PATH,
  PRIVATE_KEY_PATH,
  PUBLIC_KEY_PATH,
} from "./metadata-file.ts";
import { doStep, isCode, isOurCopy, look, lookAmong, lookIn, type MirrorRoots } from "./mirror-copy.ts";
import { MirrorJournal } from "./mirror-journal.ts";
import { hasChanged, planMirror, type SourceFacts, type Step } from "./mirror-plan.ts";
import { HeldDirectory, LastDirectory } from "./mirror-tree.ts";

const TOPS = ["raw", "processed", "shared"];
/** The start writes these to both file systems itself; a copy would make the secrets readable by all. */
const NOT_COPIED = new Set([PRIVATE_KEY_PATH, PUBLIC_KEY_PATH, ASAPO_TOKEN_PATH, ASAPO_READ_TOKEN_PATH]);
const COPIES_AT_ONCE = 4;
/** A file counts as written when it has not changed for so long, or at the latest after `LONGEST_WAIT_MS`. */
const QUIET_MS = 20;
const LONGEST_WAIT_MS = 2000;
const LAST_ROUNDS = 4;
const RESCAN_MS = 1000;
/** Rescans take at most a fiftieth of the time. */
const RESCAN_SHARE = 50;
/** Who may write in a session's folders can make any number of names, changes, folders and failures. */
const MOST_TREE_BYTES = 256 * 1024 * 1024;
const BYTES_OF_FACTS = 200;
const MOST_NOTICED = 100_000;
/** The kernel allows a number for all programs of one account. */
const MOST_WATCHED = 4000;
const MOST_COMPLAINTS = 1000;

interface Noticed {
  since: number;
  due: number;
}

/** What a walk found, up to so much memory. */
class Seen extends Map<string, SourceFacts> {
  readonly #mostBytes: number;
  #bytes = 0;

  constructor(mostBytes: number) {
    super();
    this.#mostBytes = mostBytes;
  }

  add(path: string, facts: SourceFacts): void {
    this.#bytes += BYTES_OF_FACTS + path.length;
    this.set(path, facts);
  }

  get isFull(): boolean {
    return this.#bytes > this.#mostBytes;
  }
}

/**
 * Copies one open beamtime or commissioning run from the beamline to the core file system, until it is finished or
 * stopped. Each has a process of its own, for what it costs is up to those who write in it.
 */
export class BeamtimeMirror {
  readonly #roots: MirrorRoots;
  readonly #journal: MirrorJournal;
  readonly #delayMs: number;
  readonly #say: (line: string) => void;
  readonly #mostTreeBytes: number;
  readonly #watchers = new Map<string, FSWatcher>();
  readonly #noticed = new Map<string, Noticed>();
  readonly #copying = new Map<string, Promise<void>>();
  readonly #complaints = new Set<string>();
  /** What appeared, and may be a directory that is not watched yet. */
  #appeared = new Set<string>();
  #wake: () => void = () => undefined;
  #finishing = false;
  #nextRescan = 0;

  constructor(
    roots: MirrorRoots,
    journalFile: string,
    delaySeconds: number,
    say: (line: string) => void,
    mostTreeBytes = MOST_TREE_BYTES,
  ) {
    this.#mostTreeBytes = mostTreeBytes;
    this.#roots = roots;
    this.#journal = new MirrorJournal(journalFile, (path, copied) => isOurCopy(roots.core, path, copied));
    this.#delayMs = delaySeconds * 1000;
    this.#say = say;
  }

  /** Resolves when `finish` was called and everything is copied. */
  async run(): Promise<void> {
    while (!this.#finishing) {
      if (performance.now() >= this.#nextRescan) await this.#rescan();
      await this.#readAppeared();
      await this.#work(performance.now());
      await this.#sleep();
    }
    for (const watcher of this.#watchers.values()) watcher.close();
    // A file that is still being written when the beamtime ends gets a few chances, and then stays as it was.
    for (let round = 0; round < LAST_ROUNDS; round++) {
      await Promise.all(this.#copying.values());
      await this.#rescan();
      if (this.#noticed.size === 0) return;
      await this.#work(Infinity);
    }
    await Promise.all(this.#copying.values());
    for (const path of this.#noticed.keys()) this.#complain(path, "not copied: it changed until the end");
  }

  /** Copies what is still to be copied, without any delay. */
  finish(): void {
    this.#finishing = true;
    this.#wake();
  }

  #sleep(): Promise<void> {
    const now = performance.now();
    let next = this.#appeared.size > 0 ? now : this.#nextRescan;
    for (const { due } of this.#noticed.values()) next = Math.min(next, due);
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, Math.max(1, next - now));
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
      if (this.#finishing) this.#wake();
    });
  }

  #notice(path: string, due = performance.now() + this.#delayMs): void {
    if (NOT_COPIED.has(path) || this.#noticed.has(path)) return;
    this.#noticed.set(path, { since: performance.now(), due });
    this.#wake();
  }

  /** Looks at everything. Where inotify cannot see, and where it lost something, this is what finds it. */
  async #rescan(): Promise<void> {
    const started = performance.now();
    const seen = new Seen(this.#mostTreeBytes);
    for (const top of TOPS) await this.#readTree(top, seen);
    for (const [path, facts] of seen) {
      if (hasChanged(this.#journal.manifest.get(path), facts)) this.#notice(path);
    }
    for (const path of this.#journal.manifest.keys()) if (!seen.has(path)) this.#notice(path);
    const took = performance.now() - started;
    this.#nextRescan = performance.now() + Math.max(RESCAN_MS, took * RESCAN_SHARE);
  }

  async #readTree(path: string, seen: Seen): Promise<void> {
    await this.#enter(path, seen, () => HeldDirectory.open(this.#roots.beamline, path));
  }

  async #enter(path: string, seen: Seen, open: () => HeldDirectory): Promise<void> {
    try {
      const directory = open();
      try {
        await this.#walk(path, directory, seen);
      } finally {
        directory.close();
      }
    } catch (error) {
      if (!isCode(error, "ENOENT", "ENOTDIR", "ELOOP")) this.#complain(path, error);
    }
  }

  async #walk(path: string, directory: HeldDirectory, seen: Seen): Promise<void> {
    // First watched, then read: nothing falls between the two.
    this.#watch(path, directory);
    for await (const { name } of await openEntries(directory)) {
      if (seen.isFull) {
        this.#complain(path, "not copied as a whole: the session has too many files");
        return;
      }
      const inside = `${path}/${name}`;
      if (NOT_COPIED.has(inside)) continue;
      const facts = this.#orComplain(inside, () => lookIn(directory, name));
      if (facts === null && name.includes("\uFFFD"))
        this.#complain(inside, "not copied: its name is not UTF-8");
      if (facts == null) continue;
      seen.add(inside, facts);
      if (facts.kind === "directory") await this.#enter(inside, seen, () => directory.enter(name));
    }
  }

  #watch(path: string, directory: HeldDirectory): void {
    if (this.#watchers.has(path) || this.#watchers.size >= MOST_WATCHED || this.#finishing) return;
    try {
      const watcher = watch(directory.path, (event, name) => {
        if (name !== null) this.#changed(`${path}/${name}`, event === "rename");
      });
      const close = () => {
        watcher.close();
        this.#watchers.delete(path);
      };
      watcher.once("error", close);
      this.#watchers.set(path, watcher);
    } catch (error) {
      // The machine's limit of watches, for example: the rescan sees the directory too.
      this.#complain(path, error);
    }
  }

  #changed(path: string, appeared: boolean): void {
    if (NOT_COPIED.has(path)) return;
    // The rescan finds what is let go here.
    if (this.#noticed.size >= MOST_NOTICED || this.#appeared.size >= MOST_NOTICED) return;
    this.#notice(path);
    if (!appeared) return;
    this.#appeared.add(path);
    this.#wake();
  }

  async #readAppeared(): Promise<void> {
    const appeared = this.#appeared;
    this.#appeared = new Set();
    for (const path of appeared) {
      if (this.#watchers.has(path)) continue;
      const seen = new Seen(this.#mostTreeBytes);
      await this.#readTree(path, seen);
      for (const inside of seen.keys()) this.#notice(inside);
    }
  }

  /** Does what is due at `time`, with at most so many copies under way; waits for all but the copies. */
  async #work(time: number): Promise<void> {
    const directories = new LastDirectory(this.#roots.beamline);
    const seen = this.#lookAtNoticed(time, directories);
    directories.close();
    for (const step of planMirror(this.#journal.manifest, seen)) await this.#start(step);
  }

  #lookAtNoticed(time: number, directories: LastDirectory): Map<string, SourceFacts | null> {
    const seen = new Map<string, SourceFacts | null>();
    for (const [path, noticed] of this.#noticed) {
      if (noticed.due > time) continue;
      if (this.#copying.has(path)) {
        noticed.due = performance.now() + QUIET_MS;
        continue;
      }
      const facts = this.#look(path, directories);
      const quietAt =
        facts?.kind === "file" ? performance.now() + QUIET_MS - (Date.now() - facts.mtimeMs) : 0;
      if (quietAt > time && performance.now() - noticed.since < LONGEST_WAIT_MS) {
        noticed.due = Math.min(quietAt, performance.now() + QUIET_MS);
        continue;
      }
      this.#noticed.delete(path);
      if (facts === undefined) continue;
      if (facts === null) this.#forgetWatcher(path);
      seen.set(path, facts);
    }
    return seen;
  }

  #forgetWatcher(directory: string): void {
    this.#watchers.get(directory)?.close();
    this.#watchers.delete(directory);
  }

  async #start(step: Step): Promise<void> {
    if (step.do !== "copy") return this.#do(step, step.do === "rename" ? step.to : step.path);
    while (this.#copying.size >= COPIES_AT_ONCE) await Promise.race(this.#copying.values());
    const copying = this.#do(step, step.path).finally(() => this.#copying.delete(step.path));
    this.#copying.set(step.path, copying);
  }

  async #do(step: Step, path: string): Promise<void> {
    try {
      const outcome = await doStep(step, this.#roots, this.#journal);
      if (outcome === "again") this.#notice(path, performance.now() + QUIET_MS);
      if (outcome === "not-ours") this.#complain(path, "not copied: something else is at the core already");
    } catch (error) {
      // It stays out of the manifest, and so comes back with the next rescan.
      this.#complain(path, error);
    }
  }

  /** `null`: nothing is there. `undefined`: it cannot be said, and so nothing may be removed at the core. */
  #look(path: string, directories: LastDirectory): SourceFacts | null | undefined {
    if (NOT_COPIED.has(path)) return undefined;
    return this.#orComplain(path, () => {
      const facts = lookAmong(directories, path);
      if (facts !== null) return facts;
      // Without even the directory at the top it is the file system that is gone, not the file.
      const top = look(this.#roots.beamline, path.split("/")[0] ?? "");
      return top === null ? undefined : null;
    });
  }

  #orComplain<T>(path: string, look: () => T): T | undefined {
    try {
      return look();
    } catch (error) {
      this.#complain(path, error);
      return undefined;
    }
  }

  #complain(path: string, what: unknown): void {
    const line = plainLine(`${basename(this.#roots.beamline)}: ${path}: ${errorText(what)}`);
    if (this.#complaints.has(line) || this.#complaints.size >= MOST_COMPLAINTS) return;
    this.#complaints.add(line);
    this.#say(line);
  }
}

/** Piece by piece: a directory may have any number of entries. */
function openEntries(directory: HeldDirectory): Promise<Dir> {
  return opendir(directory.path, { bufferSize: 256 });
}
