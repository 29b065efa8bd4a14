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
const SHELL = /^(\S*\/)?(sh|bash|dash|ksh|zsh|csh|tcsh|fish|(python|perl)[0-9.]*)$/;

/** Arguments that only a shell would understand, and values that a shell would run as code: their places in `run`. */
export function programMistakes(run: readonly string[]): { place: number; message: string }[] {
  const [program = ""] = run;
  if (/\s(-|\/|\{\{)/.test(program)) {
    return [
      { place: 0, message: `is one program's name with spaces in it; ${listInsteadOf(program) ?? ""}` },
    ];
  }
  const interpreter = run.findIndex((argument) => SHELL.test(argument));
  if (interpreter !== -1) return scriptMistakes(run, interpreter);
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
function scriptMistakes(run: readonly string[], interpreter: number): { place: number; message: string }[] {
  const flag = run.findIndex((argument, place) => place > interpreter && /^-[a-zA-Z]*[ce]$/.test(argument));
  const place = flag + 1;
  const script = flag === -1 ? undefined : run[place];
  if (script === undefined) return [];
  const parsed = parseTemplate(script);
  const named = "parts" in parsed ? parsed.parts.find((part) => typeof part === "object") : undefined;
  if (named === undefined || typeof named === "string") return [];
  const isShell = /sh$/.test(run[interpreter] ?? "");
  const instead = isShell ? `"$1" in it, and ${run[interpreter] ?? "sh"} and the value` : "the value";
  return [
    {
      place,
      message: `${named.source} in a script after ${run[flag] ?? "-c"} would be run as code; give ${instead} as arguments after the script`,
    },
  ];
}
