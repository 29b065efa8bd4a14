import { posix } from "node:path";
import { arrayCommentOf, arraysOf, jobCommentOf } from "./directory.ts";

/**
 * Whether what is said of a Slurm id is said of our job, as itself or as a task of its array: another's may have the id by
 * now. Accounting often keeps no comments.
 */
export function isReportOn(
  { id, directory, array }: { id: string; directory: string; array: string | undefined },
  reported: { comment: string; directory: string },
): boolean {
  if (reported.comment === jobCommentOf(id) || reported.directory === directory) return true;
  if (array === undefined) return false;
  const folder = `${arraysOf(posix.dirname(directory))}/${array}`;
  return reported.comment === arrayCommentOf(array) || reported.directory === folder;
}
