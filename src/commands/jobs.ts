import { Command, InvalidArgumentError } from "commander";
import { shortName, shortText, wrapped, type Layout } from "../text/layout.ts";
import {
  clearScreen,
  layoutHere,
  plainLine,
  printJson,
  printLine,
  printToned,
  sayLine,
} from "../text/terminal.ts";
import { rowsOf, type Row } from "../trace/table.ts";
import { duration, STANDINGS, type Standing } from "../trace/words.ts";
import { CONFIG_OPTION, connectFromConfig, openConfig } from "./open-config.ts";
import { StoryReader } from "./read-stories.ts";
import { countOption, sinceOption } from "./option-values.ts";

interface JobsOptions {
  config?: string;
  since: Date;
  session?: string;
  trigger?: string;
  state?: Standing[];
  path?: string;
  lines: number;
  json?: true;
  wide?: true;
  follow?: true;
}

const STATES = Object.keys(STANDINGS) as Standing[];
const FOLLOW_EVERY_MS = 2_000;

export function jobsCommand(): Command {
  return new Command("jobs")
    .option(...CONFIG_OPTION)
    .option(
      "--since <time>",
      "those since then: 90s, 30m, 2h, 3d ago, or 2026-11-21T20:15:00Z",
      (text) => sinceOption(text),
      sinceOption("1d"),
    )
    .option("--session <id>", "only of this beamtime or commissioning run")
    .option("--trigger <trigger>", "only jobs of this trigger")
    .option("--state <state...>", `only in these states: ${STATES.join(", ")}`, stateOption)
    .option("--path <part>", "only data whose path has this part")
    .option("--lines <n>", "at most so many, the newest", countOption, 50)
    .option("--json", "one JSON object a line")
    .option("--wide", "whole names and reasons, however wide the terminal is")
    .option("--follow", "again every 2 s, until Ctrl-C")
    .action(jobs);
}

async function jobs({
  config: file,
  since,
  lines,
  json,
  wide,
  follow,
  ...wanted
}: JobsOptions): Promise<void> {
  const config = openConfig(file);
  const { trigger } = wanted;
  const client = await connectFromConfig(config, "jobs");
  const reader = new StoryReader(client, since);
  try {
    for (;;) {
      const { stories, blocked } = await reader.update();
      const rows = rowsOf(stories, wanted);
      const isKnown = (value: string | undefined, of: (row: Row) => string | null) =>
        value === undefined || rowsOf(stories).some((row) => of(row) === value);
      if (rows.length === 0) {
        const isConfigured = config.triggers.some(({ name }) => name === trigger);
        if (!isKnown(trigger, (row) => row.trigger) && !isConfigured)
          sayLine(
            `mento: No trigger ${plainLine(trigger ?? "", 100)} is configured, and none of that name has had a job since then.`,
          );
        if (!isKnown(wanted.session, (row) => row.session))
          sayLine(
            `mento: Nothing of session ${plainLine(wanted.session ?? "", 100)} is in the history since then.`,
          );
      }
      if (follow === true) clearScreen();
      const shown = rows.slice(0, lines);
      if (json === true) for (const row of shown) printJson(jsonOf(row));
      else show(shown, rows.length, layoutHere(wide));
      if (blocked !== undefined) sayLine(`mento: RabbitMQ takes no messages for the moment (${blocked}).`);
      if (follow !== true) return;
      await new Promise((resolve) => setTimeout(resolve, FOLLOW_EVERY_MS));
    }
  } finally {
    await client.close();
  }
}

function jsonOf({ arrived, since, ...row }: Row): object {
  const time = (at: number) => (at === 0 || Number.isNaN(at) ? null : new Date(at).toISOString());
  return { ...row, arrived: time(arrived), since: time(since) };
}

/** From so many columns on the reason has one of its own. */
const WITH_REASON = 100;

function show(rows: readonly Row[], all: number, layout: Layout): void {
  const now = Date.now();
  const isNarrow = layout.width < WITH_REASON;
  const longest = (texts: string[], least: number, most: number) =>
    Math.min(Math.max(least, ...texts.map((text) => text.length)), most);
  const isWide = layout.width === Infinity;
  const name = longest(
    rows.map((row) => plainLine(row.name)),
    8,
    isWide ? 400 : isNarrow ? 22 : 34,
  );
  const trigger = longest(
    rows.map((row) => row.trigger),
    7,
    isWide ? 200 : 14,
  );
  const node = longest(
    rows.map((row) => row.node),
    4,
    isWide ? 200 : 12,
  );
  const head = [
    "AGE".padEnd(9),
    "DATA SET".padEnd(name),
    "TRIGGER".padEnd(trigger),
    "STATE".padEnd(11),
    "SINCE".padEnd(9),
    "NODE".padEnd(node),
    "SLURM",
  ];
  printLine(`${head.join(" ")}${isNarrow ? "" : "   WHY"}`);
  for (const row of rows) {
    const { mark, ascii, tone } = STANDINGS[row.standing];
    const age = (at: number) => (at === 0 || Number.isNaN(at) ? "" : short(now - at)).padEnd(9);
    const cells = [
      age(row.arrived),
      shortName(plainLine(row.name), name).padEnd(name),
      shortText(plainLine(row.trigger), trigger).padEnd(trigger),
      `${layout.isUtf8 ? mark : ascii} ${row.standing}`.padEnd(11),
      age(row.since),
      shortText(plainLine(row.node), node).padEnd(node),
      row.slurmId.padEnd(isNarrow ? 0 : 7),
    ];
    const text = cells.join(" ").trimEnd();
    const why = plainLine(row.why);
    const line = isNarrow || why === "" ? text : shortText(`${cells.join(" ")} ${why}`, layout.width);
    printToned(line, layout.hasColour && row.standing !== "completed" ? tone : null);
    if (isNarrow && why !== "") printLine(shortText(`          ${why}`, layout.width));
  }
  const left = all - rows.length;
  const foot = `${rows.length} of ${all}${left > 0 ? "; --lines shows more" : ""}. Narrow with --state, --trigger, --path, --session, --since.`;
  for (const line of wrapped(foot, layout.width)) printLine(line);
}

/** The larger unit alone: an age is for the eye. */
function short(milliseconds: number): string {
  const [amount = "", unit = ""] = duration(milliseconds).split(" ");
  return `${amount} ${unit}`;
}

function stateOption(text: string, others: Standing[] | undefined): Standing[] {
  const state = STATES.find((one) => one === text);
  if (state !== undefined) return [...(others ?? []), state];
  throw new InvalidArgumentError(`It is one of ${STATES.join(", ")}.`);
}
