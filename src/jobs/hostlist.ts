import { isIP } from "node:net";

/** Slurm's own limit is 64 k; beyond it something else than a list of nodes was given. */
const MAX_HOSTS = 65_536;
/** Slurm's limit of dimensions (HIGHEST_DIMENSIONS). */
const MOST_BRACKETS = 5;

/**
 * Slurm's short form of node names, `max-p11-[001-003,007],max-wn001`, as a list (scontrol(1), `show hostnames`).
 * What is not of that form is taken as it stands. `(null)` and the empty text are no nodes.
 */
export function expandHostlist(text: string): string[] {
  if (text === "" || text === "(null)") return [];
  const hosts: string[] = [];
  for (const one of splitOutsideBrackets(text)) {
    for (const host of expandOne(one, MOST_BRACKETS)) {
      if (hosts.length >= MAX_HOSTS) return hosts;
      hosts.push(host);
    }
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

function* expandOne(text: string, mostBrackets: number): Generator<string> {
  const [, before, ranges, after] = /^([^[\]]*)\[([^[\]]+)\](.*)$/.exec(text) ?? [];
  const isList = ranges?.split(",").every((range) => /^\d{1,9}(-\d{1,9})?$/.test(range)) === true;
  if (!isList || before === undefined || after === undefined || mostBrackets === 0) {
    yield text;
    return;
  }
  for (const range of ranges.split(",")) {
    const [first = "", last = first] = range.split("-");
    for (let number = Number(first); number <= Number(last); number++) {
      const digits = String(number).padStart(first.length, "0");
      for (const rest of expandOne(after, mostBrackets - 1)) yield before + digits + rest;
    }
  }
}
