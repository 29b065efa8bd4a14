import { localTime } from "../time/local.ts";
import { fileOf } from "./event-line.ts";
import { plainLine } from "../text/terminal.ts";

/** What is kept of one dead letter. */
interface Summarized {
  group: string | null;
  code: string | null;
  trigger: string | null;
  firstSeen: string | null;
  path: string | null;
}

/** Dead letters of one group with one code, and of one trigger if they say so. */
export interface DeadKind extends Pick<Summarized, "group" | "code" | "trigger"> {
  count: number;
  /** When workers first had the oldest and the newest; null if none says it. */
  oldest: string | null;
  newest: string | null;
  /** The data of the newest. */
  path: string | null;
}

/** The most frequent first. */
export function kindsOf(all: readonly Summarized[]): DeadKind[] {
  const kinds = new Map<string, DeadKind>();
  for (const { group, code, trigger, firstSeen, path } of all) {
    const key = JSON.stringify([group, code, trigger]);
    const known = kinds.get(key);
    const kind = known ?? { group, code, trigger, count: 0, oldest: firstSeen, newest: firstSeen, path };
    kind.count += 1;
    if (firstSeen !== null && (kind.oldest === null || firstSeen < kind.oldest)) kind.oldest = firstSeen;
    if (firstSeen !== null && (kind.newest === null || firstSeen >= kind.newest)) {
      kind.newest = firstSeen;
      kind.path = path;
    }
    kinds.set(key, kind);
  }
  return [...kinds.values()].sort((one, other) => other.count - one.count);
}

export function kindLine({ group, code, trigger, count, newest, path }: DeadKind): string {
  const whose = plainLine(trigger === null ? (group ?? "-") : `${group ?? "-"}/${trigger}`);
  const file = path === null ? "-" : fileOf([path]);
  return `${String(count).padStart(6)}  ${plainLine(code ?? "-")}  ${whose}  newest ${localTime(newest ?? "")}  ${file}`;
}
