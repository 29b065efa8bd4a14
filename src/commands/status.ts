import { Command } from "commander";
import { readTopology } from "../broker/topology.ts";
import type { BrokerClient } from "../broker/client.ts";
import type { MentoConfig } from "../config/config.ts";
import { errorText, MentoError } from "../errors.ts";
import { shortText, wrapped, type Layout } from "../text/layout.ts";
import { clearScreen, layoutHere, plainLine, printJson, printLine, printToned } from "../text/terminal.ts";
import { needsOf, standingsOf, type Standings, type TriggerStanding } from "../trace/standing.ts";
import { workersIn, type WorkerSeen } from "../trace/workers.ts";
import { nearMissesOf, type NearMiss } from "../trace/near-misses.ts";
import {
  backlogTakes,
  reservationLines,
  reservationNeeds,
  reservationsLeft,
  type ReservationLeft,
} from "../trace/reservations.ts";
import type { OnlineSession, Session } from "../beamtime/session.ts";
import { within } from "../time/within.ts";
import { historySince } from "../broker/history.ts";
import { readHeartbeat, type Heartbeat } from "../messages/heartbeat.ts";
import { clock, duration, STANDINGS } from "../trace/words.ts";
import { countsJobs } from "../triggers/queue-position.ts";
import { CONFIG_OPTION, connectFromConfig, openConfig } from "./open-config.ts";
import { openSessions, type OpenSessions } from "./open-sessions.ts";
import { StoryReader } from "./read-stories.ts";

interface StatusOptions {
  config?: string;
  json?: true;
  watch?: true;
}

const DAY_MS = 24 * 3600_000;
const HOUR_MS = 3600_000;
const WATCH_EVERY_MS = 2_000;

export function statusCommand(): Command {
  return new Command("status")
    .option(...CONFIG_OPTION)
    .option("--json", "one JSON object")
    .option("--watch", "again every 2 s, until Ctrl-C")
    .addHelpText("after", '\nOne screen for "are we all right?". Exit 1 when something needs a person.')
    .action(status);
}

/** Something that a person must see to, and what to do. */
interface Need {
  what: string;
  command: string | null;
}

async function status({ config: file, json, watch }: StatusOptions): Promise<void> {
  const config = openConfig(file);
  const client = await connectFromConfig(config, "status");
  const open = openSessions(config);
  const names = config.triggers.map(({ name }) => name);
  const reader = new StoryReader(client, new Date(Date.now() - DAY_MS));
  try {
    for (;;) {
      const now = Date.now();
      const { stories, blocked } = await reader.update();
      const standings = standingsOf(stories, names, now);
      const workers = await workersNow(client, now);
      // It says so only to whoever publishes, and some time later.
      const broker = await brokerNow(config, client, blocked ?? client.link.blocked, workers);
      const sessions = await sessionsNow(open, backlogTakes(standings));
      const nearMisses = nearMissesOf(stories, config.triggers);
      const needs = [
        ...broker.needs,
        // A worker cannot say that it is there while the broker takes nothing.
        ...(broker.facts.blocked === null ? workersNeeds(workers, config) : []),
        ...sessions.needs,
        ...needsIn(standings),
      ];
      if (watch === true) clearScreen();
      if (json === true)
        printJson({
          ...{ needs, broker: broker.facts, sessions: sessions.ids, reservations: sessions.reservations },
          ...{ workers, ...standings, nearMisses },
        });
      else show({ config, standings, nearMisses, needs, broker, workers, sessions, now }, layoutHere());
      process.exitCode = needs.length > 0 ? 1 : 0;
      if (watch !== true) return;
      await new Promise((resolve) => setTimeout(resolve, WATCH_EVERY_MS));
    }
  } finally {
    open.close();
    await client.close();
  }
}

async function brokerNow(
  { worker, triggers }: MentoConfig,
  { link, topology }: BrokerClient,
  blocked: string | undefined,
  workers: readonly WorkerSeen[],
) {
  const counted = triggers.filter(countsJobs).map(({ name }) => name);
  const { intake, dead, triggerQueues } = await readTopology(link, topology, counted);
  const { product, version } = link.consuming.connection.serverProperties;
  const needs: Need[] = [];
  const waiting = intake?.waiting ?? 0;
  const wait = `${waiting} ${waiting === 1 ? "waits" : "wait"}`;
  const isThere = workers.some(({ group, isSilent }) => group === worker.group && !isSilent);
  // While it is blocked they take no messages by themselves.
  if (blocked === undefined && (intake === undefined || (intake.consumers === 0 && !isThere)))
    needs.push({
      what: `No worker of group ${worker.group} takes messages: ${wait}`,
      command: "mento worker",
    });
  else if (blocked === undefined && intake?.consumers === 0)
    needs.push({
      what: `The workers of group ${worker.group} take no messages for the moment, until the node or Slurm of their session is back: ${wait}`,
      command: "mento doctor",
    });
  if (blocked !== undefined)
    needs.push({
      what: `RabbitMQ blocks whoever publishes (${blocked}): free memory or disk on its host`,
      command: null,
    });
  const facts = {
    ...{ version: `${product} ${version} at ${link.place}`, blocked: blocked ?? null, dead },
    ...{ workers: intake?.consumers ?? 0, waiting, triggerQueues },
  };
  return { needs, facts };
}

/** Those that were there in the last hour. Before the first worker there is no stream. */
async function workersNow(client: BrokerClient, now: number): Promise<WorkerSeen[]> {
  const beats: Heartbeat[] = [];
  const since = new Date(now - HOUR_MS);
  try {
    for await (const { content } of historySince(
      client,
      since,
      () => undefined,
      client.topology.workersStream,
    )) {
      const beat = readHeartbeat(content);
      if (beat !== undefined) beats.push(beat);
    }
  } catch (error) {
    if (!(error instanceof MentoError && error.code === "exchange-missing")) throw error;
  }
  return workersIn(beats, now);
}

function workersNeeds(workers: readonly WorkerSeen[], { worker }: MentoConfig): Need[] {
  const silent = workers.filter(({ isSilent }) => isSilent);
  const needs: Need[] = silent.map(({ host, pid, group, silentFor }) => ({
    what: `The worker of group ${group} on ${host} (process ${pid}) has been silent for ${duration(silentFor)}: it has ended without a word, hangs, or is cut off`,
    command: null,
  }));
  const own = workers.filter(({ group, isSilent }) => group === worker.group && !isSilent);
  const digests = new Set(own.map(({ configuration }) => configuration));
  if (digests.size > 1)
    needs.push({
      what: `Workers of group ${worker.group} have ${digests.size} different configurations: ${own.map(({ host, configuration }) => `${host} ${configuration}`).join(", ")}`,
      command: null,
    });
  return needs;
}

interface SessionsNow {
  needs: Need[];
  ids: string[];
  reservations: ReservationLeft[];
}

/** So long a node may take to say how the reservations stand. */
const ASK_MS = 10_000;

/** @param takes milliseconds that the backlog needs; null: nobody can tell */
async function sessionsNow({ sessions, places }: OpenSessions, takes: number | null): Promise<SessionsNow> {
  try {
    const { open, broken } = await sessions.open();
    const asked = await Promise.all(
      open.filter(isOnline).map(async (session) => {
        try {
          const said = await within(ASK_MS, places.slurmNow(session));
          if ("value" in said) return { left: reservationsLeft(session, said.value), why: null };
          return { left: [], why: `${session.id}: no answer in ${ASK_MS / 1000} s` };
        } catch (error) {
          return { left: [], why: errorText(error) };
        }
      }),
    );
    const reservations = asked.flatMap(({ left }) => left);
    const needs: Need[] = open.flatMap((session) =>
      needsOf(session).map((what) => ({ what, command: "mento beamtime show" })),
    );
    for (const what of reservationNeeds(reservations, takes)) needs.push({ what, command: "mento doctor" });
    for (const { why } of asked)
      if (why !== null)
        needs.push({ what: `The reservations are not known: ${why}`, command: "mento doctor" });
    if (broken !== undefined) needs.push({ what: errorText(broken), command: "mento doctor" });
    if (open.length === 0 && broken === undefined)
      needs.push({ what: "No beamtime is open", command: "mento beamtime show" });
    return { needs, ids: open.map(({ id, beamline }) => `${id} at ${beamline}`), reservations };
  } catch (error) {
    return { needs: [{ what: errorText(error), command: "mento doctor" }], ids: [], reservations: [] };
  }
}

function isOnline(session: Session): session is OnlineSession {
  return session.online !== null;
}

/** So long data may be unfinished before a person is asked to look. */
const LATE_MS = 15 * 60_000;

function needsIn({ failures, rejected, waiting, oldest }: Standings): Need[] {
  const needs: Need[] = failures.slice(0, 5).map(({ trigger, why, count, since }) => ({
    what: `${trigger} failed ${count === 1 ? "once" : `${count} times alike`} since ${clock(since)}: ${why}`,
    command: `mento jobs --trigger ${trigger} --state failed`,
  }));
  // Data that is not there yet comes by itself.
  for (const { code, count, since } of waiting.filter((one) => !one.code.startsWith("data-")))
    needs.push({
      what: `${count} message${count === 1 ? " waits" : "s wait"} since ${clock(since)}: ${code}`,
      command: "mento jobs --state waiting",
    });
  for (const { code, count, since } of rejected)
    needs.push({
      what: `${count} message${count === 1 ? "" : "s"} rejected since ${clock(since)}: ${code}`,
      command: "mento jobs --state rejected",
    });
  if (oldest !== null && Date.now() - oldest.arrived > LATE_MS)
    needs.push({
      what: `${oldest.name} is unfinished for ${duration(Date.now() - oldest.arrived)}: ${oldest.standing}`,
      command: `mento trace ${oldest.name}`,
    });
  return needs;
}

interface Shown {
  config: MentoConfig;
  standings: Standings;
  needs: readonly Need[];
  broker: Awaited<ReturnType<typeof brokerNow>>;
  workers: readonly WorkerSeen[];
  sessions: SessionsNow;
  nearMisses: readonly NearMiss[];
  now: number;
}

function show(
  { config, standings, nearMisses, needs, broker, workers, sessions, now }: Shown,
  layout: Layout,
): void {
  const { paces, oldest, unfinished, all, triggers } = standings;
  const title = sessions.ids.length === 0 ? "no session is open" : sessions.ids.join(", ");
  printLine(`${plainLine(title, 60)}   ${zoned(now)}`);
  printLine("");
  const late = oldest === null ? 0 : now - oldest.arrived;
  const [, tenMinutes] = paces;
  const isBehind = late > 60_000 && tenMinutes !== undefined && tenMinutes.done < tenMinutes.arrived;
  const isStill = broker.facts.blocked !== null || broker.facts.workers === 0;
  const head = isStill
    ? "Nothing is taken at the moment."
    : isBehind
      ? "Analysis falls behind."
      : unfinished === 0
        ? "Nothing is unfinished."
        : "Analysis keeps up.";
  // Of a message that tells no time, before the first event, nobody knows when it came.
  const since = oldest === null ? "" : ` Oldest unfinished ${duration(late)} ·`;
  const age = unfinished === 0 ? "" : `${since} ${unfinished} unfinished`;
  const isBad = isBehind || isStill;
  const mark = layout.isUtf8 ? (isBad ? "▲" : "✓") : isBad ? "!" : "+";
  const tone = isBad ? "attention" : "good";
  const [first = "", ...more] = wrapped(`${mark} ${head}${age} of ${all} in 24 h`, layout.width, "  ");
  printToned(first, layout.hasColour ? tone : null);
  for (const line of more) printLine(line);
  const rates = paces.map(
    ({ milliseconds, arrived, done }) => `last ${duration(milliseconds)} ${arrived} / ${done}`,
  );
  for (const line of wrapped(`  arrived / done   ${rates.join(" · ")}`, layout.width, " ".repeat(19)))
    printLine(line);
  for (const line of reservationLines(sessions.reservations, backlogTakes(standings), now))
    for (const part of wrapped(`  reservation      ${plainLine(line, 200)}`, layout.width, " ".repeat(19)))
      printLine(part);
  printLine("");
  if (needs.length > 0) {
    printLine(`Needs you: ${needs.length}`);
    for (const { what, command } of needs) {
      const [first = "", ...rest] = wrapped(
        `  ${layout.isUtf8 ? "✕" : "x"} ${plainLine(what)}`,
        layout.width,
        "    ",
      );
      printToned(first, layout.hasColour ? "bad" : null);
      for (const line of rest) printLine(line);
      if (command !== null) printLine(`      ${command}`);
    }
    printLine("");
  }
  showTriggers(triggers, nearMisses, layout);
  printLine("");
  const { facts } = broker;
  printLine(`Broker       ${facts.version}${facts.blocked === null ? "" : ", blocked"}`);
  printLine(`Workers      ${facts.workers} on group ${config.worker.group}`);
  for (const { host, group, version, configuration, state, isSilent, silentFor } of workers) {
    const seen = isSilent ? `silent for ${duration(silentFor)}` : `${state}, ${duration(silentFor)} ago`;
    const one = isSilent ? "failed" : "completed";
    const { mark, ascii } = STANDINGS[one];
    const cells = [host, `group ${group}`, version, `configuration ${configuration}`, seen];
    const text = `             ${layout.isUtf8 ? mark : ascii} ${cells.map((cell) => plainLine(cell, 100)).join("  ")}`;
    const [first = "", ...more] = wrapped(text, layout.width, " ".repeat(15));
    printToned(first, layout.hasColour && isSilent ? "bad" : null);
    for (const line of more) printLine(line);
  }
  const queued = facts.triggerQueues.filter(({ waiting }) => waiting > 0);
  const places = [
    `${facts.waiting} before the workers`,
    ...queued.map(({ trigger, waiting }) => `${waiting} for ${trigger}`),
  ];
  printLine(`Queues       ${places.join(", ")}`);
  const waits = standings.waiting.map(({ code, count, since: from }) => {
    return `${count} ${code}, the first since ${duration(now - from)}`;
  });
  for (const line of wrapped(`Deferred     ${waits.join("; ") || "none"}`, layout.width, " ".repeat(13)))
    printLine(line);
  printLine(`Dead         ${facts.dead === 0 ? "none" : `${facts.dead}: mento dead list`}`);
}

function showTriggers(
  triggers: readonly TriggerStanding[],
  nearMisses: readonly NearMiss[],
  layout: Layout,
): void {
  const width = Math.min(24, Math.max(8, ...triggers.map(({ trigger }) => trigger.length)));
  printLine(
    `${"Triggers".padEnd(width + 2)} ${"24 h".padStart(6)}  ${"unfinished".padEnd(22)} ${"failed".padStart(6)}  time to end`,
  );
  for (const { trigger, today, unfinished, failed, median, p95 } of triggers) {
    const open = Object.entries(unfinished).map(([standing, count]) => `${count} ${standing}`);
    const times = median === null || p95 === null ? "" : `${duration(median)}, 95 % ${duration(p95)}`;
    const cells = [
      `  ${shortText(trigger, width).padEnd(width)}`,
      String(today).padStart(6),
      ` ${open.join(", ").padEnd(22)}`,
      (failed === 0 ? "" : String(failed)).padStart(6),
      ` ${times}`,
    ];
    printLine(cells.join(" ").trimEnd());
    const miss = nearMisses.find((one) => one.trigger === trigger);
    if (miss === undefined) continue;
    const messages = miss.count === 1 ? "1 message" : `${miss.count} messages`;
    const text = `      nothing matched it; nearest miss: ${plainLine(miss.reason, 300)} (${messages})`;
    for (const line of wrapped(text, layout.width, "      ")) printLine(line);
  }
}

/** `03:12:04 +01:00`. */
function zoned(now: number): string {
  const offset = -new Date(now).getTimezoneOffset();
  const two = (value: number) => String(Math.floor(Math.abs(value))).padStart(2, "0");
  return `${clock(now)} ${offset < 0 ? "-" : "+"}${two(offset / 60)}:${two(offset % 60)}`;
}
