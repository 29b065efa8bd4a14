import { isIP } from "node:net";

/** Slurm's own limit is 64 k; beyond it something else than a list of nodes was given. */
const MAX_HOSTS = 65_536;
/** Slurm's limit of dimensions (HIGHEST_DIMENSIONS). */
const MOST_BRACKETS = 5;
/** Of the text around the brackets: no host's name is longer. */
const LONGEST_NAME = 253;

/**
 * Slurm's short form of node names, `max-p11-[001-003,007],max-wn001`, as a list (scontrol(1), `show hostnames`).
 * What is not of that form is taken as it stands. `(null)` and the empty text are no nodes.
 *
 * `most`: how many are listed at most; by its name, for a callback's second argument is another number.
 */
export function expandHostlist(text: string, { most = MAX_HOSTS } = {}): string[] {
  if (text === "" || text === "(null)") return [];
  const hosts: string[] = [];
  for (const one of splitOutsideBrackets(text)) {
    if (hosts.length >= most) break;
    for (const host of expandOne(one, MOST_BRACKETS, most - hosts.length)) hosts.push(host);
  }
  return hosts;
}

/**
 * Whether a text is a host's name by the rules of DNS (RFC 1123, and `_`, which some sites have), or an IP address: nothing
 * else may come near ssh, where a name that begins with `-` would be an option.
 */
export function isHostName(text: string): boolean {
  if (isIP(text) !== 0) return !text.includes("%");
  return text.length <= 253 && text.split(".").every((label) => LABEL.test(label));
}

const LABEL = /^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/;

function splitOutsideBrackets(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let begin = 0;
  for (let place = 0; place <= text.length; place++) {
    const character = text[place];
    if (character === "[") depth += 1;
    if (character === "]") depth -= 1;
    if (character !== undefined && (character !== "," || depth !== 0)) continue;
    parts.push(text.slice(begin, place).trim());
    begin = place + 1;
  }
  return parts.filter((part) => part !== "");
}

function expandOne(text: string, mostBrackets: number, most: number): string[] {
  const [, before = "", list = "", after = ""] = /^([^[\]]*)\[([^[\]]+)\](.*)$/.exec(text) ?? [];
  const ranges = list.split(",").map(rangeOf);
  const isNamed = before.length + after.length <= LONGEST_NAME;
  if (mostBrackets === 0 || !isNamed || ranges.includes(undefined)) return [text];
  const rests = after === "" ? [""] : expandOne(after, mostBrackets - 1, most);
  const hosts: string[] = [];
  for (const { first, last, width } of ranges.filter((range) => range !== undefined)) {
    for (let number = first; number <= last; number++) {
      const digits = String(number).padStart(width, "0");
      for (const rest of rests) {
        if (hosts.length >= most) return hosts;
        hosts.push(before + digits + rest);
      }
    }
  }
  return hosts;
}

/** undefined: it is none, or has nothing in it. */
function rangeOf(text: string): { first: number; last: number; width: number } | undefined {
  const [, first, last = first] = /^(\d{1,9})(?:-(\d{1,9}))?$/.exec(text) ?? [];
  if (first === undefined || Number(last) < Number(first)) return undefined;
  return { first: Number(first), last: Number(last), width: first.length };
}
