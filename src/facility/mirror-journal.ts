import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { writeFileAtomically } from "./state.ts";
import type { SourceFacts } from "./mirror-plan.ts";

/** What was copied, and whether a directory had been there before, so that it is not ours to remove. */
export type Copied = SourceFacts & { theirs?: true };

interface Line {
  path: string;
  /** Absent: no longer ours. */
  copied?: Copied;
}

/** The manifest of one beamtime, line by line in a file: after a kill at any instant it still knows what is ours. */
export class MirrorJournal {
  readonly manifest = new Map<string, Copied>();
  readonly #file: string;

  /** `isStillThere` says whether the core file system still has this copy as it was made. */
  constructor(file: string, isStillThere: (path: string, copied: Copied) => boolean) {
    this.#file = file;
    const lines = existsSync(file) ? readFileSync(file, "utf8").split("\n") : [];
    for (const { path, copied } of lines.flatMap(parseLine)) {
      if (copied === undefined) this.manifest.delete(path);
      else this.manifest.set(path, copied);
    }
    for (const [path, copied] of this.manifest) {
      if (!isStillThere(path, copied)) this.manifest.delete(path);
    }
    const present = [...this.manifest].map(([path, copied]) => lineOf({ path, copied }));
    writeFileAtomically(file, present.join(""), 0o644);
  }

  /** To be called before the copy appears: a copy that is not on record would be taken for a job's result for ever. */
  add(path: string, copied: Copied): void {
    appendFileSync(this.#file, lineOf({ path, copied }));
    this.manifest.set(path, copied);
  }

  forget(path: string): void {
    appendFileSync(this.#file, lineOf({ path }));
    this.manifest.delete(path);
  }
}

function lineOf(line: Line): string {
  return `${JSON.stringify(line)}\n`;
}

/** The last line may be cut off by a kill. */
function parseLine(line: string): Line[] {
  try {
    return [JSON.parse(line) as Line];
  } catch {
    return [];
  }
}
