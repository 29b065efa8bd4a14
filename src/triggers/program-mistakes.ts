import { codeIn, type Code } from "./code-in-run.ts";
import { parseTemplate } from "./template-syntax.ts";

/** For a `run` that is one text: what the list would be. undefined for anything else. */
export function listInsteadOf(input: unknown): string | undefined {
  if (typeof input !== "string") return undefined;
  const shell = SHELL_WORDS.test(input) ? "; there is no shell, so put a pipeline into a script" : "";
  const words = input.match(/(?:\{\{.*?\}\}|\S)+/g) ?? [];
  const written = words.map((word) => (/^[\w./-]+$/.test(word) ? word : JSON.stringify(word)));
  return `must be a list, each argument on its own: [${written.join(", ")}]${shell}`;
}

const SHELL_WORDS = /(^|\s)(\|\|?|&&?|;|\d?>>?(&\d)?|<)(\s|$)|;\s/;
const SHELL_WORD = /^(\|\|?|&&?|;|\d?>>?(&\d)?|<)$/;

interface ProgramMistake {
  /** In `run`. */
  place: number;
  message: string;
}

/** Arguments that only a shell would understand, and values that a shell would run as code: their places in `run`. */
export function programMistakes(run: readonly string[]): ProgramMistake[] {
  const [program = ""] = run;
  if (/\s(-|\/|\{\{)/.test(program)) {
    return [
      { place: 0, message: `is one program's name with spaces in it; ${listInsteadOf(program) ?? ""}` },
    ];
  }
  const code = codeIn(run);
  if (code !== null) return scriptMistakes(run, code);
  return run.flatMap((argument, place) =>
    SHELL_WORD.test(argument)
      ? [
          {
            place,
            message: `${argument} would be an argument of ${program}: there is no shell; put a pipeline into a script`,
          },
        ]
      : [],
  );
}

/** `[sh, -c, "… {{ path }} …"]`: whatever the value holds would be run. */
function scriptMistakes(run: readonly string[], { interpreter, isShell, places }: Code): ProgramMistake[] {
  return places.flatMap(({ place, flag }) => {
    const named = firstPlaceOf(run[place] ?? "");
    if (named === undefined) return [];
    const instead = isShell ? `"$1" in it, and ${interpreter} and the value` : "the value";
    const message = `${named} in a script after ${flag} would be run as code; give ${instead} as arguments after the script`;
    return [{ place, message }];
  });
}

/** `run: [bash]` with a template in `stdin`. */
export function inputMistake(run: readonly string[], stdin: string): string | undefined {
  const code = codeIn(run);
  const named = firstPlaceOf(stdin);
  if (code?.isReadFromInput !== true || named === undefined) return undefined;
  return `${named} in a script that ${code.interpreter} reads from its standard input would be run as code; put the script into a file, and give the value as an argument`;
}

/** As it is written; undefined if nothing in the text is filled in. */
function firstPlaceOf(template: string): string | undefined {
  const parsed = parseTemplate(template);
  const place = "parts" in parsed ? parsed.parts.find((part) => typeof part === "object") : undefined;
  return typeof place === "object" ? place.source : undefined;
}
