import { posix } from "node:path";

/** Linux's PATH_MAX: what is longer is no file. */
export const LONGEST_PATH = 4096;
/** So often a path may go up: nobody's does, and Node's time for it grows with the square of their number. */
const MOST_STEPS_UP = 32;

/**
 * A path without `.`, `..` and doubled slashes; empty for one that is longer than a file's can be, or goes up more than 32
 * times.
 */
export function normalPath(path: string): string {
  if (path.length > LONGEST_PATH) return "";
  if (path.startsWith("/") && !path.includes("//") && !path.includes("/.")) return path;
  const stepsUp = path.split("/").filter((name) => name === "..").length;
  return stepsUp > MOST_STEPS_UP ? "" : posix.normalize(path);
}
