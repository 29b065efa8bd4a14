/** More jobs, nodes and reservations than any account is told of. */
const MOST_LINES = 65_536;
/** A line of an answer is a job with its directory and nodes, or a reservation with its nodes and users. */
const LONGEST_LINE = 64 * 1024;

/**
 * The lines of what Slurm's programs have printed on a node. An account can put programs of its own in their place, which
 * print anything: what is behind such a length of a line, or such a number of lines, is not read.
 */
export function* answerLines(text: string): Generator<string, void, undefined> {
  let at = 0;
  for (let count = 0; count < MOST_LINES && at < text.length; count++) {
    const end = text.indexOf("\n", at);
    const next = end < 0 ? text.length : end;
    yield text.slice(at, Math.min(next, at + LONGEST_LINE));
    at = next + 1;
  }
}

const NEW_LINE = 0x0a;

/**
 * Lines that begin with a mark of ours and a space: what else stands there is skipped, whatever it is. They may be as long
 * as the content of a file, which the command that prints them has limited, and are not text of any encoding.
 */
export function* markedLines(output: Buffer, mark: string): Generator<string, void, undefined> {
  const begin = `${mark} `;
  let at = output.indexOf(begin);
  for (let count = 0; count < MOST_LINES && at >= 0; count++) {
    const end = output.indexOf(NEW_LINE, at);
    if (end < 0) return;
    if (at === 0 || output[at - 1] === NEW_LINE) yield output.toString("latin1", at, end);
    at = output.indexOf(begin, end);
  }
}

/** The last lines of what a program has printed, where it says why it failed: it may print any number before. */
export function lastLines(text: string): string[] {
  return text.slice(-LONGEST_LINE).trim().split("\n");
}

/** Fields of a line, each ended by a mark; so many at most, of which the last has all that is left. */
export function fieldsOf(line: string, mark: string, most: number): string[] {
  const fields: string[] = [];
  let at = 0;
  while (fields.length < most - 1) {
    const end = line.indexOf(mark, at);
    if (end < 0) break;
    fields.push(line.slice(at, end));
    at = end + mark.length;
  }
  fields.push(line.slice(at));
  return fields;
}
