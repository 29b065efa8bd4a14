import { Command, Option } from "commander";
import { decodeMessage } from "../messages/cloud-event.ts";
import { INPUT_TYPES, readTriggerInput, type InputType } from "../messages/trigger-input.ts";
import { printJson, printLines, sayLine } from "../text/terminal.ts";
import { previewLines, previewsOf, sessionFor } from "./match-preview.ts";
import { CONFIG_OPTION, openConfig } from "./open-config.ts";
import { readInput } from "./read-input.ts";

interface MatchOptions {
  config?: string;
  as: InputType;
  json?: true;
}

export function matchCommand(): Command {
  return new Command("match")

    .argument("<file>", "a message or a job's event, or - for standard input")
    .option(...CONFIG_OPTION)
    .addOption(
      new Option("--as <type>", "what a bare data object is; a CloudEvent says it itself")
        .choices(INPUT_TYPES)
        .default("data.ready"),
    )
    .option("--json", "one JSON object a line, one for each trigger")
    .action(match);
}

/** Exit status: 0 if a trigger would run, 1 if none. */
async function match(file: string, options: MatchOptions): Promise<void> {
  const config = openConfig(options.config);
  const properties = {
    type: `mento.${options.as}.v1`,
    ...(options.as === "data.ready" ? {} : { appId: `/mento/${config.worker.group}` }),
  };
  const input = readTriggerInput(decodeMessage(readInput(file), properties));
  const session = await sessionFor(input, config.site, (text) => sayLine(`mento: ${text}`));
  const previews = previewsOf(input, config, session);
  for (const preview of previews) {
    if (options.json === true) printJson(preview);
    else printLines(previewLines(preview));
  }
  if (previews.length === 0) sayLine("mento: the configuration has no triggers");
  if (!previews.some(({ fires }) => fires)) process.exitCode = 1;
}
