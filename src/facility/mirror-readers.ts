/** Who can reach something at the beamline and read it: everybody, one account (its number), or none that is known. */
export type Readers = "all" | "nobody" | number;

interface Owned {
  mode: number;
  uid: number;
}

const OTHERS_READ = 0o004;
const OTHERS_ENTER = 0o001;

/** @param way who can reach the directory that it lies in */
export function readersOfFile(way: Readers, file: Owned): Readers {
  return narrowed(way, file.uid, (file.mode & OTHERS_READ) !== 0);
}

/** Who can reach what lies in a directory. */
export function readersInside(way: Readers, directory: Owned): Readers {
  return narrowed(way, directory.uid, (directory.mode & OTHERS_ENTER) !== 0);
}

/**
 * What is closed at one place is its owner's alone. Another's in a closed directory is nobody's: who moved it there, or
 * gave it a second name there, may be somebody who may not read it.
 */
function narrowed(way: Readers, owner: number, isForAll: boolean): Readers {
  if (way === "all") return isForAll ? "all" : owner;
  return way === owner ? owner : "nobody";
}

/** The copy's rights. Its owner is another than the file's; only jobs' own files can be changed at the core. */
export function modeOfCopy(readers: Readers, { mode }: Owned): number {
  return readers === "all" ? (mode & 0o755) | 0o444 : (mode & 0o750) | 0o440;
}

/** The most that others may do with the directory's copy; the rest is as at the top. */
export function mostOfDirectory(readers: Readers, { mode }: Owned): number {
  if (readers !== "all") return 0o770;
  return (mode & OTHERS_READ) === 0 ? 0o773 : 0o777;
}
