import { posix } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { HISTORY_MS } from "../broker/history.ts";
import type { MentoConfig } from "../config/config.ts";
import { MentoError } from "../errors.ts";
import { wrapped, type Layout } from "../text/layout.ts";
import { layoutHere, plainLine, printJson, printLine, printToned, sayLine } from "../text/terminal.ts";
import { askLive } from "../trace/ask.ts";
import { inputOf } from "../trace/input.ts";
import { lastFrom, storiesOf, type Story } from "../trace/stories.ts";
import { newestFirst, tell, type StoryLine, type Told } from "../trace/tell.ts";
import { clock, duration, STANDINGS, type Standing } from "../trace/words.ts";
import { previewLines, previewsOf, sessionFor, type Preview } from "./match-preview.ts";
import { CONFIG_OPTION, connectFromConfig, openConfig } from "./open-config.ts";
import { openSessions } from "./open-sessions.ts";
import { StoryReader } from "./read-stories.ts";
import { sinceOption } from "./option-values.ts";

interface TraceOptions {
  config?: string;
  since?: Date;
  json?: true;
  wide?: true;
  follow?: true;
  would?: true;
}

/** So many messages are told of, the newest. */
const MOST_TOLD = 5;
const FOLLOW_EVERY_MS = 2_000;

export function traceCommand(): Command {
  return new Command("trace")
    .alias("why")
    .argument(
      "<what>",
      "a path or its end, a part of a file's name, a message's id, a job's, or Slurm's",
      notEmpty,
    )
    .option(...CONFIG_OPTION)
    .option("--since <time>", "how far back to look; default: all of the history, 14 days", (text) =>
      sinceOption(text),
    )
    .option("--json", "one JSON object a message")
    .option("--wide", "do not break lines")
    .option("--would", "add what each trigger of today's configuration would make of the message now")
    .option("--follow", "tell it again whenever it has changed, until it has ended; Ctrl-C ends")
    .addHelpText(
      "after",
      `
The first line is the answer; then the story, oldest first; then what to do. Exit 1 if nothing is known of it.`,
    )
    .action(trace);
}

function notEmpty(text: string): string {
  if (text !== "") return text;
  throw new InvalidArgumentError("It names nothing.");
}

async function trace(
  what: string,
  { config: file, since, json, wide, follow, would }: TraceOptions,
): Promise<void> {
  const config = openConfig(file);
  const client = await connectFromConfig(config, "trace");
  const open = openSessions(config);
  const layout = layoutHere(wide);
  try {
    let told = "";
    const reader = new StoryReader(client, since ?? new Date(Date.now() - HISTORY_MS));
    for (;;) {
      const { stories, blocked } = await reader.update();
      const found = newestFirst(storiesOf(what, stories));
      if (found.length === 0) {
        sayUnknown(what, stories, json === true);
        process.exitCode = 1;
        return;
      }
      const shown = found.slice(0, MOST_TOLD).reverse();
      const parts: Told[] = [];
      for (const story of shown) {
        const live = await askLive(story, stories, blocked, { config, client, ...open });
        const one = tell(story, live);
        parts.push(one);
        for (const text of live.unasked) sayLine(`mento: ${text}`);
      }
      const now = JSON.stringify(parts.map(({ standing, lines }) => [standing, lines]));
      if (now !== told) {
        for (const [index, one] of parts.entries()) {
          const story = shown[index];
          if (story === undefined) continue;
          const previews = would === true ? await wouldOf(story, config) : undefined;
          if (json === true) printJson({ ...jsonOf(story, one), ...(would === true && { would: previews }) });
          else show(one, previews, layout);
        }
        if (found.length > shown.length && json !== true)
          sayLine(
            `mento: ${found.length - shown.length} older messages fit ${plainLine(what, 100)}, too: give more of the name or id.`,
          );
        told = now;
      }
      const isOver = parts.every(({ standing }) => ENDED.includes(standing));
      if (follow !== true || isOver) return;
      await new Promise((resolve) => setTimeout(resolve, FOLLOW_EVERY_MS));
    }
  } finally {
    open.close();
    await client.close();
  }
}

const ENDED: readonly Standing[] = ["completed", "failed", "cancelled", "lost", "rejected", "ignored"];

function sayUnknown(what: string, stories: readonly Story[], isJson: boolean): void {
  const folder = posix.dirname(what);
  const last = folder === "." ? undefined : lastFrom(folder, stories);
  const near =
    folder === "."
      ? `The history has ${stories.length} messages.`
      : last === undefined
        ? `Nothing was announced from ${folder}, either.`
        : `What came from that folder last: ${posix.basename(last.paths[0] ?? "")}${last.ready === null ? "" : ` at ${clock(Date.parse(last.ready))}`}.`;
  const error = new MentoError({
    code: "not-announced",
    message: `Nobody has announced ${what}: no message and no job in the history has it. ${near}`,
    hint: "See whether the acquisition publishes (`mento watch`), to this broker and prefix; `mento publish data-ready --path PATH` announces it now.",
  });
  if (isJson) printJson({ what, error: { code: error.code, message: error.message, hint: error.hint } });
  else {
    printLine(`– ${error.message}`);
    printLine("");
    printLine(`To do: ${error.hint}`);
  }
}

function jsonOf(
  { cause, paths, beamline, beamtimeId, ready, facts, announced, jobs }: Story,
  told: Told,
): object {
  const { standing, answer, more, todo, commands } = told;
  return {
    ...{ standing, answer: [answer, ...more].join(" "), todo, commands },
    ...{ cause, paths, beamline, beamtimeId, ready, message: facts },
    announced: announced.map(({ outcome, group, at, data }) => ({
      ...{ outcome, group, time: Number.isNaN(at) ? null : new Date(at).toISOString() },
      ...{ error: data.error, reasons: data.reasons },
    })),
    jobs: [...jobs.values()].map(({ data, group }) => ({ ...data, group })),
  };
}

/** What each trigger would make of the message now; null: the history does not have it, or nobody can read it. */
async function wouldOf(story: Story, config: MentoConfig): Promise<Preview[] | null> {
  const input = inputOf(story);
  if (input === null) return null;
  const session = await sessionFor(input, config.site, (text) => sayLine(`mento: ${text}`));
  return previewsOf(input, config, session);
}

/** Columns of the time and of the duration. */
const TEXT_AT = 22;

function show(
  { standing, answer, more, title, lines, todo, commands }: Told,
  previews: readonly Preview[] | null | undefined,
  layout: Layout,
): void {
  const { tone } = STANDINGS[standing];
  const mark = markOf(standing, layout);
  const [first = "", ...rest] = wrapped(`${mark} ${plainLine(answer)}`, layout.width, "  ");
  printToned(first, layout.hasColour ? tone : null);
  for (const text of rest) printLine(text);
  for (const text of more)
    for (const line of wrapped(`  ${plainLine(text)}`, layout.width, "  ")) printLine(line);
  printLine("");
  for (const line of wrapped(plainLine(title), layout.width, "  ")) printLine(line);
  for (const line of lines) showLine(line, layout);
  if (previews !== undefined) {
    printLine("");
    printLine("Under today's configuration:");
    if (previews === null)
      printLine("  not known: the message is not in the history any more, or is no message");
    for (const preview of previews ?? []) for (const text of previewLines(preview)) printLine(`  ${text}`);
  }
  printLine("");
  for (const text of wrapped(`To do: ${plainLine(todo)}`, layout.width, "  ")) printLine(text);
  for (const command of commands) printLine(`  ${command}`);
  printLine("");
}

function showLine({ at, took, standing, text, isWhole }: StoryLine, layout: Layout): void {
  if (isWhole === true) {
    printLine(`    ${plainLine(text)}`);
    return;
  }
  const time = at === null ? "" : clock(at);
  const long = took === null ? "" : took < 60_000 ? `${(took / 1000).toFixed(1)} s` : duration(took);
  const head = `  ${time.padEnd(8)} ${long.padStart(9)}  `.padEnd(TEXT_AT);
  const mark = standing === null ? "" : `${markOf(standing, layout)} `;
  const [first = "", ...rest] = wrapped(
    `${head}${mark}${plainLine(text)}`,
    layout.width,
    " ".repeat(TEXT_AT),
  );
  const tone = standing !== null && layout.hasColour ? STANDINGS[standing].tone : null;
  printToned(first, tone);
  for (const one of rest) printLine(one);
}

function markOf(standing: Standing, { isUtf8 }: Layout): string {
  return isUtf8 ? STANDINGS[standing].mark : STANDINGS[standing].ascii;
}
