import { posix } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Command } from "commander";
import { HISTORY_MS } from "../broker/history.ts";
import { isTerminal } from "../jobs/job.ts";
import { MentoError } from "../errors.ts";
import type { JobEventData } from "../messages/job-event.ts";
import { READ_SECONDS, within } from "../shells/bounded-file.ts";
import { quote } from "../shells/quote.ts";
import type { Shell } from "../shells/shell.ts";
import { printOutput, sayLine } from "../text/terminal.ts";
import { shellOf } from "../trace/ask.ts";
import { storiesOf, type Story } from "../trace/stories.ts";
import { newestFirst } from "../trace/tell.ts";
import { CONFIG_OPTION, connectFromConfig, openConfig } from "./open-config.ts";
import { openSessions } from "./open-sessions.ts";
import { StoryReader } from "./read-stories.ts";
import { countOption } from "./option-values.ts";

interface LogsOptions {
  config?: string;
  follow?: true;
  lines: number;
  trigger?: string;
}

/** Of a log so much is fetched at a time. */
const PIECE_BYTES = 4 * 1024 * 1024;
const FOLLOW_EVERY_MS = 1_000;

export function logsCommand(): Command {
  return new Command("logs")
    .argument("<what>", "a job's id, Slurm's, or a path: of several jobs the newest is taken")
    .option(...CONFIG_OPTION)
    .option("-f, --follow", "go on until the job has ended; Ctrl-C ends")
    .option("--lines <n>", "at most so many, the last ones", countOption, 1000)
    .option("--trigger <trigger>", "of a path's jobs the one of this trigger")
    .action(logs);
}

async function logs(what: string, { config: file, follow, lines, trigger }: LogsOptions): Promise<void> {
  const config = openConfig(file);
  const client = await connectFromConfig(config, "logs");
  const open = openSessions(config);
  const deps = { config, ...open };
  const reader = new StoryReader(client, new Date(Date.now() - HISTORY_MS));
  const jobNow = async () => {
    const { stories } = await reader.update();
    return jobOf(what, trigger, stories);
  };
  try {
    let job = await jobNow();
    sayLine(`mento: ${job.job.trigger}, job ${job.job.id}, ${job.job.state}: ${job.job.directory}/job.log`);
    const shell = await shellOf(job, deps);
    let { text, end, size } = await lastOf(shell, job.job.directory, lines);
    printOutput(text);
    // Its account may go on writing when the job has ended.
    let whole: number | undefined;
    while (follow === true) {
      const isOver = isTerminal(job.job.state);
      ({ text, end, size } = await from(shell, job.job.directory, end));
      printOutput(text);
      if (isOver) whole ??= size;
      if (whole !== undefined && (text === "" || end >= whole)) return;
      await sleep(FOLLOW_EVERY_MS);
      if (!isOver) job = await jobNow();
    }
  } finally {
    open.close();
    await client.close();
  }
}

function jobOf(what: string, trigger: string | undefined, stories: readonly Story[]): JobEventData {
  const found = newestFirst(storiesOf(what, stories)).flatMap(({ jobs }) =>
    [...jobs.values()].map(({ data }) => data),
  );
  const named = found.filter(
    ({ job, slurm }) => job.id === what || slurm.jobId === what || job.id.startsWith(what),
  );
  const fitting = (named.length > 0 ? named : found).filter(
    ({ job }) => trigger === undefined || job.trigger === trigger,
  );
  requireOne(what, fitting);
  const moment = ({ times }: JobEventData) => Date.parse(times.started ?? times.submitted ?? "") || 0;
  const [newest] = fitting.sort((one, other) => moment(other) - moment(one));
  if (newest !== undefined) return newest;
  throw new MentoError({
    code: "job-unknown",
    message: `The history has no job ${what}${trigger === undefined ? "" : ` of trigger ${trigger}`}.`,
    hint: "`mento jobs` lists those of the last day; `mento trace` says what became of a file.",
  });
}

/** An account tells its own jobs' ids: one can say that it has another's. */
function requireOne(what: string, jobs: readonly JobEventData[]): void {
  const called = jobs.filter(({ slurm }) => slurm.jobId === what);
  if (new Set(called.map(({ job }) => posix.dirname(job.directory))).size < 2) return;
  const ids = called.map(({ job, session }) => `${job.id} (${session.id ?? "no session"})`);
  throw new MentoError({
    code: "job-unknown",
    message: `Jobs in different folders were announced as Slurm's job ${what}: ${ids.slice(0, 10).join(", ")}.`,
    hint: "Name the one that you mean by its own id.",
  });
}

async function lastOf(shell: Shell, directory: string, lines: number) {
  return read(shell, directory, `tail -c ${PIECE_BYTES} -- "$log" | tail -n ${lines}`, undefined);
}

async function from(shell: Shell, directory: string, end: number) {
  return read(shell, directory, `tail -c +${end + 1} -- "$log" | head -c ${PIECE_BYTES}`, end);
}

/** Only a regular file is read; where there is none yet, nothing. */
async function read(
  shell: Shell,
  directory: string,
  print: string,
  since: number | undefined,
): Promise<{ text: string; end: number; size: number }> {
  const script = `log=${quote(`${directory}/job.log`)}
[ -f "$log" ] && [ ! -L "$log" ] || { echo 0; exit 0; }
stat -c %s -- "$log"
${print}`;
  const { stdout, stderr, code } = await shell.run(within(READ_SECONDS, script));
  const at = stdout.indexOf("\n");
  if (code !== 0 || at < 0)
    throw new Error(`the log cannot be read on ${shell.host}: ${stderr.trim().split("\n").at(-1) ?? ""}`);
  const text = stdout.subarray(at + 1).toString("utf8");
  const size = Number(stdout.toString("utf8", 0, at));
  return { text, end: since === undefined ? size : since + stdout.length - at - 1, size };
}
