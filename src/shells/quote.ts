/**
 * One literal word for a POSIX shell: nothing in it has a meaning, whatever it holds but NUL, which no argument can.
 */
export function quote(word: string): string {
  return "'" + word.replaceAll("'", `'\\''`) + "'";
}

export function quoteAll(words: readonly string[]): string {
  return words.map(quote).join(" ");
}
