/**
 * A glob as a POSIX extended regular expression that fits a whole relative path, for `grep -E` on the node: `*` and `?`
 * stay in a folder, `**` crosses folders, `[a-z]`, `[!a-z]` and `{a,b}` as in a shell; a backslash makes the next
 * character plain.
 */
export function globToRegex(glob: string): string {
  let regex = "";
  let depth = 0;
  for (let at = 0; at < glob.length; at++) {
    const rest = glob.slice(at);
    const char = glob[at] ?? "";
    const [set] = /^\[[!^]?\]?[^\]/]*\]/.exec(rest) ?? [];
    if (rest.startsWith("**/")) {
      regex += "(.*/)?";
      at += 2;
    } else if (rest.startsWith("**")) {
      regex += ".*";
      at += 1;
    } else if (char === "*") regex += "[^/]*";
    else if (char === "?") regex += "[^/]";
    else if (set !== undefined) {
      // A folder's name ends at a slash, in a set of what it must not be as well.
      regex += set.replace(/^\[[!^](\]|-)?/, "[^$1/");
      at += set.length - 1;
    } else if (char === "{" && rest.includes("}")) {
      regex += "(";
      depth += 1;
    } else if (char === "}" && depth > 0) {
      regex += ")";
      depth -= 1;
    } else if (char === "," && depth > 0) regex += "|";
    else if (char === "\\" && rest.length > 1) {
      regex += plainRegex(glob[at + 1] ?? "");
      at += 1;
    } else regex += plainRegex(char);
  }
  return regex + ")".repeat(depth);
}

/** The expression that fits this text alone. */
export function plainRegex(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
