import { Command, Option } from "commander";
import { mistakeLine, openSecret } from "../config/config.ts";
import { parseConfig } from "../config/config-file.ts";
import { count } from "../doctor/words.ts";
import { Rejected } from "../errors.ts";
import { textOf } from "../files/plain-file.ts";
import { decodeMessage } from "../messages/cloud-event.ts";
import { DATA_READY_TYPE } from "../messages/data-ready.ts";
import { isJobCancel, JOB_CANCEL_TYPE, readJobCancel } from "../messages/job-cancel.ts";
import { readTriggerInput } from "../messages/trigger-input.ts";
import { printJson, printLines } from "../text/terminal.ts";
import { modeOfInput, readInput } from "./read-input.ts";

const KINDS = ["message", "cancel", "config"] as const;
type Kind = (typeof KINDS)[number];

export function validateCommand(): Command {
  return new Command("validate")

    .argument("<file>", "a file, or - for standard input")
    .addOption(
      new Option(
        "--as <kind>",
        "what it is: data-ready, a request to cancel, or a configuration; else told from its content",
      ).choices(KINDS),
    )
    .option("--json", "one JSON object: whether it is valid, and each mistake with its place")
    .action((file: string, { as, json }: { as?: Kind; json?: true }) => {
      const bytes = readInput(file);
      const kind = as ?? kindOf(file, bytes);
      const found = kind === "config" ? inConfig(file, bytes) : inMessage(bytes, kind);
      if (found.mistakes.length > 0) process.exitCode = 1;
      if (json === true) printJson({ file, kind, valid: found.mistakes.length === 0, ...found });
      else printLines(kind === "config" ? configLines(file, found) : messageLines(file, found));
    });
}

/** A configuration is YAML with one of our sections; anything else is meant as a message. */
function kindOf(file: string, bytes: Buffer): Kind {
  if (/\.ya?ml$/.test(file)) return "config";
  return /^(broker|worker|site|ssh|triggers):/m.test(bytes.toString("utf8")) ? "config" : "message";
}

interface Found {
  /** What it is, if it is valid. */
  summary: string | null;
  mistakes: {
    line: number | null;
    column: number | null;
    place: string;
    message: string;
    /** Of a message. */
    code?: string;
    hint?: string;
  }[];
  warnings: string[];
}

function inConfig(file: string, bytes: Buffer): Found {
  const { config, mistakes } = parseConfig(textOf(bytes), process.env);
  if (config === undefined) return { summary: null, mistakes, warnings: [] };
  const warning = openSecret(file, modeOfInput(file), config);
  return {
    summary: `a valid configuration with ${count(config.triggers.length, "trigger")}`,
    mistakes: [],
    warnings: warning === null ? [] : [warning],
  };
}

function configLines(file: string, { summary, mistakes, warnings }: Found): string[] {
  if (summary !== null) return [`${file}: ${summary}`, ...warnings.map((warning) => `warning: ${warning}`)];
  const all = `${count(mistakes.length, "mistake")}; docs/configuration.md describes every key`;
  return [...mistakes.map((mistake) => mistakeLine(file, mistake)), all];
}

/** @param kind decides where the message does not say what it is: a bare one does not */
function inMessage(bytes: Buffer, kind: Kind): Found {
  try {
    const event = decodeMessage(bytes, { type: kind === "cancel" ? JOB_CANCEL_TYPE : DATA_READY_TYPE });
    // Read as what it says that it is; a data-ready message is no request to cancel.
    const isCancel = kind === "cancel" || isJobCancel(event.type);
    const about = isCancel
      ? `for ${count(readJobCancel(event).jobs.length, "job")}`
      : `with ${count(readTriggerInput(event).paths.length, "path")}`;
    return { summary: `a valid ${event.type} message ${about}`, mistakes: [], warnings: [] };
  } catch (error) {
    if (!(error instanceof Rejected)) throw error;
    const { message, code, hint } = error;
    const mistake = { line: null, column: null, place: "", message, code, hint };
    return { summary: null, mistakes: [mistake], warnings: [] };
  }
}

function messageLines(file: string, { summary, mistakes }: Found): string[] {
  if (summary !== null) return [`${file}: ${summary}`];
  return mistakes.flatMap(({ message, code = "", hint = "" }) => [
    `${file}: ${message} [${code}]`,
    `  ${hint}`,
  ]);
}
