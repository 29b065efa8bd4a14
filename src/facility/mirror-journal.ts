import {
  appendFileSync,
  closeSync,
  existsSync,
  fstatSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
} from "node:fs";
import type { SourceFacts } from "./mirror-plan.ts";

export type Copied = SourceFacts & {
  /** The mode of a directory that had been there before, so that it is not ours to remove. */
  theirs?: number;
  /** The copy's own inode, of a file. */
  copyInode?: number;
};

interface Line {
  path: string;
  /** Absent: no longer ours. */
  copied?: Copied;
}

/** Beyond what the manifest needs. */
const MOST_APPENDED_BYTES = 8 * 1024 * 1024;

/** The manifest of one beamtime, line by line in a file: after a kill at any instant it still knows what is ours. */
export class MirrorJournal {
  readonly manifest = new Map<string, Copied>();
  readonly #file: string;
  #rewrittenBytes = 0;
  #appendedBytes = 0;

  /** `isStillThere` says whether the core file system still has this copy as it was made. */
  constructor(file: string, isStillThere: (path: string, copied: Copied) => boolean) {
    this.#file = file;
    for (const line of existsSync(file) ? linesOf(file) : []) {
      for (const { path, copied } of parseLine(line)) {
        if (copied === undefined) this.manifest.delete(path);
        else this.manifest.set(path, copied);
      }
    }
    for (const [path, copied] of this.manifest) {
      if (!isStillThere(path, copied)) this.manifest.delete(path);
    }
    this.#rewrite();
  }

  /** To be called before the copy appears: a copy that is not on record would be taken for a job's result for ever. */
  add(path: string, copied: Copied): void {
    this.#append({ path, copied });
    this.manifest.set(path, copied);
  }

  forget(path: string): void {
    this.#append({ path });
    this.manifest.delete(path);
  }

  /** A file that changes all the time must not make it grow without an end. */
  #append(line: Line): void {
    if (this.#appendedBytes > MOST_APPENDED_BYTES + this.#rewrittenBytes) this.#rewrite();
    const text = lineOf(line);
    appendFileSync(this.#file, text);
    this.#appendedBytes += Buffer.byteLength(text);
  }

  /** Line by line: paths of odd names are long, and all of them together longer than a text can be. */
  #rewrite(): void {
    const partial = `${this.#file}.partial`;
    rmSync(partial, { force: true });
    const fd = openSync(partial, "wx", 0o644);
    try {
      for (const [path, copied] of this.manifest) appendFileSync(fd, lineOf({ path, copied }));
      this.#rewrittenBytes = fstatSync(fd).size;
    } finally {
      closeSync(fd);
    }
    renameSync(partial, this.#file);
    this.#appendedBytes = 0;
  }
}

/** The newline comes first: it ends a line that a full disk has cut off. */
function lineOf(line: Line): string {
  return `\n${JSON.stringify(line)}`;
}

const PIECE_BYTES = 1024 * 1024;

function* linesOf(file: string): Generator<string, void, undefined> {
  const fd = openSync(file, "r");
  try {
    const piece = Buffer.alloc(PIECE_BYTES);
    let rest = Buffer.alloc(0);
    for (let length = readSync(fd, piece); length > 0; length = readSync(fd, piece)) {
      const bytes = Buffer.concat([rest, piece.subarray(0, length)]);
      const end = bytes.lastIndexOf("\n") + 1;
      yield* bytes.toString("utf8", 0, end).split("\n");
      rest = bytes.subarray(end);
    }
    yield rest.toString("utf8");
  } finally {
    closeSync(fd);
  }
}

/** A line may be cut off, by a kill or a full disk. */
function parseLine(line: string): Line[] {
  if (line === "") return [];
  try {
    return [JSON.parse(line) as Line];
  } catch {
    return [];
  }
}
