/**
 * The words of a line, as a shell would split it, and nothing more: quotes and backslashes, but no variables, no globs, no
 * commands. A `#` that begins a word ends the line where comments are asked for.
 *
 * @throws SyntaxError for a quote without its other half
 */
export function shellWords(line: string, hasComments = false): string[] {
  const words: string[] = [];
  let word: string | undefined;
  let quoted: '"' | "'" | undefined;
  for (let at = 0; at < line.length; at++) {
    const char = line[at] ?? "";
    if (quoted === "'") {
      if (char === "'") quoted = undefined;
      else word = (word ?? "") + char;
    } else if (
      char === "\\" &&
      at + 1 < line.length &&
      (quoted === undefined || /["\\$`\n]/.test(line[at + 1] ?? ""))
    ) {
      at += 1;
      word = (word ?? "") + (line[at] ?? "");
    } else if (quoted === '"') {
      if (char === '"') quoted = undefined;
      else word = (word ?? "") + char;
    } else if (char === '"' || char === "'") {
      quoted = char;
      word ??= "";
    } else if (/[ \t\r\n]/.test(char)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if (char === "#" && hasComments && word === undefined) {
      break;
    } else word = (word ?? "") + char;
  }
  if (quoted !== undefined) throw new SyntaxError(`a ${quoted} without its other half`);
  if (word !== undefined) words.push(word);
  return words;
}
