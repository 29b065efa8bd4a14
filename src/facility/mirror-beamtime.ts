import { type FSWatcher, watch } from "node:fs";
import { readdir } from "node:fs/promises";
import { basename } from "node:path";
import { errorText } from "../errors.ts";
import { plainLine } from "../terminal.ts";
import {
  ASAPO_READ_TOKEN_PATH,
  ASAPO_TOKEN_PATH,
  PRIVATE_KEY_PATH,
  PUBLIC_KEY_PATH,
} from "./metadata-file.ts";
import { doStep, isCode, isOurCopy, look, type MirrorRoots } from "./mirror-copy.ts";
import { MirrorJournal } from "./mirror-journal.ts";
import { hasChanged, planMirror, type SourceFacts, type Step } from "./mirror-plan.ts";
import { HeldDirectory } from "./mirror-tree.ts";

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
/** Of one session; who may write there can make any number of names. */
const MOST_COMPLAINTS = 1000;

interface Noticed {
  since: number;
  due: number;
}

/** Copies one open beamtime or commissioning run from the beamline to the core file system, until it is finished or stopped. */
export class BeamtimeMirror {
  readonly #roots: MirrorRoots;
  readonly #journal: MirrorJournal;
  readonly #delayMs: number;
  readonly #say: (line: string) => void;
  readonly #watchers = new Map<string, FSWatcher>();
  readonly #noticed = new Map<string, Noticed>();
  readonly #copying = new Map<string, Promise<void>>();
  readonly #complaints = new Set<string>();
  #wake: () => void = () => undefined;
  #finishing = false;
  #nextRescan = 0;

  constructor(roots: MirrorRoots, journalFile: string, delaySeconds: number, say: (line: string) => void) {
    this.#roots = roots;
    this.#journal = new MirrorJournal(journalFile, (path, copied) => isOurCopy(roots.core, path, copied));
    this.#delayMs = delaySeconds * 1000;
    this.#say = say;
  }

  /** Resolves when `finish` was called and everything is copied. */
  async run(): Promise<void> {
    while (!this.#finishing) {
      if (performance.now() >= this.#nextRescan) await this.#rescan();
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
  }

  /** Copies what is still to be copied, without any delay. */
  finish(): void {
    this.#finishing = true;
    this.#wake();
  }

  #sleep(): Promise<void> {
    const now = performance.now();
    const dues = [...this.#noticed.values()].map(({ due }) => due);
    const next = dues.reduce((left, right) => Math.min(left, right), this.#nextRescan);
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
    const seen = new Map<string, SourceFacts>();
    for (const top of TOPS) await this.#walk(top, seen);
    for (const [path, facts] of seen) {
      if (hasChanged(this.#journal.manifest.get(path), facts)) this.#notice(path);
    }
    for (const path of this.#journal.manifest.keys()) if (!seen.has(path)) this.#notice(path);
    const took = performance.now() - started;
    this.#nextRescan = performance.now() + Math.max(RESCAN_MS, took * RESCAN_SHARE);
  }

  async #walk(path: string, seen: Map<string, SourceFacts>): Promise<void> {
    let directory: HeldDirectory;
    try {
      directory = HeldDirectory.open(this.#roots.beamline, path);
    } catch (error) {
      if (!isCode(error, "ENOENT", "ENOTDIR", "ELOOP")) this.#complain(path, error);
      return;
    }
    try {
      // First watched, then read: nothing falls between the two.
      this.#watch(path, directory);
      for (const entry of await readdir(directory.path).catch(() => [])) {
        const inside = `${path}/${entry}`;
        const facts = await this.#look(inside);
        if (facts == null) continue;
        seen.set(inside, facts);
        if (facts.kind === "directory") await this.#walk(inside, seen);
      }
    } finally {
      directory.close();
    }
  }

  #watch(path: string, directory: HeldDirectory): void {
    if (this.#watchers.has(path) || this.#finishing) return;
    try {
      const watcher = watch(directory.path, (_event, name) => {
        if (name !== null) void this.#changed(`${path}/${name}`);
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

  async #changed(path: string): Promise<void> {
    this.#notice(path);
    const facts = await this.#look(path);
    if (facts?.kind !== "directory" || this.#watchers.has(path)) return;
    const seen = new Map<string, SourceFacts>();
    await this.#walk(path, seen);
    for (const inside of seen.keys()) this.#notice(inside);
  }

  /** Does what is due at `time`, with at most so many copies under way; waits for all but the copies. */
  async #work(time: number): Promise<void> {
    const seen = new Map<string, SourceFacts | null>();
    for (const [path, noticed] of this.#noticed) {
      if (noticed.due > time) continue;
      if (this.#copying.has(path)) {
        noticed.due = performance.now() + QUIET_MS;
        continue;
      }
      const facts = await this.#look(path);
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
    for (const step of planMirror(this.#journal.manifest, seen)) await this.#start(step);
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
  async #look(path: string): Promise<SourceFacts | null | undefined> {
    if (NOT_COPIED.has(path)) return undefined;
    try {
      const facts = await look(this.#roots.beamline, path);
      if (facts !== null) return facts;
      // Without even the directory at the top it is the file system that is gone, not the file.
      const top = await look(this.#roots.beamline, path.split("/")[0] ?? "");
      return top === null ? undefined : null;
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
