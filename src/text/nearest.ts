/** Of the known words the one that was probably meant: mistyped by a letter or two, or not written to its end. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const allowed = Math.min(2, Math.ceil(word.length / 3));
  const far = (one: string) => distance(one.toLowerCase(), word.toLowerCase());
  const [mistyped] = known.filter((one) => far(one) <= allowed).sort((a, b) => far(a) - far(b));
  return mistyped ?? (word.length < 4 ? undefined : known.find((one) => one.startsWith(word)));
}

/** `; did you mean X?`, or the list of what is known. */
export function meant(word: string, known: readonly string[]): string {
  const near = nearest(word, known);
  if (near !== undefined) return `; did you mean ${near}?`;
  return known.length === 0 ? "" : `; known are ${known.join(", ")}`;
}

/** How many letters must be put in, left out, changed or swapped with the next (Damerau and Levenshtein). */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const isSwapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const swap = isSwapped ? (before[j - 2] ?? 0) + 1 : Infinity;
      next.push(Math.min(change, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, swap));
    }
    [before, row] = [row, next];
  }
  return row[b.length] ?? 0;
}
