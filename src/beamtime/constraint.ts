/**
 * Whether a node with these features may be one of those that a Slurm constraint asks for (sbatch(1), `--constraint`):
 * names joined by `&` (or `,`) and `|`, read from left to right, with parentheses, a leading `!`, and counts (`gpu*2`).
 * In brackets, and where names have counts, different nodes may answer for different names: there each name is enough.
 *
 * undefined if the text is not understood; then only Slurm itself can tell.
 */
export function fitsConstraint(constraint: string, features: readonly string[]): boolean | undefined {
  if (constraint.length > LONGEST) return undefined;
  const tokens = constraint.match(TOKEN) ?? [];
  if (tokens.join("") !== constraint.replace(/\s+/g, "")) return undefined;
  const has = new Set(features);
  const eachEnough = constraint.includes("*") || constraint.includes("[");
  let at = 0;

  const expression = (): boolean | undefined => {
    let value = term();
    while (value !== undefined && isOperator(tokens[at])) {
      const operator = tokens[at++];
      const next = term();
      if (next === undefined) return undefined;
      value = operator === "|" || eachEnough ? value || next : value && next;
    }
    return value;
  };
  const term = (): boolean | undefined => {
    const token = tokens[at++];
    if (token === "!") {
      const value = term();
      return value === undefined ? undefined : !value;
    }
    const closing = token === "(" ? ")" : token === "[" ? "]" : undefined;
    let value: boolean | undefined;
    if (closing !== undefined) {
      value = expression();
      if (tokens[at++] !== closing) return undefined;
    } else if (token !== undefined && NAME.test(token)) value = has.has(token);
    else return undefined;
    if (tokens[at]?.startsWith("*") === true) at += 1;
    return value;
  };

  const value = expression();
  return at === tokens.length ? value : undefined;
}

/** It is held against each node, and may be a user's own script's. */
const LONGEST = 1_000;
const TOKEN = /[&|,()[\]!]|\*\d+|[A-Za-z0-9_.=:/+-]+/g;
const NAME = /^[A-Za-z0-9_.=:/+-]+$/;

function isOperator(token: string | undefined): boolean {
  return token === "&" || token === "|" || token === ",";
}
