import { Misconfigured } from "../errors.ts";
import { shellWords } from "../jobs/shell-words.ts";

/**
 * A program and its arguments, in any of MENTO's forms: `["cmd"]`, `["cmd a b"]`, `["cmd", ["a", "b"]]`,
 * `["cmd", "a", "b"]`; nested lists are flattened.
 */
export type ArgumentList = string | readonly (string | number | ArgumentList)[];

/**
 * The words, literal. Only a list of a single text with spaces is split, as a shell would split it: quotes and
 * backslashes, but no variables or globs. Beside other arguments a text is one argument, whatever it holds.
 *
 * @throws Misconfigured `wrong-usage`
 */
export function argumentsOf(list: ArgumentList): [program: string, ...rest: string[]] {
  const flat = flatten(list);
  const [only = ""] = flat;
  const [program, ...rest] = flat.length === 1 && /\s/.test(only) ? split(only) : flat;
  if (program !== undefined && program !== "") return [program, ...rest];
  throw wrongList("The argument list names no program.");
}

function flatten(list: ArgumentList | number): string[] {
  return typeof list === "string" || typeof list === "number" ? [String(list)] : list.flatMap(flatten);
}

function split(text: string): string[] {
  try {
    return shellWords(text);
  } catch (error) {
    throw wrongList(`The command ${JSON.stringify(text)} has ${(error as Error).message}.`);
  }
}

function wrongList(message: string): Misconfigured {
  return new Misconfigured({
    code: "wrong-usage",
    message,
    hint: 'Give the program and its arguments each on its own: ["program", "a", "b"].',
  });
}
