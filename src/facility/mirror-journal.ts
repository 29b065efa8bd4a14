import { appendFileSync, closeSync, existsSync, openSync, readSync, renameSync, rmSync } from "node:fs";
import type { SourceFacts } from "./mirror-plan.ts";

/** What was copied, and whether a directory had been there before, so that it is not ours to remove. */
export type Copied = SourceFacts & { theirs?: true };

interface Line {
  path: string;
  /** Absent: no longer ours. */
  copied?: Copied;
}

/** Lines beyond those that the manifest needs. */
const MOST_APPENDED = 100_000;

/** The manifest of one beamtime, line by line in a file: after a kill at any instant it still knows what is ours. */
export class MirrorJournal {
  readonly manifest = new Map<string, Copied>();
  readonly #file: string;
  #appended = 0;

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
    if (this.#appended > MOST_APPENDED + this.manifest.size) this.#rewrite();
    appendFileSync(this.#file, lineOf(line));
    this.#appended += 1;
  }

  /** Line by line: paths of odd names are long, and all of them together longer than a text can be. */
  #rewrite(): void {
    const partial = `${this.#file}.partial`;
    rmSync(partial, { force: true });
    const fd = openSync(partial, "wx", 0o644);
    try {
      for (const [path, copied] of this.manifest) appendFileSync(fd, lineOf({ path, copied }));
    } finally {
      closeSync(fd);
    }
    renameSync(partial, this.#file);
    this.#appended = 0;
  }
}

function lineOf(line: Line): string {
  return `${JSON.stringify(line)}\n`;
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

/** The last line may be cut off by a kill. */
function parseLine(line: string): Line[] {
  try {
    return [JSON.parse(line) as Line];
  } catch {
    return [];
  }
}
