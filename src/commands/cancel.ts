import { Command, InvalidArgumentError } from "commander";
import type { BrokerClient } from "../broker/client.ts";
import { lastJobEvents } from "../cancel/job-history.ts";
import { topologyFor } from "../broker/topology.ts";
import { requestFromHere } from "../cancel/cancel-at.ts";
import { cancelJobs } from "../cancel/cancel-jobs.ts";
import { failed } from "../cancel/cancel-outcomes.ts";
import { askHost } from "../cancel/cancel-on-host.ts";
import { destinationsOf } from "../config/config.ts";
import { MentoError, Unavailable, type ErrorCode } from "../errors.ts";
import { isTerminal } from "../jobs/job.ts";
import { HISTORY_MS } from "../broker/history.ts";
import { storiesOf, type Story } from "../trace/stories.ts";
import { StoryReader } from "./read-stories.ts";
import type { CancelOutcome } from "../messages/job-cancel.ts";
import { openSlurmRest } from "../slurm/rest/open-slurm-rest.ts";
import { LocalShell } from "../shells/local.ts";
import { localTime } from "../time/local.ts";
import { plainLine, printJson, printLine, sayLine } from "../text/terminal.ts";
import { byWhom } from "./event-line.ts";
import { CONFIG_OPTION, connectFromConfig, openConfig } from "./open-config.ts";
import { openSessions } from "./open-sessions.ts";

interface CancelOptions {
  config?: string;
  reason?: string;
  json?: true;
}

export function cancelCommand(): Command {
  return new Command("cancel")

    .argument(
      "<job...>",
      "ids of jobs, or Slurm's; or the beginning of an id, a message's id, a path or its end, if it means one message",
    )
    .option(...CONFIG_OPTION)
    .option("--reason <text>", "why; the event job.cancelled has it, beside who called this command", reason)
    .option("--json", "one JSON object a line")
    .action(cancel);
}

function reason(text: string): string {
  if (text !== "" && text.length <= 500) return text;
  throw new InvalidArgumentError("It has 1 to 500 characters.");
}

async function cancel(jobs: string[], options: CancelOptions): Promise<void> {
  const config = openConfig(options.config);
  const open = openSessions(config);
  let connecting: Promise<BrokerClient> | undefined;
  // For jobs of open sessions the command works while the broker is away.
  const client = () => (connecting ??= connectFromConfig(config, "cancel"));
  try {
    const { sessions, shells } = open;
    const here = new LocalShell(config.ssh.commandTimeoutMs);
    const cancelAll = (ids: readonly string[]) =>
      cancelJobs(ids, requestFromHere(options.reason ?? null), {
        ...{ site: config.site, sessions, shells, here, rest: openSlurmRest(config.slurmRest) },
        destinations: destinationsOf(config),
        lastEvents: async (names) => unlessBlocked(await client(), (one) => lastJobEvents(one, names)),
        askHost: async (host, group, job, wanted) => {
          const { link, publisher } = await client();
          const queue = topologyFor(config.broker.prefix, group, host).hostJobsQueue;
          return askHost({ link, publisher, queue }, job, wanted);
        },
      });
    const outcomes = await cancelEach([...new Set(jobs)], client, cancelAll);
    for (const one of outcomes) {
      if (options.json === true) printJson(one);
      else printLine(outcomeLine(one));
    }
    process.exitCode = Math.max(...outcomes.map(exitStatus));
  } finally {
    await (await connecting?.catch(() => undefined))?.close();
    open.close();
  }
  // A place that nobody waits for, where an account takes its time, is still being looked at.
  process.exit();
}

/**
 * Jobs by their ids at once. Other names are in the history alone: whatever `mento trace` takes stands for all jobs of its
 * message that have not ended; the beginning of a job's id for that job.
 */
async function cancelEach(
  names: readonly string[],
  client: () => Promise<BrokerClient>,
  cancelAll: (ids: readonly string[]) => Promise<CancelOutcome[]>,
): Promise<CancelOutcome[]> {
  const known = cancelAll(names.filter(isId));
  const since = new Date(Date.now() - HISTORY_MS);
  let reading: Promise<{ stories: Story[] }> | undefined;
  const others = names
    .filter((name) => !isId(name))
    .map(async (name): Promise<[string, CancelOutcome[]]> => {
      try {
        reading ??= client().then((one) => unlessBlocked(one, () => new StoryReader(one, since).update()));
        const { stories } = await reading;
        const ids = unfinishedOf(name, stories);
        for (const id of ids) sayMeant(name, id, stories);
        return [name, await cancelAll(ids)];
      } catch (error) {
        return [name, [{ ...failed(name, error), id: null }]];
      }
    });
  const outcomes = new Map(await Promise.all(others));
  for (const one of await known) outcomes.set(one.job, [one]);
  return names.flatMap((name) => outcomes.get(name) ?? []);
}

function sayMeant(name: string, id: string, stories: readonly Story[]): void {
  const data = stories.map(({ jobs }) => jobs.get(id)?.data).find((one) => one !== undefined);
  if (data === undefined) return;
  const { job, paths, session } = data;
  sayLine(
    plainLine(
      `mento: ${name} is ${paths[0] ?? "a job"} of session ${session.id ?? "none"}: ${job.trigger} ${id}`,
    ),
  );
}

/** Mento's, whole, or Slurm's. */
const isId = (job: string) => /^([a-z2-7]{26}|\d+(_\d+)?)$/.test(job);

/** @throws MentoError `job-unknown` if it means several messages, or one without such jobs */
function unfinishedOf(path: string, stories: readonly Story[]): string[] {
  const meant = storiesOf(path, stories);
  // Nothing is known of it, as of an id that is none.
  if (meant.length === 0) return [path];
  const all = meant.map(({ jobs }) => [...jobs.values()].map(({ data }) => data.job));
  const isBeginning = all.flat().some(({ id }) => id.startsWith(path));
  const named = all.map((jobs) => jobs.filter(({ id }) => !isBeginning || id.startsWith(path)));
  const [first = []] = named;
  const unfinished = named
    .map((jobs) => jobs.filter(({ state }) => !isTerminal(state)).map(({ id }) => id))
    .filter((ids) => ids.length > 0);
  const [ids] = unfinished;
  // Data that was measured again is one; a part of many names is not.
  const isOne = new Set(meant.map(({ paths: [first], cause }) => first ?? cause.id)).size === 1;
  if (ids !== undefined && unfinished.length === 1 && isOne) return ids;
  // How they have ended is the answer.
  if (unfinished.length === 0 && named.length === 1 && first.length > 0) return first.map(({ id }) => id);
  const some = unfinished.flat().slice(0, 10).join(", ");
  throw new MentoError({
    code: "job-unknown",
    message:
      unfinished.length > 0
        ? `${path} means ${meant.length} messages, with these unfinished jobs: ${some}.`
        : `${path} has no job that could be cancelled.`,
    hint: "`mento trace` says what it waits for, or what became of it; `mento jobs --path` lists the jobs of data.",
  });
}

/** Whoever reads the history publishes a mark, which a broker that is short of memory or disk may take hours later. */
function unlessBlocked<T>(client: BrokerClient, read: (client: BrokerClient) => Promise<T>): Promise<T> {
  const reading = read(client);
  const blocked = client.link.whenBlocked().then((reason) => {
    if (reason === undefined) return reading;
    throw new Unavailable({
      code: "publish-unconfirmed",
      message: `RabbitMQ takes no messages for the moment (${reason}): its history cannot be read to the end.`,
      hint: "Try again when it does.",
    });
  });
  return Promise.race([reading, blocked]);
}

/** Those of a server that is out of reach. */
const OUT_OF_REACH: readonly (ErrorCode | undefined)[] = [
  "broker-unreachable",
  "broker-refused",
  "broker-lost",
  "publish-unconfirmed",
  "publish-refused",
  "ssh-unreachable",
  "ssh-lost",
  "slurm-unavailable",
  "worker-silent",
];

function exitStatus({ outcome, error }: CancelOutcome): number {
  if (outcome === "cancelled" || outcome === "gone") return 0;
  return OUT_OF_REACH.includes(error?.code) ? 3 : 1;
}

/** `k3f7…  gone: failed (exit code 7) at 2026-11-22T02:32:33Z`; Slurm's id if that was asked for, then ours. */
export function outcomeLine({ job, id, outcome, end, cancelledBy, error }: CancelOutcome): string {
  const name = plainLine(job, 100) + (id === null || id === job ? "" : ` (${id})`);
  const by = cancelledBy === null ? "" : ` ${byWhom(cancelledBy)}`;
  if (outcome === "cancelled") return `${name}  cancelled`;
  if (error !== null) {
    const code = outcome === "unknown" ? "" : ` [${error.code}]`;
    return `${name}  ${outcome}: ${plainLine(error.message)} ${plainLine(error.hint)}${code}`;
  }
  if (end === null) return `${name}  gone: it was just ending${by === "" ? "" : `, cancelled${by}`}`;
  const how =
    end.signal ?? (end.code === null || end.state === "completed" ? end.reason : `exit code ${end.code}`);
  const detail = how === null || end.state === "cancelled" ? by : ` (${how})`;
  return `${name}  gone: ${end.state}${detail}${end.at === null ? "" : ` at ${localTime(end.at)}`}`;
}
