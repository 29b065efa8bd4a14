import { stat } from "node:fs/promises";
import { Command } from "commander";
import type { SessionReservation } from "../beamtime/online-analysis.ts";
import type { SessionRoots } from "../beamtime/paths.ts";
import { requireOnline, type OnlineSession, type Sessions, type Session } from "../beamtime/session.ts";
import { duration, isoTime, localTime } from "../doctor/words.ts";
import { exitStatusOf, MentoError, type ErrorCode } from "../errors.ts";
import type { SlurmNow } from "../slurm/slurm-now.ts";
import { reservationsNow, type ReservationNow } from "../beamtime/reservation.ts";
import { printJson, printLines } from "../text/terminal.ts";
import { CONFIG_OPTION, openConfig } from "./open-config.ts";
import { openSessions, type OpenSessions } from "./open-sessions.ts";

export function beamtimeCommand(): Command {
  const show = new Command("show")
    .description("print what is open at the beamline, or one session, as the worker sees it")
    .argument("[id]", "a beamtime or commissioning run, open or only on the core file system")
    .option(...CONFIG_OPTION)
    .option("--json", "one JSON object a line, one for each session")
    .action(showSessions);
  return new Command("beamtime").addCommand(show);
}

async function showSessions(
  id: string | undefined,
  options: { config?: string; json?: true },
): Promise<void> {
  const open = openSessions(openConfig(options.config));
  try {
    const { wanted, broken } = await sessionsWanted(open.sessions, id);
    const shown = await Promise.all(wanted.map((session) => report(session, open)));
    for (const [index, { report, exitStatus }] of shown.entries()) {
      if (options.json === true) printJson(report);
      else printLines([...(index === 0 ? [] : [""]), ...sessionLines(report)]);
      process.exitCode ||= exitStatus;
    }
    if (broken !== undefined) throw broken;
  } finally {
    open.close();
  }
}

async function sessionsWanted(sessions: Sessions, id: string | undefined) {
  if (id !== undefined) return { wanted: [await sessions.find(id)], broken: undefined };
  const { open, broken } = await sessions.open();
  if (open.length === 0 && broken === undefined) await sessions.find(undefined).catch(throwForPeople);
  return { wanted: open, broken };
}

/** A message would wait; a person does something. */
const HINTS: Partial<Record<ErrorCode, string>> = {
  "no-session-open": "Have one started. One that is only on the core file system is named by its id.",
  "no-online-resources": "Have it started with --online.",
  "metadata-unreadable": "If it stays so, ask the experts who started the beamtime.",
  "no-reservation-fits":
    "Ask for less time or other nodes; `mento beamtime show` says what is reserved and idle.",
};

export function throwForPeople(error: unknown): never {
  const hint = error instanceof MentoError ? HINTS[error.code] : undefined;
  if (!(error instanceof MentoError) || hint === undefined) throw error;
  throw new MentoError({ code: error.code, message: error.message, hint, cause: error });
}

/** One session as it is printed; with --json, as it stands here. */
export interface SessionReport {
  kind: Session["kind"];
  id: string;
  beamline: string;
  isOpen: boolean;
  paths: SessionRoots;
  metadataFile: string | null;
  /** Local times of the facility, without a zone. */
  eventStart: string | null;
  eventEnd: string | null;
  eventSecondsLeft: number | null;
  asapoEndpoint: string | null;
  /** These two are null for a session without online resources, or if its metadata file lacks them. */
  account: string | null;
  privateKey: { file: string; mode: string | null; type: string | null } | null;
  reservations: ReservationReport[];
  /** Why Slurm could not be asked: what stands above is what the metadata file says. */
  error: { code: string; message: string; hint: string } | null;
}

interface Shown {
  report: SessionReport;
  exitStatus: number;
}

export interface ReservationReport {
  /** null at a site that has none: the partition and nodes alone. */
  name: string | null;
  /** null: Slurm's default. */
  partition: string | null;
  /** null if Slurm has no such reservation, or was not asked. */
  slurm: {
    /** null: Slurm does not say it. */
    start: string | null;
    end: string | null;
    secondsToStart: number;
    secondsLeft: number | null;
    users: string[];
  } | null;
  nodes: NodeReport[];
  idleNodes: string[];
}

export interface NodeReport {
  name: string;
  /** `replaced`: the metadata file names it, and Slurm's reservation no longer has it. */
  state: "idle" | "in use" | "down" | "replaced" | "unknown";
  idleCpus: number | null;
  features: string[];
}

async function report(session: Session, { shells, places }: OpenSessions): Promise<Shown> {
  const { kind, id, beamline, isOpen, roots, metadataFile, eventStart, eventEnd, asapo } = session;
  const facts = {
    ...{ kind, id, beamline, isOpen, paths: roots, metadataFile, eventStart, eventEnd },
    eventSecondsLeft: secondsUntil(eventEnd),
    asapoEndpoint: asapo?.endpoint ?? null,
  };
  if (session.online === null) {
    const none = { account: null, privateKey: null, reservations: [], error: null };
    return { report: { ...facts, ...none }, exitStatus: 0 };
  }
  const online = requireOnline(session);
  let account: string | null = null;
  let privateKey: SessionReport["privateKey"] = null;
  let reservations: readonly SessionReservation[] = [];
  try {
    ({ account, reservations } = online.online);
    const { file } = online.online.privateKey;
    privateKey = { file, mode: await modeOf(file), type: null };
    privateKey.type = (await shells.readKey(online)).type;
    const now = await places.slurmNow(online);
    const asked = { reservations: reservationReports(online, now), error: null };
    return { report: { ...facts, account, privateKey, ...asked }, exitStatus: 0 };
  } catch (error) {
    if (!(error instanceof MentoError)) throw error;
    const { code, message, hint } = error;
    const notAsked = { reservations: reservations.map(asNamed), error: { code, message, hint } };
    return { report: { ...facts, account, privateKey, ...notAsked }, exitStatus: exitStatusOf(error) };
  }
}

async function modeOf(file: string): Promise<string | null> {
  try {
    return ((await stat(file)).mode & 0o777).toString(8).padStart(3, "0");
  } catch {
    return null;
  }
}

/** The facility's local time is taken for this host's. */
function secondsUntil(time: string | null): number | null {
  const at = Date.parse((time ?? "").replace(" ", "T"));
  return Number.isNaN(at) ? null : Math.round((at - Date.now()) / 1000);
}

/** As the metadata file alone has it. */
function asNamed({ name, partition, nodes }: SessionReservation): ReservationReport {
  const unknown = { state: "unknown", idleCpus: null, features: [] } as const;
  return {
    ...{ name, partition, slurm: null, idleNodes: [] },
    nodes: nodes.map((node) => ({ name: node, ...unknown, features: [] })),
  };
}

export function reservationReports(session: OnlineSession, now: SlurmNow): ReservationReport[] {
  return reservationsNow(session.online, now).map((one) => {
    const nodes = nodesOf(one, now);
    const isThere = one.name === null || one.slurm !== undefined;
    return {
      name: one.name,
      partition: one.slurm?.partition ?? one.partition,
      slurm:
        one.slurm === undefined
          ? null
          : {
              start: isoTime(one.slurm.start),
              end: isoTime(one.slurm.end),
              secondsToStart: Math.max(0, one.slurm.start - now.at),
              secondsLeft: isoTime(one.slurm.end) === null ? null : one.slurm.end - now.at,
              users: one.slurm.users,
            },
      nodes,
      idleNodes: nodes.filter(({ state }) => isThere && state === "idle").map(({ name }) => name),
    };
  });
}

function nodesOf({ nodes: named, slurm }: ReservationNow, now: SlurmNow): NodeReport[] {
  const reserved = slurm?.nodes ?? named;
  return [...new Set([...reserved, ...named])].map((name) => {
    const node = now.nodes.get(name);
    const about = { name, idleCpus: node?.idleCpus ?? null, features: node?.features ?? [] };
    if (!reserved.includes(name)) return { ...about, state: "replaced" };
    if (node === undefined) return { ...about, state: "unknown" };
    return { ...about, state: node.isIdle ? "idle" : node.isUp ? "in use" : "down" };
  });
}

/** The lines for a person. */
export function sessionLines(one: SessionReport): string[] {
  const kind = one.kind === "beamtime" ? "beamtime" : "commissioning run";
  const state = one.isOpen ? "open" : "NOT open at the beamline (not started yet, or ended)";
  const line = (label: string, text: string) => `  ${label.padEnd(14)} ${text}`;
  const whenOpen = one.isOpen ? "" : "  (only while it is open)";
  return [
    `${kind} ${one.id} at ${one.beamline}: ${state}`,
    line("at beamline", one.paths.beamline + whenOpen),
    line("on core", one.paths.core),
    line("on nodes", one.paths.node + whenOpen),
    line("metadata file", one.metadataFile ?? "none; the session is in the configuration (site.sessions)"),
    line("event", eventTimes(one)),
    line("asapo", one.asapoEndpoint ?? "none"),
    ...onlineLines(one, line),
  ];
}

function onlineLines(one: SessionReport, line: (label: string, text: string) => string): string[] {
  const { account, privateKey, error } = one;
  if ((account === null || privateKey === null) && error !== null) {
    return [line("online", `incomplete. ${error.message} [${error.code}]`)];
  }
  if (account === null || privateKey === null) {
    return [line("online", "no: it was started without --online; no job can run for it")];
  }
  const { file, mode, type } = privateKey;
  const key = mode === null ? "cannot be read" : `mode ${mode}, ${type ?? "cannot be used"}`;
  return [
    line("account", account),
    line("private key", `${file}  (${key})`),
    ...one.reservations.flatMap((reservation) => reservationLines(reservation, error === null, line)),
    ...(error === null ? [] : [line("Slurm", `could not be asked. ${error.message} [${error.code}]`)]),
  ];
}

function reservationLines(
  { name, partition, slurm, nodes, idleNodes }: ReservationReport,
  isAsked: boolean,
  line: (label: string, text: string) => string,
): string[] {
  const what = `${name ?? "none"}, partition ${partition ?? "unknown"}`;
  const widest = (texts: string[]) => Math.max(...texts.map(({ length }) => length));
  const reserved = nodes.filter(({ state }) => state !== "replaced");
  const idle =
    isAsked && (name === null || slurm !== null)
      ? [`${idleNodes.length} of ${reserved.length} nodes idle`]
      : [];
  const [names, states] = [widest(nodes.map((node) => node.name)), widest(nodes.map(nodeState))];
  return [
    line("reservation", [what, ...reservationState(name, slurm, isAsked), ...idle].join(", ")),
    ...nodes.map((node) => {
      const columns = [node.name.padEnd(names), nodeState(node).padEnd(states), node.features.join(",")];
      return line("", isAsked ? columns.join("  ").trimEnd() : node.name);
    }),
  ];
}

function reservationState(
  name: string | null,
  slurm: ReservationReport["slurm"],
  isAsked: boolean,
): string[] {
  if (slurm === null) return name === null || !isAsked ? [] : ["UNKNOWN to Slurm"];
  const { start, end, secondsToStart, secondsLeft } = slurm;
  if (start !== null && secondsToStart > 0) {
    return [`begins ${localTime(start)}, in ${duration(secondsToStart)}`];
  }
  if (end === null || secondsLeft === null) return ["with an end that Slurm does not say"];
  return [`until ${localTime(end)}, ${timeLeft(secondsLeft)}`];
}

function nodeState({ state, idleCpus }: NodeReport): string {
  if (state === "in use") return `in use, ${idleCpus ?? 0} CPUs idle`;
  return state === "replaced" ? "no longer in the reservation" : state;
}

function eventTimes({ eventStart, eventEnd, eventSecondsLeft }: SessionReport): string {
  if (eventStart === null && eventEnd === null) return "no times given";
  const left = eventSecondsLeft === null ? "" : `, ${timeLeft(eventSecondsLeft)}`;
  return `${eventStart ?? "?"} to ${eventEnd ?? "?"}${left}`;
}

function timeLeft(seconds: number): string {
  return seconds > 0 ? `${duration(seconds)} left` : `OVER for ${duration(-seconds)}`;
}
