/**
 * Text from a message as it can be shown: what could move the cursor, colour the terminal or turn the line around is
 * written `\u{…}`.
 */
export function plainText(text: string): string {
  return text.replace(/(?![\n\t])[\p{Cc}\p{Cf}\u2028\u2029]|\p{Cs}/gu, escaped);
}

/** The same on one line, cut after so many characters. */
export function plainLine(text: string, longest = Infinity): string {
  const line = plainText(text.replace(/\s+/g, " ").trim());
  return line.length <= longest ? line : `${line.slice(0, longest)}…`;
}

function escaped(character: string): string {
  return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`;
}
