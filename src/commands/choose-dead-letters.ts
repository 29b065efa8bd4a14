import type { DeadLetters } from "../broker/dead-letters.ts";
import { MentoError } from "../errors.ts";
import type { DeadLetter } from "../messages/dead-letter.ts";

/** A shorter beginning of an id is more likely a mistake. */
const SHORTEST_BEGINNING = 4;

/**
 * Reads all letters and keeps those of the ids; a letter can be meant by its id's beginning, and an id can have several.
 *
 * @throws MentoError `dead-letter-unknown` if one of the ids has none, or the beginnings of several letters' fit it
 */
export async function chooseDeadLetters(
  deadLetters: Pick<DeadLetters, "read" | "keep">,
  ids: readonly string[],
  queue: string,
): Promise<DeadLetter[]> {
  const kept: DeadLetter[] = [];
  for await (const deadLetter of deadLetters.read()) {
    const { id } = deadLetter.cause;
    if (!ids.some((wanted) => id === wanted || isBeginning(wanted, id))) continue;
    deadLetters.keep(deadLetter);
    kept.push(deadLetter);
  }
  const chosen = new Set(ids.flatMap((wanted) => meantBy(wanted, kept, queue)));
  return kept.filter(({ cause }) => chosen.has(cause.id));
}

/** The one id that is meant. */
function meantBy(wanted: string, deadLetters: readonly DeadLetter[], queue: string): string {
  const ids = new Set(deadLetters.map(({ cause }) => cause.id));
  if (ids.has(wanted)) return wanted;
  const [found, ...others] = [...ids].filter((id) => isBeginning(wanted, id));
  if (found !== undefined && others.length === 0) return found;
  throw new MentoError({
    code: "dead-letter-unknown",
    message:
      found === undefined
        ? `There is no dead letter ${wanted} on ${queue}.`
        : `${others.length + 1} dead letters on ${queue} have ids that begin with ${wanted}.`,
    hint: `\`mento dead list\` shows the ids; the first ${SHORTEST_BEGINNING} or more characters do if no other id begins so.`,
  });
}

function isBeginning(wanted: string, id: string): boolean {
  return wanted.length >= SHORTEST_BEGINNING && id.startsWith(wanted);
}
