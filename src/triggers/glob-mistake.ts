/** What keeps a glob from meaning what it says, or undefined. A backslash makes the next character plain. */
export function globMistake(glob: string): string | undefined {
  const closing = { "[": "]", "{": "}", "(": ")" } as const;
  const open: (keyof typeof closing)[] = [];
  for (let at = 0; at < glob.length; at++) {
    const char = glob[at] ?? "";
    const inSet = open.at(-1) === "[";
    if (char === "\\") at += 1;
    else if (inSet && char !== "]") continue;
    else if (char in closing) open.push(char as keyof typeof closing);
    else if (char === closing[open.at(-1) ?? "["] && open.length > 0) open.pop();
  }
  const [left] = open;
  return left === undefined
    ? undefined
    : `the glob ${glob} has a ${left} without its ${closing[left]}; \\${left} is the character itself`;
}

/** Globs for absolute paths, of which one must fit. */
export function pathGlobsMistake(globs: readonly string[]): string | undefined {
  const odd = globs.find((glob) => /^(\.\/|[\w-])/.test(glob));
  if (odd !== undefined) {
    return `the glob ${odd} can never fit: paths are absolute; write **/${odd.replace(/^\.\//, "")}`;
  }
  const negated = globs.length > 1 ? globs.find((glob) => /^!(?!\()/.test(glob)) : undefined;
  if (negated === undefined) return undefined;
  return `the glob ${negated} in a list fits all but ${negated.slice(1)}, and one that fits is enough; write it under unless`;
}
