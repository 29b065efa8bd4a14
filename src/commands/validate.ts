import { Command, Option } from "commander";
import { parseConfig } from "../config/config-file.ts";
import { Rejected } from "../errors.ts";
import { decodeMessage } from "../messages/cloud-event.ts";
import { isJobCancel, readJobCancel } from "../messages/job-cancel.ts";
import { readTriggerInput } from "../messages/trigger-input.ts";
import { openSecret } from "../config/config.ts";
import { textOf } from "../files/plain-file.ts";
import { printLine, printLines } from "../text/terminal.ts";
import { modeOfInput, readInput } from "./read-input.ts";

export function validateCommand(): Command {
  return new Command("validate")

    .argument("<file>", "a file, or - for standard input")
    .addOption(
      new Option("--as <kind>", "what it is; else told from its content").choices(["message", "config"]),
    )
    .action((file: string, options: { as?: "message" | "config" }) => {
      const bytes = readInput(file);
      const kind = options.as ?? kindOf(file, bytes);
      if (kind === "config") validateConfig(file, bytes, modeOfInput(file));
      else validateMessage(file, bytes);
    });
}

/** A configuration is YAML with one of our sections; anything else is meant as a message. */
function kindOf(file: string, bytes: Buffer): "message" | "config" {
  if (/\.ya?ml$/.test(file)) return "config";
  return /^(broker|worker|site|ssh|triggers):/m.test(bytes.toString("utf8")) ? "config" : "message";
}

function validateConfig(file: string, bytes: Buffer, mode: number): void {
  const { config, mistakes } = parseConfig(textOf(bytes), process.env);
  for (const { line, place, message } of mistakes) {
    printLine(
      `${line === null ? "environment" : `${file}:${line}`}: ${place === "" ? "" : `${place}: `}${message}`,
    );
  }
  if (config !== undefined) {
    printLine(`${file}: a valid configuration with ${count(config.triggers.length, "trigger")}`);
    const warning = openSecret(file, mode, config);
    if (warning !== null) printLine(`warning: ${warning}`);
    return;
  }
  printLine(`${count(mistakes.length, "mistake")}; docs/configuration.md describes every key`);
  process.exitCode = 1;
}

function validateMessage(file: string, bytes: Buffer): void {
  try {
    const event = decodeMessage(bytes, {});
    const about = isJobCancel(event.type)
      ? `for ${count(readJobCancel(event).jobs.length, "job")}`
      : `with ${count(readTriggerInput(event).paths.length, "path")}`;
    printLine(`${file}: a valid ${event.type} message ${about}`);
  } catch (error) {
    if (!(error instanceof Rejected)) throw error;
    printLines([`${file}: ${error.message} [${error.code}]`, `  ${error.hint}`]);
    process.exitCode = 1;
  }
}

function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}
