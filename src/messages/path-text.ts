import { posix } from "node:path";

/** Linux's PATH_MAX: what is longer is no file. */
export const LONGEST_PATH = 4096;

/**
 * A path without `.`, `..` and doubled slashes; empty for one that is longer than a file's can be, for which Node takes a
 * time that grows with the square of its length.
 */
export function normalPath(path: string): string {
  return path.length > LONGEST_PATH ? "" : posix.normalize(path);
}
