/** Slurm's own limit is 64 k; beyond it something else than a list of nodes was given. */
const MAX_HOSTS = 65_536;

/**
 * Slurm's short form of node names, `max-p11-[001-003,007],max-wn001`, as a list (scontrol(1), `show hostnames`).
 * What is not of that form is taken as it stands. `(null)` and the empty text are no nodes.
 */
export function expandHostlist(text: string): string[] {
  if (text === "" || text === "(null)") return [];
  const hosts: string[] = [];
  for (const one of splitOutsideBrackets(text)) {
    for (const host of expandOne(one)) {
      if (hosts.length >= MAX_HOSTS) return hosts;
      hosts.push(host);
    }
  }
  return hosts;
}

function splitOutsideBrackets(text: string): string[] {
  const parts = [""];
  let depth = 0;
  for (const character of text) {
    if (character === "[") depth += 1;
    if (character === "]") depth -= 1;
    if (character === "," && depth === 0) parts.push("");
    else parts.push((parts.pop() ?? "") + character);
  }
  return parts.map((part) => part.trim()).filter((part) => part !== "");
}

function* expandOne(text: string): Generator<string> {
  const [, before, ranges, after] = /^([^[\]]*)\[([\d,-]+)\](.*)$/.exec(text) ?? [];
  if (before === undefined || ranges === undefined || after === undefined) {
    yield text;
    return;
  }
  for (const range of ranges.split(",")) {
    const [first = "", last = first] = range.split("-");
    for (let number = Number(first); number <= Number(last); number++) {
      const digits = String(number).padStart(first.length, "0");
      for (const rest of expandOne(after)) yield before + digits + rest;
    }
  }
}
