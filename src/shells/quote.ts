/**
 * One literal word for a POSIX shell: nothing in it has a meaning, whatever it holds but NUL, which no argument can.
 */
export function quote(word: string): string {
  return "'" + word.replaceAll("'", `'\\''`) + "'";
}

/** The bytes of the word that {@link quote} makes, without making it. */
export function quotedBytes(word: string): number {
  let quotes = 0;
  for (let at = word.indexOf("'"); at >= 0; at = word.indexOf("'", at + 1)) quotes += 1;
  return Buffer.byteLength(word) + 3 * quotes + 2;
}

export function quoteAll(words: readonly string[]): string {
  return words.map(quote).join(" ");
}
