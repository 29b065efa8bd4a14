import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  readSync,
  writeFileSync,
  type Stats,
} from "node:fs";
import { open, opendir, readlink, realpath, type FileHandle } from "node:fs/promises";
import { FileQueue } from "./file-queue.ts";

/**
 * The one way to read a file that somebody else may have made: keys, metadata, tokens, known_hosts, passwords,
 * configurations. It is opened without waiting for a pipe's other end, looked at through the open descriptor, so that
 * nobody can put something else in its place meanwhile, and read up to a limit, whatever size it claims.
 */
export interface FileRules {
  /** More than any good file of this kind has. */
  maxBytes: number;
  /**
   * `refuse` for a file that is found by its name in a folder where users write: its link could make us read a file that
   * only this account can. `follow` for one that the configuration or the caller names: those are often links, such as a
   * secret mounted by Kubernetes.
   */
  links: "refuse" | "follow";
  /** The folder that the file must really lie in, whatever links lead to it. */
  within?: string | null;
}

export interface PlainFile {
  bytes: Buffer;
  /** Changes when the file does. */
  version: string;
  /** The permissions, as chmod takes them. */
  mode: number;
}

/** What is there, but not a file that may be read. Where nothing is there, the system's own error says so (ENOENT). */
export class NotPlain extends Error {
  constructor(what: string) {
    super(what);
    this.name = "NotPlain";
  }
}

/** libuv adds O_CLOEXEC. */
const OPEN = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY;
const CHUNK = 64 * 1024;

/** Of the whole process: its threads are. */
const turns = new FileQueue();

/** Whether a file system hangs: then the threads that wait for it keep the process from ending by itself. */
export function isFileSystemStuck(): boolean {
  return turns.isStuck;
}

/**
 * @throws NotPlain, NoAnswer, and the system's errors
 */
export async function readPlainFile(file: string, rules: FileRules): Promise<PlainFile> {
  const read = await turns.run(file, `read ${JSON.stringify(rules)}`, () => readNow(file, rules, undefined));
  if (read === "unchanged") throw new Error("a file without a version to compare is never unchanged");
  return read;
}

/** The same for a file that was read before; `unchanged` if it still has this version. */
export function readIfChanged(
  file: string,
  rules: FileRules,
  version: string | undefined,
): Promise<PlainFile | "unchanged"> {
  const what = `read ${JSON.stringify(rules)} unless ${version ?? "-"}`;
  return turns.run(file, what, () => readNow(file, rules, version));
}

/**
 * The names in a folder; none if it is not there.
 *
 * @throws NotPlain if there are more than `most`; NoAnswer, and the system's errors
 */
export async function listFolder(folder: string, most: number): Promise<string[]> {
  return turns.run(folder, `list ${most}`, async () => {
    const names: string[] = [];
    try {
      for await (const { name } of await opendir(folder, { bufferSize: 1024 })) {
        names.push(name);
        if (names.length > most) throw new NotPlain(`there are more than ${most} files in it`);
      }
      return names;
    } catch (error) {
      if (isMissing(error)) return [];
      throw error;
    }
  });
}

export function isMissing(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return code === "ENOENT" || code === "ENOTDIR";
}

/** A byte order mark at the beginning, which some editors write, is no part of the text. */
export function textOf(bytes: Buffer): string {
  const text = bytes.toString("utf8");
  return text.startsWith("\uFEFF") ? text.slice(1) : text;
}

async function readNow(
  file: string,
  rules: FileRules,
  known: string | undefined,
): Promise<PlainFile | "unchanged"> {
  const within = rules.within == null ? null : await realpath(rules.within);
  let handle: FileHandle;
  try {
    handle = await open(file, flagsOf(rules));
  } catch (error) {
    throw wordsFor(error);
  }
  try {
    const before = await handle.stat();
    requirePlain(before, rules);
    if (within !== null) await requireWithin(handle, within);
    const version = versionOf(before);
    if (version === known) return "unchanged";
    const bytes = await readUpTo(handle, rules.maxBytes);
    if (versionOf(await handle.stat()) !== version) throw new NotPlain("it changes while it is read");
    return { bytes, version, mode: before.mode & 0o7777 };
  } finally {
    await handle.close();
  }
}

async function readUpTo(handle: FileHandle, most: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for (let total = 0; ;) {
    const chunk = Buffer.allocUnsafe(CHUNK);
    const { bytesRead } = await handle.read(chunk, 0, CHUNK, null);
    if (bytesRead === 0) return Buffer.concat(chunks);
    total += bytesRead;
    if (total > most) throw tooLarge(most);
    chunks.push(chunk.subarray(0, bytesRead));
  }
}

/** Linux says where an open file lies; a name that was looked up before could have changed its meaning. */
async function requireWithin(handle: FileHandle, folder: string): Promise<void> {
  const real = await readlink(`/proc/self/fd/${handle.fd}`);
  if (!real.startsWith(`${folder}/`)) throw new NotPlain(`links lead from it to ${real}, outside ${folder}`);
}

/**
 * The same, for what a command needs before it can do anything: nothing else waits for it. A pipe is read too if somebody
 * writes into it at once, as in `mento validate <(…)`.
 *
 * @throws NotPlain, and the system's errors
 */
export function readGivenFile(file: string, rules: FileRules & { pipes?: boolean }): PlainFile {
  let fd: number;
  try {
    fd = openSync(file, flagsOf(rules));
  } catch (error) {
    throw wordsFor(error);
  }
  try {
    const stats = fstatSync(fd);
    if (!(rules.pipes === true && stats.isFIFO())) requirePlain(stats, rules);
    const bytes = readUpToSync(fd, rules.maxBytes, PIPE_WAIT_MS);
    if (stats.isFIFO() && bytes.length === 0) {
      throw new NotPlain("it is a pipe, and nobody has written into it");
    }
    return { bytes, version: versionOf(stats), mode: stats.mode & 0o7777 };
  } finally {
    closeSync(fd);
  }
}

/** So long a pipe may stay silent. */
const PIPE_WAIT_MS = 10_000;

/** What comes from an open descriptor, such as standard input, until its end. */
export function readUpToSync(fd: number, most: number, waitMs = Infinity): Buffer {
  const chunks: Buffer[] = [];
  let silentFor = 0;
  for (let total = 0; ;) {
    const chunk = Buffer.allocUnsafe(CHUNK);
    let count: number;
    try {
      count = readSync(fd, chunk, 0, CHUNK, null);
    } catch (error) {
      if (!isNotYet(error)) throw error;
      if (silentFor > waitMs) throw new NotPlain(`nothing came from it for ${waitMs / 1000} s`);
      pauseSync(PAUSE_MS);
      silentFor += PAUSE_MS;
      continue;
    }
    if (count === 0) return Buffer.concat(chunks);
    silentFor = 0;
    total += count;
    if (total > most) throw tooLarge(most);
    chunks.push(chunk.subarray(0, count));
  }
}

/**
 * Writes a text over a file, or makes it. Not into a pipe or to a device that somebody has put there.
 *
 * @param mode of a file that is made
 * @throws NotPlain, and the system's errors
 */
export function writePlainFile(
  file: string,
  text: string,
  { links, mode }: Pick<FileRules, "links"> & { mode: number },
): void {
  const { O_WRONLY, O_CREAT, O_NONBLOCK, O_NOCTTY, O_NOFOLLOW } = constants;
  const flags = O_WRONLY | O_CREAT | O_NONBLOCK | O_NOCTTY;
  let fd: number;
  try {
    fd = openSync(file, links === "refuse" ? flags | O_NOFOLLOW : flags, mode);
  } catch (error) {
    throw wordsFor(error);
  }
  try {
    const stats = fstatSync(fd);
    if (!stats.isFile()) throw new NotPlain(`it is ${kindOf(stats)}, not a file`);
    ftruncateSync(fd);
    writeFileSync(fd, text);
  } finally {
    closeSync(fd);
  }
}

const PAUSE_MS = 10;

function pauseSync(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

function isNotYet(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "EAGAIN";
}

function flagsOf({ links }: FileRules): number {
  return links === "refuse" ? OPEN | constants.O_NOFOLLOW : OPEN;
}

function requirePlain(stats: Stats, { maxBytes }: FileRules): void {
  if (!stats.isFile()) throw new NotPlain(`it is ${kindOf(stats)}, not a file`);
  if (stats.size > maxBytes) throw tooLarge(maxBytes);
}

function kindOf(stats: Stats): string {
  if (stats.isDirectory()) return "a folder";
  if (stats.isFIFO()) return "a named pipe";
  return stats.isSocket() ? "a socket" : "a device";
}

function tooLarge(most: number): NotPlain {
  return new NotPlain(`it has more than ${most} bytes`);
}

function wordsFor(error: unknown): unknown {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "ELOOP") return new NotPlain("it is a link, not the file itself");
  if (code === "EISDIR") return new NotPlain("it is a folder, not a file");
  if (code === "ENXIO") return new NotPlain("it is a socket, or a pipe that nobody reads, not a file");
  if (code === "EAGAIN") return new NotPlain("another program keeps it locked (a lease)");
  return error;
}

function versionOf({ mtimeMs, ctimeMs, size, ino, dev }: Stats): string {
  return [mtimeMs, ctimeMs, size, ino, dev].join(" ");
}
