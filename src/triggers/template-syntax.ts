import { tryPlainJson } from "../messages/json.ts";
import { meant } from "../text/nearest.ts";

/** `{{ name | default("…") | join(",") }}`: one place of a template. */
export interface Placeholder {
  /** As it is written, for messages. */
  source: string;
  /** What it names; or the text that it stands for, `{{ "}}" }}`. */
  term: { name: string } | { text: string };
  default: string | number | boolean | undefined;
  join: string | undefined;
}

/** Literal text and places, in turn; or a sentence: why it is no template. */
export type ParsedTemplate = { parts: (string | Placeholder)[] } | { mistake: string };

/**
 * Templates fill single arguments of a program, never a command line, and nothing in them is computed: a place is a
 * name, perhaps with a default and a separator. What a value holds is never read as a template.
 */
export function parseTemplate(template: string): ParsedTemplate {
  const parts: (string | Placeholder)[] = [];
  let at = 0;
  for (;;) {
    const open = template.indexOf("{{", at);
    const stray = template.slice(at, open === -1 ? undefined : open).indexOf("}}");
    if (stray !== -1) return { mistake: 'has a }} without its {{; {{ "}}" }} is a plain }}' };
    if (open > at || (open === -1 && at < template.length)) {
      parts.push(template.slice(at, open === -1 ? undefined : open));
    }
    if (open === -1) return { parts };
    PLACE.lastIndex = open;
    const [source, inner = ""] = PLACE.exec(template) ?? [];
    if (source === undefined) return { mistake: 'has a {{ without its }}; {{ "{{" }} is a plain {{' };
    const placeholder = parsePlace(source, inner);
    if (typeof placeholder === "string") return { mistake: placeholder };
    parts.push(placeholder);
    at = open + source.length;
  }
}

const QUOTED = `"(?:[^"\\\\]|\\\\.)*"|'[^']*'`;
const PLACE = new RegExp(`\\{\\{((?:[^{}"']|${QUOTED})*)\\}\\}`, "suy");
const TERM = new RegExp(`^\\s*(${QUOTED}|[^\\s|"'()]+)\\s*`, "su");
const FILTER = new RegExp(`^\\|\\s*([A-Za-z]+)\\s*\\(\\s*(${QUOTED}|[^\\s"'()|]*)\\s*\\)\\s*`, "su");
const FILTERS = ["default", "join"];

/** A sentence if it is none. */
function parsePlace(source: string, inner: string): Placeholder | string {
  const [whole = "", word] = TERM.exec(inner) ?? [];
  if (word === undefined) return `${source} names nothing`;
  const quoted = /^["']/.test(word) ? literal(word) : undefined;
  if (/^["']/.test(word) && typeof quoted !== "string")
    return `${source} has a text that cannot be read: ${word}`;
  const placeholder: Placeholder = {
    source,
    term: typeof quoted === "string" ? { text: quoted } : { name: word },
    default: undefined,
    join: undefined,
  };
  let rest = inner.slice(whole.length);
  while (rest !== "") {
    const [taken, filter = "", argument = ""] = FILTER.exec(rest) ?? [];
    if (taken === undefined) {
      const [, name = ""] = /^\|\s*([A-Za-z]*)/.exec(rest) ?? [];
      if (FILTERS.includes(name))
        return `${source}: ${name} needs a value in parentheses, such as ${EXAMPLES[name] ?? ""}`;
      return name === ""
        ? `${source} must hold one name, and perhaps | default("…") or | join(",")`
        : `${source}: there is no ${name}${meant(name, FILTERS)}`;
    }
    const value = literal(argument);
    if (filter === "default" && value !== undefined) placeholder.default = value;
    else if (filter === "join" && typeof value === "string") placeholder.join = value;
    else if (!FILTERS.includes(filter)) return `${source}: there is no ${filter}${meant(filter, FILTERS)}`;
    else return `${source}: ${filter} needs ${NEEDS[filter] ?? ""}, such as ${EXAMPLES[filter] ?? ""}`;
    rest = rest.slice(taken.length);
  }
  return placeholder;
}

const EXAMPLES: Record<string, string> = { default: 'default("a.poni")', join: 'join(",")' };
const NEEDS: Record<string, string> = {
  default: "a text in quotes, a number, true or false",
  join: "a text in quotes",
};

/** A text in quotes, a number, true or false; undefined for anything else. */
function literal(word: string): string | number | boolean | undefined {
  if (word.startsWith("'")) return word.slice(1, -1);
  const value = tryPlainJson(word);
  return typeof value === "string" || typeof value === "number" || typeof value === "boolean"
    ? value
    : undefined;
}
