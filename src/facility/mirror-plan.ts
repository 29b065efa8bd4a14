import type { Readers } from "./mirror-readers.ts";

/** What the copy needs to know of a file or directory at the beamline to see that it changed. */
export interface SourceFacts {
  kind: "file" | "directory";
  size: number;
  mtimeMs: number;
  inode: number;
  readers: Readers;
  /** Of a file's copy; the most that a directory's may have. */
  mode: number;
}

/** What the copy put on the core file system: by its path below the beamtime's root, as it was at the beamline. */
export type Manifest = ReadonlyMap<string, SourceFacts>;

/** What was just seen at the beamline, path by path; `null` where there is nothing any more. */
export type Seen = ReadonlyMap<string, SourceFacts | null>;

export type Step =
  | { do: "make-directory"; path: string; facts: SourceFacts }
  | { do: "set-rights"; path: string; facts: SourceFacts }
  | { do: "rename"; from: string; to: string; facts: SourceFacts }
  | { do: "copy"; path: string; facts: SourceFacts }
  | { do: "remove"; path: string };

/**
 * The steps, in order, that make the core file system agree with what was seen. It removes nothing but what is in
 * the manifest, so nothing that a job wrote there. A file that moved is moved, not copied again. What has been closed
 * at the beamline comes before what takes time.
 */
export function planMirror(manifest: Manifest, seen: Seen): Step[] {
  // Most changes are new files, and the manifest is long.
  const isOneGone = [...seen].some(([path, facts]) => {
    return facts === null || (manifest.has(path) && isGone(path, manifest, seen));
  });
  const gone = isOneGone ? [...manifest.keys()].filter((path) => isGone(path, manifest, seen)) : [];
  // A file whose name something else has taken is not moved: by then the new thing is there.
  const movable = gone.filter((path) => manifest.get(path)?.kind === "file" && seen.get(path) == null);
  const goneFiles = new Map(movable.map((path) => [fingerprint(manifest.get(path)), path]));
  const rights: Step[] = [];
  const makes: Step[] = [];
  const renames: Step[] = [];
  const copies: Step[] = [];
  const renamed = new Set<string>();
  for (const [path, facts] of [...seen].sort(byPath)) {
    const before = manifest.get(path);
    if (facts === null || !hasChanged(before, facts)) continue;
    if (before?.kind === facts.kind && isSameContent(before, facts)) {
      rights.push({ do: "set-rights", path, facts });
      continue;
    }
    const from = goneFiles.get(fingerprint(facts));
    if (facts.kind === "directory") makes.push({ do: "make-directory", path, facts });
    else if (before === undefined && from !== undefined && !renamed.has(from)) {
      renamed.add(from);
      renames.push({ do: "rename", from, to: path, facts });
    } else copies.push({ do: "copy", path, facts });
  }
  const removes = gone
    .filter((path) => !renamed.has(path))
    .sort()
    // What lies in a directory goes before the directory.
    .reverse()
    .map((path): Step => ({ do: "remove", path }));
  // A file in place of a directory, or the other way round, needs the old one out of its way.
  const isReplaced = (step: Step) => step.do === "remove" && seen.get(step.path) != null;
  const replaced = removes.filter(isReplaced);
  const others = removes.filter((step) => !isReplaced(step));
  return [...replaced, ...rights, ...makes, ...renames, ...others, ...copies];
}

export function hasChanged(before: SourceFacts | undefined, now: SourceFacts): boolean {
  if (before?.kind !== now.kind || before.mode !== now.mode || before.readers !== now.readers) return true;
  return now.kind === "file" && (before.size !== now.size || before.mtimeMs !== now.mtimeMs);
}

/** Another file's rights, even if it has the same size and time, say nothing of what was copied. */
function isSameContent(before: SourceFacts, now: SourceFacts): boolean {
  return now.kind === "directory" || fingerprint(before) === fingerprint(now);
}

/** True if it is gone itself, has become something else, or lies in a directory that did. */
function isGone(path: string, manifest: Manifest, seen: Seen): boolean {
  const now = seen.get(path);
  if (now === null || (now !== undefined && now.kind !== manifest.get(path)?.kind)) return true;
  const end = path.lastIndexOf("/");
  return now === undefined && end > 0 && isGone(path.slice(0, end), manifest, seen);
}

/** Files of the same fingerprint are one and the same file, under whatever name. */
function fingerprint(facts: SourceFacts | undefined): string {
  return facts === undefined ? "" : `${facts.inode} ${facts.size} ${facts.mtimeMs}`;
}

function byPath([left]: [string, unknown], [right]: [string, unknown]): number {
  return left < right ? -1 : 1;
}
