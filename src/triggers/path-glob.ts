/** Takes one character; then it goes on, or stays where it is if it may take more. */
interface Take {
  takes: (char: string) => boolean;
  isRepeated: boolean;
}

/** Takes nothing, and goes on at each of these places. */
interface Fork {
  to: number[];
}

const isAny = () => true;
const isInFolder = (char: string) => char !== "/";

/**
 * Whether a path fits a glob: the same language as in jobs/glob.ts, and `!` before all of it for what does not fit. All
 * ways of fitting are followed at once, character by character: no text can make that slow, as it can for a regular
 * expression.
 */
export function compilePathGlob(glob: string): (path: string) => boolean {
  if (glob.startsWith("!")) {
    const fits = compilePathGlob(glob.slice(1));
    return (path) => !fits(path);
  }
  const steps = stepsOf(glob);
  return (path) => {
    const seen = new Array<number>(steps.length + 1).fill(-1);
    let [here, next]: [number[], number[]] = [[], []];
    const reach = (at: number, position: number, places: number[]) => {
      if (seen[at] === position) return;
      seen[at] = position;
      const step = steps[at];
      if (step !== undefined && "to" in step) {
        for (const one of step.to) reach(one, position, places);
        return;
      }
      places.push(at);
      if (step?.isRepeated === true) reach(at + 1, position, places);
    };
    let position = 0;
    reach(0, position, here);
    for (const char of path) {
      position += 1;
      next.length = 0;
      for (const at of here) {
        const step = steps[at];
        if (step === undefined || "to" in step || !step.takes(char)) continue;
        reach(step.isRepeated ? at : at + 1, position, next);
      }
      if (next.length === 0) return false;
      [here, next] = [next, here];
    }
    return here.includes(steps.length);
  };
}

function stepsOf(glob: string): (Take | Fork)[] {
  const steps: (Take | Fork)[] = [];
  const take = (takes: Take["takes"], isRepeated = false) => steps.push({ takes, isRepeated });
  const plain = (wanted: string) => take((char) => char === wanted);
  /** Of each open group, where its alternatives begin and where those that are whole go on. */
  const groups: { begins: Fork; ends: Fork[] }[] = [];
  const endAlternative = ({ ends }: { ends: Fork[] }) => {
    const end = { to: [] };
    ends.push(end);
    steps.push(end);
  };
  const closeGroup = (group: (typeof groups)[number]) => {
    for (const end of group.ends) end.to.push(steps.length);
  };
  const characters = Array.from(glob);
  for (let at = 0; at < characters.length; at++) {
    const char = characters[at] ?? "";
    const rest = characters.slice(at).join("");
    const [set] = SET.exec(rest) ?? [];
    const group = groups.at(-1);
    if (rest.startsWith("**/")) {
      steps.push({ to: [steps.length + 1, steps.length + 3] });
      take(isAny, true);
      plain("/");
      at += 2;
    } else if (rest.startsWith("**")) {
      take(isAny, true);
      at += 1;
    } else if (char === "*") take(isInFolder, true);
    else if (char === "?") take(isInFolder);
    else if (set !== undefined) {
      take(setOf(set));
      at += Array.from(set).length - 1;
    } else if (char === "{" && rest.includes("}")) {
      const begins = { to: [steps.length + 1] };
      groups.push({ begins, ends: [] });
      steps.push(begins);
    } else if (char === "}" && group !== undefined) {
      closeGroup(group);
      groups.pop();
    } else if (char === "," && group !== undefined) {
      endAlternative(group);
      group.begins.to.push(steps.length);
    } else if (char === "\\" && at + 1 < characters.length) {
      at += 1;
      plain(characters[at] ?? "");
    } else plain(char);
  }
  for (const group of groups.reverse()) closeGroup(group);
  return steps;
}

const SET = /^\[[!^]?\]?[^\]/]*\]/;

/** `[a-z_]`, `[!0-9]`: one character, never a slash. */
function setOf(set: string): (char: string) => boolean {
  const isNegated = /^\[[!^]/.test(set);
  const inside = Array.from(set).slice(isNegated ? 2 : 1, -1);
  const ranges: [from: string, to: string][] = [];
  while (inside.length > 0) {
    const [from = "", dash, to] = inside;
    const isRange = dash === "-" && to !== undefined;
    ranges.push([from, isRange ? to : from]);
    inside.splice(0, isRange ? 3 : 1);
  }
  return (char) => char !== "/" && ranges.some(([from, to]) => isBetween(char, from, to)) !== isNegated;
}

function isBetween(char: string, from: string, to: string): boolean {
  const [point = 0, low = 0, high = 0] = [char, from, to].map((one) => one.codePointAt(0));
  return point >= low && point <= high;
}
