import { hostname } from "node:os";
import { posix } from "node:path";
import { toCorePath } from "../beamtime/paths.ts";
import { requireOnline, type Session, type Sessions } from "../beamtime/session.ts";
import type { BrokerClient } from "../broker/client.ts";
import { readTopology } from "../broker/topology.ts";
import { destinationsOf, type MentoConfig } from "../config/config.ts";
import { errorText } from "../errors.ts";
import type { JobEventData } from "../messages/job-event.ts";
import { answerLines, fieldsOf } from "../shells/answer-lines.ts";
import { READ_SECONDS, within } from "../shells/bounded-file.ts";
import { LocalShell } from "../shells/local.ts";
import { quote } from "../shells/quote.ts";
import type { Shell } from "../shells/shell.ts";
import { SQUEUE } from "../slurm/squeue.ts";
import type { SessionShells } from "../submission/session-shells.ts";
import { matchTriggers, missesOf } from "../triggers/match.ts";
import { countsJobs } from "../triggers/queue-position.ts";
import { inputOf } from "./input.ts";
import type { Story } from "./stories.ts";
import type { DataNow, Live, SlurmSays } from "./answer.ts";
import { firstSentence } from "./words.ts";

interface AskDeps {
  config: MentoConfig;
  client: BrokerClient;
  sessions: Sessions;
  shells: SessionShells;
}

/** What is asked on a node, at most. */
const MOST_JOBS = 50;
const LOG_LINES = 12;
/** Each is read, and held against the triggers. */
const MOST_AHEAD = 2_000;
const LOG_BYTES = 8_000;
const TIMEOUT_MS = 20_000;

/** What is true now of a story: of the queues, of today's configuration, of Slurm, of the data, of the logs. */
export async function askLive(
  story: Story,
  all: readonly Story[],
  blocked: string | undefined,
  deps: AskDeps,
): Promise<Live> {
  const { config, client } = deps;
  const unasked: string[] = [];
  const orSay = async <T>(what: string, otherwise: T, ask: () => Promise<T>): Promise<T> => {
    try {
      return await ask();
    } catch (error) {
      unasked.push(`${what}: ${errorText(error)}`);
      return otherwise;
    }
  };
  const counted = config.triggers.filter(countsJobs).map(({ name }) => name);
  const { intake, triggerQueues } = await readTopology(client.link, client.topology, counted);
  const jobs = [...story.jobs.values()].map(({ data }) => data);
  const waiting = jobs.filter(({ job, slurm }) => job.state === "submitted" && slurm.jobId !== null);
  const failed = jobs.filter(({ job }) => ["failed", "lost"].includes(job.state));
  const slurm = new Map<string, SlurmSays>();
  const logs = new Map<string, readonly string[]>();
  for (const data of waiting.slice(0, MOST_JOBS))
    await orSay(`Slurm was not asked`, undefined, async () => {
      const said = await slurmSays(await shellOf(data, deps), data.slurm);
      if (said !== undefined) slurm.set(data.slurm.jobId ?? "", said);
    });
  for (const data of failed.slice(0, 5))
    await orSay(`the log of ${data.job.id} was not read`, undefined, async () => {
      logs.set(data.job.id, await logEnd(await shellOf(data, deps), data.job.directory));
    });
  return {
    now: new Date(),
    group: config.worker.group,
    keys: config.worker.keys,
    broker: { blocked: blocked ?? client.link.blocked, intake, triggerQueues },
    ahead: aheadOf(story, all, config, triggerQueues),
    today: todayOf(story, config),
    slurm,
    data: await orSay("the data was not looked for", new Map<string, DataNow>(), () => dataNow(story, deps)),
    logs,
    alike: alikeOf(failed, all),
    unasked,
  };
}

function todayOf(story: Story, { triggers }: MentoConfig): Live["today"] {
  const input = inputOf(story);
  if (input === null) return null;
  const { matched, unmatched } = matchTriggers(input, triggers);
  const [nearest] = triggers
    .map((trigger) => ({ name: trigger.name, misses: missesOf(input, trigger) }))
    .filter(({ misses }) => !misses.some(({ field }) => field === "type"))
    .sort((one, other) => one.misses.length - other.misses.length);
  return { matched: matched.map(({ name }) => name), unmatched, nearest: nearest?.name };
}

/**
 * A shell where the job's directory is seen, as the account whose it is.
 *
 * @throws Deferred, Unavailable why there is none
 */
export async function shellOf(
  data: JobEventData,
  deps: Pick<AskDeps, "config" | "sessions" | "shells">,
): Promise<Shell> {
  const { config, sessions, shells } = deps;
  const { job, process, session } = data;
  const here = new LocalShell(config.ssh.commandTimeoutMs);
  if (job.method === "local-sbatch-script" || job.method === "local-bash-script") {
    if (process !== null && process.host !== "" && process.host !== hostname())
      throw new Error(`its files are on ${process.host}: ask there`);
    return here;
  }
  const online = requireOnline(await sessions.find(session.id ?? undefined));
  const host = process?.host;
  const isNamed =
    host !== undefined &&
    host !== "" &&
    (online.online.nodes.includes(host) || destinationsOf(config).includes(host));
  return isNamed ? shells.openNode(online, host) : shells.open(online);
}

/** What waits for the same nodes is listed, too, in the order in which Slurm looks at it: by priority, then by age. */
async function slurmSays(
  shell: Shell,
  { jobId, reservation, partition }: JobEventData["slurm"],
): Promise<SlurmSays | undefined> {
  const id = jobId ?? "";
  const inQueue =
    reservation !== null
      ? `--reservation=${quote(reservation)}`
      : partition !== null
        ? `--partition=${quote(partition)}`
        : undefined;
  const command = `${SQUEUE} --array --noheader --jobs=${quote(id)} --format='%i|%T|%r' || exit
${inQueue === undefined ? "" : `${SQUEUE} --array --noheader --states=PENDING --sort=-p,i ${inQueue} --format='pending|%i'`}`;
  const { stdout, stderr, code } = await shell.run(command, { timeout: 60_000 });
  // A job that ended long ago is unknown to Slurm, which says so as an error.
  if (code !== 0 && !/Invalid job id/.test(stderr))
    throw new Error(stderr.trim().split("\n").at(-1) || "it gave no answer");
  let said: SlurmSays | undefined;
  const pending: string[] = [];
  for (const line of answerLines(stdout.toString("utf8"))) {
    const [first = "", second = "", reason = ""] = fieldsOf(line.trim(), "|", 3);
    if (first === "pending") pending.push(second);
    else if (first === id) said = { state: second, reason, position: null };
  }
  const at = pending.indexOf(id);
  return said && at >= 0 ? { ...said, position: { at: at + 1, of: pending.length } } : said;
}

/** How many came before it, and may still wait in the queue of a trigger that wants it. */
function aheadOf(
  story: Story,
  all: readonly Story[],
  config: MentoConfig,
  queues: readonly { trigger: string; waiting: number }[],
): Map<string, number> {
  const ahead = new Map<string, number>();
  const own = todayOf(story, config)?.matched ?? [];
  const waitIn = queues.filter(({ trigger, waiting }) => waiting > 0 && own.includes(trigger));
  if (waitIn.length === 0 || story.jobs.size > 0) return ahead;
  const before = all
    .slice(0, all.indexOf(story))
    .filter(({ jobs, announced }) => jobs.size === 0 && announced.length === 0)
    .slice(-MOST_AHEAD)
    .map((one) => todayOf(one, config)?.matched ?? []);
  for (const { trigger, waiting } of waitIn) {
    const count = before.filter((matched) => matched.includes(trigger)).length;
    ahead.set(trigger, Math.min(count, waiting - 1));
  }
  return ahead;
}

/** The last lines of a job's log. Only a regular file is read. */
export async function logEnd(
  shell: Shell,
  directory: string,
  lines = LOG_LINES,
  bytes = LOG_BYTES,
): Promise<string[]> {
  const log = quote(`${directory}/job.log`);
  const script = `[ -f ${log} ] && [ ! -L ${log} ] && tail -c ${bytes} -- ${log} | tail -n ${lines}`;
  const { stdout } = await shell.run(within(READ_SECONDS, script), { timeout: TIMEOUT_MS });
  return stdout
    .toString("utf8")
    .split("\n")
    .filter((line) => line !== "");
}

/** Of data that is waited for: whether it is there now, and what else is in its folder. */
async function dataNow(story: Story, { sessions, shells }: AskDeps): Promise<Map<string, DataNow>> {
  const found = new Map<string, DataNow>();
  const last = story.announced.at(-1);
  if (last?.outcome !== "deferred" || !/^data-/.test(last.data.error?.code ?? "")) return found;
  const session: Session = await sessions.find(last.data.beamtimeId ?? undefined, last.data.paths);
  const shell = await shells.open(requireOnline(session));
  const [path] = last.data.paths;
  if (path === undefined) return found;
  const core = path.startsWith(`${session.roots.core}/`) ? path : toCorePath(path, session.roots);
  const folder = quote(posix.dirname(core));
  const script = `[ -e ${quote(core)} ] && echo there || echo missing
find ${folder} -maxdepth 1 -type f -printf '%T@ %f\\n' 2>/dev/null | sort -n | tail -n 1
date +%s`;
  const { stdout } = await shell.run(within(READ_SECONDS, script), { timeout: TIMEOUT_MS });
  const lines = stdout.toString("utf8").trim().split("\n");
  const [, at = "", name = ""] = /^(\d+)(?:\.\d+)? (.*)$/.exec(lines[1] ?? "") ?? [];
  const newest = name === "" ? null : { name, ageSeconds: Number(lines.at(-1)) - Number(at) };
  found.set(path, { isThere: lines[0] === "there", newest });
  return found;
}

/** Jobs of the same trigger that failed with the same first sentence. */
function alikeOf(failed: readonly JobEventData[], all: readonly Story[]): Live["alike"] {
  const found = new Map<string, { count: number; since: number }>();
  for (const { job, error } of failed) {
    const why = firstSentence(error?.message ?? "");
    const same = all
      .flatMap(({ jobs }) => [...jobs.values()].map(({ data }) => data))
      .filter((one) => one.job.state === job.state && one.job.trigger === job.trigger)
      .filter((one) => firstSentence(one.error?.message ?? "") === why);
    const since = Math.min(...same.map(({ times }) => Date.parse(times.ended ?? "") || Infinity));
    found.set(job.id, { count: same.length, since });
  }
  return found;
}
