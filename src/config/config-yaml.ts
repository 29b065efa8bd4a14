import {
  isMap,
  isNode,
  isScalar,
  isSeq,
  Lexer,
  LineCounter,
  parseDocument,
  Parser,
  visit,
  type Node,
  type YAMLError,
  type YAMLMap,
} from "yaml";

/** One mistake in a configuration. `line` and `column` count from 1; null if it is not in the file, or of the whole line. */
export interface ConfigMistake {
  line: number | null;
  column: number | null;
  place: string;
  message: string;
}

export interface ReadYaml {
  value: unknown;
  mistakes: [];
  /** Where the deepest part of the path stands that the text has: its key, where there is one. */
  placeOf: (path: readonly PropertyKey[]) => { line: number; column: number };
}

/** More than a thousand triggers take. What reads and checks it takes seconds at most. */
export const LARGEST_CONFIG = 1024 * 1024;
/** No configuration is nested so deeply. What builds values of it is recursive: at a stack's end V8 can end the process. */
const DEEPEST = 200;
const MOST_ALIASES = 5_000;

/** Reads a text as YAML whose values are those of JSON; or says what it is that is none. */
export function readYaml(text: string): ReadYaml | { placeOf?: undefined; mistakes: ConfigMistake[] } {
  const unfit = textMistake(text) ?? tooDeep(text);
  if (unfit !== undefined) return { mistakes: [unfit] };
  const lines = new LineCounter();
  // Whether keys are unique is found out below, in a time that does not grow with the square of their number.
  const options = { lineCounter: lines, prettyErrors: false, logLevel: "error", uniqueKeys: false } as const;
  const document = parseDocument(text, options);
  const lineAt = (offset = 0): number => lines.linePos(offset).line;
  const mistakes = [...document.errors, ...document.warnings]
    .filter(({ code }) => code !== "TAG_RESOLVE_FAILED")
    .map((error) => mistakeAt(lineAt(error.pos[0]), wordsFor(error)));
  const anchors = new Map<string, Node>();
  const keys = new Map<YAMLMap, Map<string, YAMLMap["items"][number]>>();
  let aliases = 0;
  let lastAlias = 1;
  visit(document, {
    Node: (_, node) => {
      const line = lineAt(node.range?.[0]);
      const { anchor } = node as { anchor?: string };
      if (anchor !== undefined) anchors.set(anchor, node);
      const tag = shortTag(node.tag);
      if (tag !== undefined && !PLAIN_TAGS.test(tag)) {
        mistakes.push(mistakeAt(line, `${tag} has no meaning here: leave it out`));
      } else if (isScalar(node) && typeof node.value === "string" && node.value.includes("\0")) {
        mistakes.push(mistakeAt(line, noText("\0")));
      }
      if (isMap(node)) keys.set(node, keysOf(node, lineAt, mistakes));
    },
    Alias: (_, alias, ancestors) => {
      lastAlias = lineAt(alias.range?.[0]);
      const named = anchors.get(alias.source);
      if (++aliases > MOST_ALIASES) {
        mistakes.push(
          mistakeAt(lastAlias, `more than ${MOST_ALIASES} aliases: write out what they stand for`),
        );
        return visit.BREAK;
      }
      if (named === undefined) {
        mistakes.push(mistakeAt(lastAlias, `*${alias.source} begins with *: put it in quotes`));
      } else if (ancestors.includes(named)) {
        mistakes.push(mistakeAt(lastAlias, `*${alias.source} stands inside of what it stands for`));
      }
      return undefined;
    },
  });
  if (mistakes.length > 0) return { mistakes: mistakes.sort((a, b) => (a.line ?? 0) - (b.line ?? 0)) };
  try {
    const value = document.toJS({ maxAliasCount: MOST_ALIASES }) as unknown;
    return { value, mistakes: [], placeOf };
  } catch (error) {
    if (!(error instanceof ReferenceError)) throw error;
    const message = "its aliases stand for too much: write out what they stand for";
    return { mistakes: [mistakeAt(lastAlias, message)] };
  }

  function placeOf(path: readonly PropertyKey[]): { line: number; column: number } {
    let offset = 0;
    let node: unknown = document.contents;
    for (const step of path) {
      if (isMap(node)) {
        const pair = keys.get(node)?.get(String(step));
        if (pair === undefined) break;
        if (isNode(pair.key)) offset = pair.key.range?.[0] ?? offset;
        node = pair.value;
      } else if (isSeq(node)) {
        node = node.items[Number(step)];
        if (isNode(node)) offset = node.range?.[0] ?? offset;
      } else break;
    }
    const { line, col: column } = lines.linePos(offset);
    return { line, column };
  }
}

function mistakeAt(line: number, message: string): ConfigMistake {
  return { line, column: null, place: "", message };
}

/** The characters that YAML takes (1.2.2, production 1), and lines that end as YAML's and its parser's. */
const NO_TEXT = /[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]|\ufffd|\r(?!\n)/u;

function textMistake(text: string): ConfigMistake | undefined {
  if (text.length > LARGEST_CONFIG) return mistakeAt(1, "is larger than 1 MiB: a configuration is not");
  const found = NO_TEXT.exec(text);
  if (found === null) return undefined;
  const line = text.slice(0, found.index).split("\n").length;
  return mistakeAt(line, noText(found[0]));
}

function noText(character: string): string {
  // What decodes UTF-8 puts it for all that is none.
  if (character === "\ufffd") return "is not UTF-8 text: save the file in that encoding";
  if (character === "\r") {
    return "a carriage return alone ends this line: save the file with line feeds (Unix)";
  }
  const code = (character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0");
  return `holds the character U+${code}, which no text has: remove it`;
}

/** Tokens are read without recursion. */
function tooDeep(text: string): ConfigMistake | undefined {
  const parser = new Parser();
  let line = 1;
  for (const lexeme of new Lexer().lex(text)) {
    Array.from(parser.next(lexeme));
    if (parser.stack.length > DEEPEST) return mistakeAt(line, "not YAML: nested too deeply");
    line += lexeme.split("\n").length - 1;
  }
  return undefined;
}

function wordsFor({ code, message }: YAMLError): string {
  if (code === "MULTIPLE_DOCS") return "a second document begins here (---): a configuration is one";
  if (code === "TAB_AS_INDENT") return "a tab indents this line: use spaces";
  return `not YAML: ${message}`;
}

/** Values that are those of JSON, whether or not a tag says so. */
const PLAIN_TAGS = /^!(!(str|int|float|bool|null|map|seq))?$/;

function shortTag(tag: string | undefined): string | undefined {
  return tag?.replace("tag:yaml.org,2002:", "!!");
}

function keysOf(map: YAMLMap, lineAt: (offset?: number) => number, mistakes: ConfigMistake[]) {
  const keys = new Map<string, YAMLMap["items"][number]>();
  for (const pair of map.items) {
    const name = String(pair.key);
    const first = keys.get(name);
    if (first === undefined) keys.set(name, pair);
    else {
      const line = isNode(first.key) ? lineAt(first.key.range?.[0]) : 1;
      mistakes.push({
        line: isNode(pair.key) ? lineAt(pair.key.range?.[0]) : line,
        column: null,
        place: name,
        message: `stands on line ${line} already: keep one of them`,
      });
    }
  }
  return keys;
}
