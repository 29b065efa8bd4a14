import { type Dir, type FSWatcher, watch } from "node:fs";
import { opendir } from "node:fs/promises";
import { basename } from "node:path";
import { errorText } from "../errors.ts";
import { plainLine } from "../text/terminal.ts";
import {
  ASAPO_READ_TOKEN_PATH,
  ASAPO_TOKEN_PATH,
  PRIVATE_KEY_PATH,
  PUBLIC_KEY_PATH,
} from "./metadata-file.ts";
import { MirrorCopies } from "./mirror-copies.ts";
import {
  accountOf,
  doStep,
  isCode,
  isOurCopy,
  look,
  lookAmong,
  lookIn,
  type MirrorRoots,
} from "./mirror-copy.ts";
import { MirrorJournal } from "./mirror-journal.ts";
import { hasChanged, planMirror, type SourceFacts, type Step } from "./mirror-plan.ts";
import type { Readers } from "./mirror-readers.ts";
import { HeldDirectory, LastDirectory, splitPath } from "./mirror-tree.ts";

const TOPS = ["raw", "processed", "shared"];
/** The start writes these to both file systems itself; a copy would make the secrets readable by all. */
const NOT_COPIED = new Set([PRIVATE_KEY_PATH, PUBLIC_KEY_PATH, ASAPO_TOKEN_PATH, ASAPO_READ_TOKEN_PATH]);
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
const CLOSED_FILE =
  "not copied: not all may read it, and it is not the session account's (chmod o+r); a copy made before is removed";
const CLOSED_DIRECTORY =
  "not copied, nor what lies in it: not all may enter it, and it is not the session account's (chmod o+x); copies made before are removed";

interface Noticed {
  since: number;
  due: number;
  /** By inotify: of a directory, nobody has looked into it since. */
  isTold: boolean;
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
  readonly #account: Readers;
  readonly #watchers = new Map<string, FSWatcher>();
  readonly #noticed = new Map<string, Noticed>();
  readonly #copies = new MirrorCopies((step) => this.#do(step, step.path));
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
    this.#account = accountOf(roots.core);
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
      await this.#copies.done();
      await this.#rescan();
      if (this.#noticed.size === 0) return;
      await this.#work(Infinity);
    }
    await this.#copies.done();
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

  #notice(path: string, due = performance.now() + this.#delayMs, isTold = false): void {
    if (NOT_COPIED.has(path)) return;
    const before = this.#noticed.get(path);
    if (before !== undefined) before.isTold ||= isTold;
    if (before !== undefined) return;
    this.#noticed.set(path, { since: performance.now(), due, isTold });
    this.#wake();
  }

  /** Looks at everything. Where inotify cannot see, and where it lost something, this is what finds it. */
  async #rescan(): Promise<void> {
    const started = performance.now();
    const seen = new Seen(this.#mostTreeBytes);
    for (const top of TOPS) await this.#readTree(top, seen);
    for (const [path, facts] of seen) {
      const known = this.#copies.waiting(path) ?? this.#journal.manifest.get(path);
      if (hasChanged(known, facts)) this.#notice(path);
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
    if (!this.#isForUs(directory.way)) {
      // Of others it is said where they are looked at.
      if (TOPS.includes(path)) this.#complain(path, CLOSED_DIRECTORY);
      return;
    }
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
    this.#notice(path, performance.now() + this.#delayMs, true);
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

  /** Does what is due at `time`; waits for all but the copies. */
  async #work(time: number): Promise<void> {
    const directories = new LastDirectory(this.#roots.beamline);
    const seen = await this.#lookAtNoticed(time, directories);
    directories.close();
    for (const step of planMirror(this.#journal.manifest, seen)) {
      if (step.do === "copy") this.#copies.add(step);
      else await this.#do(step, step.do === "rename" ? step.to : step.path);
    }
  }

  async #lookAtNoticed(time: number, directories: LastDirectory): Promise<Map<string, SourceFacts | null>> {
    const seen = new Map<string, SourceFacts | null>();
    for (const [path, noticed] of this.#noticed) {
      if (noticed.due > time) continue;
      const facts = this.#look(path, directories);
      if (facts?.kind === "file") await this.#closeCopy(path, facts);
      const quietAt =
        facts?.kind === "file" ? performance.now() + QUIET_MS - (Date.now() - facts.mtimeMs) : 0;
      const mayWait = quietAt > time && performance.now() - noticed.since < LONGEST_WAIT_MS;
      if (mayWait || this.#copies.isUnderWay(path)) {
        noticed.due = performance.now() + QUIET_MS;
        if (mayWait) noticed.due = Math.min(noticed.due, quietAt);
        continue;
      }
      this.#noticed.delete(path);
      this.#copies.drop(path);
      if (facts === undefined) continue;
      const ours = facts !== null && this.#isForUs(facts.readers) ? facts : null;
      if (ours === null) this.#forgetWatcher(path);
      else if (noticed.isTold && ours.kind === "directory") this.#readAgain(path, ours);
      if (facts !== null && ours === null) this.#sayClosed(path, facts, directories);
      seen.set(path, ours);
    }
    return seen;
  }

  /** What was closed at the beamline is so at the core too before anything that takes time, such as a newer copy. */
  async #closeCopy(path: string, { mode, readers }: SourceFacts): Promise<void> {
    const before = this.#journal.manifest.get(path);
    if (before?.kind !== "file" || (before.mode & ~mode) === 0) return;
    await this.#do({ do: "set-rights", path, facts: { ...before, mode: before.mode & mode, readers } }, path);
  }

  /** A directory that was opened: nobody has looked into it yet, or at how what lies in it can be reached now. */
  #readAgain(path: string, facts: SourceFacts): void {
    const before = this.#journal.manifest.get(path);
    if (!hasChanged(before, facts)) return;
    if (before !== undefined) this.#forgetWatcher(path);
    this.#appeared.add(path);
  }

  #isForUs(readers: Readers): boolean {
    return readers === "all" || (readers !== "nobody" && readers === this.#account);
  }

  /** Of a closed directory and all that lies in it, only the directory is named. */
  #sayClosed(path: string, { kind }: SourceFacts, directories: LastDirectory): void {
    if (!this.#isForUs(directories.open(splitPath(path).directory).way)) return;
    this.#complain(path, kind === "file" ? CLOSED_FILE : CLOSED_DIRECTORY);
  }

  #forgetWatcher(directory: string): void {
    this.#watchers.get(directory)?.close();
    this.#watchers.delete(directory);
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
