import { Argument, Command, type Option } from "commander";
import { writeOutput } from "../text/terminal.ts";

const SHELLS = ["bash", "zsh", "fish"] as const;
type Shell = (typeof SHELLS)[number];

/** @param program has all commands, with their options */
export function completionCommand(program: () => Promise<Command>): Command {
  return new Command("completion")
    .addArgument(new Argument("<shell>", "which shell reads it").choices(SHELLS))
    .action(async (shell: Shell) => {
      writeOutput(`${scriptFor(shell, await program()).join("\n")}\n`);
    });
}

export function scriptFor(shell: Shell, program: Command): string[] {
  const commands = commandsIn(program);
  if (shell === "fish") return fishScript(commands);
  const script = bashScript(commands);
  // zsh runs completions that are written for bash.
  return shell === "bash" ? script : ["autoload -U +X bashcompinit && bashcompinit", ...script];
}

interface Described {
  /** Empty of the program itself. */
  path: string;
  command: Command;
}

function commandsIn(command: Command, path = ""): Described[] {
  const children = command.commands.flatMap((child) =>
    commandsIn(child, path === "" ? child.name() : `${path} ${child.name()}`),
  );
  return [{ path, command }, ...children];
}

const namesOf = ({ commands }: Command) => commands.flatMap((child) => [child.name(), ...child.aliases()]);
const flagsOf = ({ short, long }: Option) => [short, long].filter((flag) => flag != null);
const optionsOf = (command: Command) => command.createHelp().visibleOptions(command);
const takesValue = ({ required, optional }: Option) => required || optional;
const choicesOf = (command: Command) =>
  command.registeredArguments.flatMap(({ argChoices }) => argChoices ?? []);

/** Where nothing else is known, names of files: commands take paths. */
function bashScript(commands: readonly Described[]): string[] {
  const paths = commands.flatMap(({ path, command }) =>
    command.commands.flatMap((child) =>
      [child.name(), ...child.aliases()].map(
        (name) => `    "${path}/${name}") at="${join(path, child.name())}" ;;`,
      ),
    ),
  );
  const values = commands.flatMap(({ path, command }) =>
    optionsOf(command)
      .filter(takesValue)
      .flatMap((option) =>
        flagsOf(option).map(
          (flag) => `    "${path}/${flag}") words="${(option.argChoices ?? []).join(" ")}" ;;`,
        ),
      ),
  );
  const words = commands.map(({ path, command }) => {
    const flags = optionsOf(command).flatMap(flagsOf);
    return `    "${path}") words="${[...namesOf(command), ...choicesOf(command)].join(" ")}" flags="${flags.join(" ")}" ;;`;
  });
  return [
    "_mento() {",
    '  local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" at="" words="" flags="" i',
    "  for ((i = 1; i < COMP_CWORD; i++)); do",
    '    case "$at/${COMP_WORDS[i]}" in',
    ...paths,
    "    esac",
    "  done",
    '  case "$at/$prev" in',
    ...values,
    "    *)",
    '    case "$at" in',
    ...words,
    "    esac ;;",
    "  esac",
    '  [[ "$cur" == -* ]] && words="$flags"',
    '  COMPREPLY=($(compgen -W "$words" -- "$cur"))',
    "}",
    "complete -o default -F _mento mento",
  ];
}

function fishScript(commands: readonly Described[]): string[] {
  return commands.flatMap(({ path, command }) => {
    const seen = path.split(" ").filter(Boolean);
    const isHere = [
      ...seen.map((word) => `__fish_seen_subcommand_from ${word}`),
      ...(command.commands.length === 0
        ? []
        : [`not __fish_seen_subcommand_from ${namesOf(command).join(" ")}`]),
    ].join("; and ");
    const line = (rest: string) => `complete -c mento -n ${quoted(isHere)} ${rest}`;
    const subcommands = command.commands.flatMap((child) =>
      [child.name(), ...child.aliases()].map((name) =>
        line(`-f -a ${name} -d ${quoted(child.description())}`),
      ),
    );
    const options = optionsOf(command).map((option) => {
      const short = option.short == null ? "" : ` -s ${option.short.slice(1)}`;
      const long = option.long == null ? "" : ` -l ${option.long.slice(2)}`;
      const choices = option.argChoices === undefined ? "" : ` -f -a ${quoted(option.argChoices.join(" "))}`;
      const value = takesValue(option) ? ` -r${choices}` : "";
      return line(`${short}${long}${value} -d ${quoted(option.description)}`.trimStart());
    });
    const choices = choicesOf(command);
    return [
      ...subcommands,
      ...options,
      ...(choices.length === 0 ? [] : [line(`-f -a ${quoted(choices.join(" "))}`)]),
    ];
  });
}

const join = (path: string, name: string) => (path === "" ? name : `${path} ${name}`);

/** fish knows no other escapes in single quotes. */
function quoted(text: string): string {
  return `'${text.replace(/[\\']/g, "\\$&")}'`;
}
