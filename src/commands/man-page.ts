import type { Command } from "commander";
import { programVersion } from "../config/version.ts";
import { EXAMPLES } from "./examples.ts";

const EXIT_STATUS =
  "0: done. 1: what was asked for is not so, or failed. 2: called or configured wrongly. 3: a server is out of reach. " +
  "run and ssh end as their program does.";

/** The manual page of each command, by its file's name, such as `mento-dead-list.1`. */
export function manPages(program: Command): Map<string, string> {
  const pages = new Map<string, string>();
  const add = (command: Command, path: readonly string[]) => {
    pages.set(`${path.join("-")}.1`, pageOf(command, path));
    for (const child of command.commands) add(child, [...path, child.name()]);
  };
  add(program, [program.name()]);
  return pages;
}

function pageOf(command: Command, path: readonly string[]): string {
  const help = command.createHelp();
  const name = path.join("-");
  const commands = command.commands.map((child) => [
    `mento-${[...path.slice(1), child.name()].join("-")}(1)`,
    child.description(),
  ]);
  const options = help
    .visibleOptions(command)
    .map((option) => [option.flags, help.optionDescription(option)]);
  const terms = help
    .visibleArguments(command)
    .map((argument) => [argument.name(), help.argumentDescription(argument)]);
  const examples = EXAMPLES[path.slice(1).join(" ")] ?? [];
  const lines = [
    `.TH ${quoted(name.toUpperCase())} 1 "" ${quoted(`Mento ${programVersion()}`)} "Mento"`,
    ".SH NAME",
    `${escaped(name)} \\- ${escaped(command.description())}`,
    ".SH SYNOPSIS",
    `.B ${escaped(path.join(" "))}`,
    escaped(command.usage()),
    ...section("ARGUMENTS", terms),
    ...section("OPTIONS", options),
    ...section("COMMANDS", commands),
    ...(examples.length === 0 ? [] : [".SH EXAMPLES"]),
    ...examples.flatMap(([what, line]) => [
      ".PP",
      `${escaped(what)}:`,
      ".PP",
      ".RS 4",
      ".nf",
      escaped(line),
      ".fi",
      ".RE",
    ]),
    ...(path.length === 1
      ? [".SH EXIT STATUS", EXIT_STATUS]
      : [".SH SEE ALSO", `.BR ${escaped(path.slice(0, -1).join("-"))} (1)`]),
  ];
  return `${lines.join("\n")}\n`;
}

function section(title: string, terms: readonly (readonly string[])[]): string[] {
  if (terms.length === 0) return [];
  return [
    `.SH ${title}`,
    ...terms.flatMap(([term = "", text = ""]) => [".TP", `.B ${escaped(term)}`, escaped(text)]),
  ];
}

/** As text; an empty line would be a paragraph. Roff reads a backslash, and a dot or an apostrophe at the beginning of a line. */
function escaped(text: string): string {
  const plain = text.replace(/\\/g, "\\e").replace(/-/g, "\\-");
  return /^[.']|^$/.test(plain) ? `\\&${plain}` : plain;
}

function quoted(text: string): string {
  return `"${escaped(text).replace(/"/g, "")}"`;
}
