/** How a command lays out its lines: the terminal's width, its colours, its characters. */
export interface Layout {
  /** Columns; Infinity: nothing is broken. */
  width: number;
  hasColour: boolean;
  isUtf8: boolean;
}

const IN_A_PIPE = 80;
const WIDEST = 120;

export function layoutOf(
  { isTTY, columns }: { isTTY?: boolean; columns?: number },
  env: Readonly<Record<string, string | undefined>>,
  isWide = false,
): Layout {
  const isTerminal = isTTY === true;
  const width = isWide ? Infinity : Math.min(isTerminal ? (columns ?? IN_A_PIPE) : IN_A_PIPE, WIDEST);
  const locale = [env["LC_ALL"], env["LC_CTYPE"], env["LANG"]].find((one) => one !== undefined && one !== "");
  return {
    width: Math.max(40, width),
    hasColour: isTerminal && !env["NO_COLOR"] && env["TERM"] !== "dumb",
    // Where nothing is said, as in a container, a terminal of today shows them.
    isUtf8: locale === undefined || /utf-?8/i.test(locale),
  };
}

/** Lines of at most so many characters, broken at spaces; each but the first begins with the indent. */
export function wrapped(text: string, width: number, indent = ""): string[] {
  const lines: string[] = [];
  const [lead = ""] = /^ */.exec(text) ?? [];
  let line = "";
  for (const word of text.slice(lead.length).split(" ")) {
    const start = lines.length === 0 ? lead : indent;
    if (line !== "" && start.length + line.length + 1 + word.length > width) {
      lines.push(start + line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, (lines.length === 0 ? lead : indent) + line];
}

/** A name of at most so many characters: what stands before its last number goes first, number and extension stay. */
export function shortName(name: string, most: number): string {
  return name.length <= most ? name : `…${name.slice(name.length - most + 1)}`;
}

/** At most so many characters, cut at the end. */
export function shortText(text: string, most: number): string {
  return text.length <= most ? text : `${text.slice(0, Math.max(0, most - 1))}…`;
}
