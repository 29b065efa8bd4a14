/** What keeps a glob from meaning what it says, or undefined. A backslash makes the next character plain. */
export function globMistake(glob: string): string | undefined {
  const closing = { "[": "]", "{": "}" } as const;
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
  if (left !== undefined) {
    return `the glob ${glob} has a ${left} without its ${closing[left]}; \\${left} is the character itself`;
  }
  const found = NOT_OURS.find(({ form }) => form.test(glob));
  return found === undefined
    ? undefined
    : `the glob ${glob} has ${found.form.exec(glob)?.[0] ?? ""}, which means nothing here; ${found.instead}`;
}

/** What other programs know, and ours takes for plain text. */
const NOT_OURS = [
  { form: /(?<!\\)\{(-?\d+\.\.-?\d+|[a-z]\.\.[a-z])(\.\.-?\d+)?\}/i, instead: "write {1,2,3}" },
  { form: /\[[!^]?\[:\w*:\]/, instead: "write [0-9], [a-z]" },
  { form: /[@+?*]\([^)]*\|[^)]*\)/, instead: "write {a,b}" },
  { form: /!\([^)]*\)/, instead: "write what does not fit under unless" },
];

/** Globs for absolute paths, of which one must fit. */
export function pathGlobsMistake(globs: readonly string[]): string | undefined {
  const odd = globs.find((glob) => !canBeAbsolute(glob.replace(/^!/, "")));
  if (odd !== undefined) {
    const [, not = "", rest = ""] = /^(!?)(?:\.\/)?(.*)$/s.exec(odd) ?? [];
    const isMixed = /^\{(.*,)?(\/|\*\*)/s.test(rest);
    const instead = isMixed ? "begin each of its alternatives with / or **/" : `write ${not}**/${rest}`;
    return `the glob ${odd} can never fit: paths are absolute; ${instead}`;
  }
  const negated = globs.length > 1 ? globs.find((glob) => glob.startsWith("!")) : undefined;
  if (negated === undefined) return undefined;
  return `the glob ${negated} in a list fits all but ${negated.slice(1)}, and one that fits is enough; write it under unless`;
}

/** Every alternative of a group at its beginning must be able to. */
function canBeAbsolute(glob: string): boolean {
  if (!glob.startsWith("{")) return /^(\\?\/|\*\*)/.test(glob);
  let [depth, from] = [0, 1];
  const alternatives: string[] = [];
  for (let at = 0; at < glob.length; at++) {
    const char = glob[at];
    if (char === "\\") at += 1;
    else if (char === "{") depth += 1;
    else if (char === "}") depth -= 1;
    if ((char === "," && depth === 1) || depth === 0) {
      alternatives.push(glob.slice(from, at));
      from = at + 1;
    }
    if (depth === 0) return alternatives.every((one) => canBeAbsolute(one + glob.slice(at + 1)));
  }
  return true;
}
