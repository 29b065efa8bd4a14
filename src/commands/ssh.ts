import { spawn, type ChildProcess } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import type { PrivateKey } from "../beamtime/private-key.ts";
import { requireOnline, type OnlineSession, type Sessions } from "../beamtime/session.ts";
import { MentoError, Misconfigured, Unavailable, errorText } from "../errors.ts";
import { reservationsNow } from "../beamtime/reservation.ts";
import { knownHostsLine } from "../shells/known-hosts.ts";
import { quoteAll } from "../shells/quote.ts";
import { SshConnection, type SshTarget } from "../shells/ssh-connection.ts";
import { throwForPeople } from "./beamtime.ts";
import { CONFIG_OPTION, openConfig } from "./open-config.ts";
import { openSessions, type OpenSessions } from "./open-sessions.ts";
import { signalStatus } from "./signal-status.ts";

export function sshCommand(): Command {
  return new Command("ssh")

    .usage("[options] [node] [-- command...]")
    .argument("[node]", "default: the first reserved node that answers")
    .argument("[command...]", "each word arrives as it stands; no shell reads it")
    .option(...CONFIG_OPTION)
    .option("--session <id>", "default: the session that is open at the beamline")
    .action(async (_node: unknown, _words: unknown, options: SshOptions, command: Command) => {
      const { node, words } = splitOperands(command.args, process.argv);
      process.exitCode = await ssh(node, words, options);
    });
}

interface SshOptions {
  config?: string;
  session?: string;
}

/** Commander drops the `--`; what stands behind it is the command, also where no node is named. */
export function splitOperands(operands: readonly string[], argv: readonly string[]) {
  const dashes = argv.indexOf("--");
  const words = dashes < 0 ? [] : argv.slice(dashes + 1);
  const [node, unexpected] = operands.slice(0, operands.length - words.length);
  if (unexpected === undefined) return { node, words };
  throw new Misconfigured({
    code: "wrong-usage",
    message: `"${unexpected}" is too much: only a node stands before the --.`,
    hint: "Put the command behind it: mento ssh [NODE] -- COMMAND …",
  });
}

async function ssh(node: string | undefined, words: string[], options: SshOptions): Promise<number> {
  const config = openConfig(options.config);
  const open = openSessions(config);
  let child: ChildProcess | undefined;
  const onSignal = (signal: NodeJS.Signals) => {
    if (child?.kill(signal) === true) return;
    open.close();
    process.exit(signalStatus(signal));
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, onSignal);
  try {
    const session = await findSession(open.sessions, options.session).catch(throwForPeople);
    const key = await open.shells.readKey(session);
    const targets = await wantedTargets(node, session, key, open);
    const { connectTimeoutMs } = config.ssh;
    const { target, hostKey } = await firstThatAnswers(targets, session.id, open, connectTimeoutMs);
    const knownHostsFile = join(open.runtime.ofProcess, "known_hosts");
    writeFileSync(knownHostsFile, `${knownHostsLine(hostKey, target)}\n`, { mode: 0o600 });
    const args = sshArguments({
      ...{ target, words, knownHostsFile, connectTimeoutMs },
      keyFile: key.file,
      isTerminal: process.stdin.isTTY,
    });
    child = spawn("ssh", args, { stdio: "inherit" });
    return await endOf(child);
  } finally {
    open.close();
  }
}

async function findSession(sessions: Sessions, id: string | undefined): Promise<OnlineSession> {
  if (id !== undefined) return requireOnline(await sessions.find(id));
  const { open, broken } = await sessions.open();
  const [first, second] = open;
  if (first === undefined || broken !== undefined) return requireOnline(await sessions.find(undefined));
  if (second === undefined) return requireOnline(first);
  throw new Misconfigured({
    code: "session-unclear",
    message: `${open.map(({ id }) => id).join(" and ")} are open at once.`,
    hint: `Say which one: --session ${first.id}`,
  });
}

/** The one node that is named, else all that can be tried. */
async function wantedTargets(
  node: string | undefined,
  session: OnlineSession,
  key: PrivateKey,
  open: OpenSessions,
): Promise<SshTarget[]> {
  const { shells } = open;
  const named = shells.targets(session, key);
  const found = named.filter(({ name }) => node === undefined || name === node);
  if (found.length > 0) return found;
  // Slurm may have replaced nodes since the metadata file was written.
  const { account } = session.online;
  const reserved = shells.targets({ online: { account, nodes: await reservedNow(session, open) } }, key);
  const replaced = reserved.filter(({ name }) => name === node);
  if (replaced.length > 0) return replaced;
  throw new Misconfigured({
    code: "wrong-usage",
    message: `${node ?? ""} is not reserved for ${session.id}.`,
    hint: `Reserved are ${reserved.map(({ name }) => name).join(", ")}; without a name, the first that answers is taken.`,
  });
}

async function reservedNow(session: OnlineSession, { places }: OpenSessions) {
  try {
    const now = reservationsNow(session.online, await places.slurmNow(session));
    return now.flatMap((one) => one.slurm?.nodes ?? one.nodes);
  } catch (error) {
    if (!(error instanceof MentoError)) throw error;
    return session.online.nodes;
  }
}

/**
 * OpenSSH knows neither pinned fingerprints nor our rules for new keys. So one connection of our own judges the node's
 * key, and ssh(1) is then told to accept exactly that one.
 */
async function firstThatAnswers(
  targets: readonly SshTarget[],
  sessionId: string,
  { shells }: OpenSessions,
  timeout: number,
): Promise<{ target: SshTarget; hostKey: Buffer }> {
  const rules = shells.hostKeyRules(sessionId);
  const silent: MentoError[] = [];
  for (const target of targets) {
    try {
      const connection = await SshConnection.open(target, rules, timeout, () => undefined);
      connection.close();
      return { target, hostKey: connection.hostKey };
    } catch (error) {
      if (!(error instanceof MentoError) || error.code !== "ssh-unreachable") throw error;
      silent.push(error);
    }
  }
  const [first, second] = silent;
  if (first !== undefined && second === undefined) throw first;
  throw new Unavailable({
    code: "ssh-unreachable",
    message: `No reserved node answers. ${silent.map(({ message }) => message).join(" ")}`,
    hint: first?.hint ?? "",
  });
}

/** No configuration file is read: what a user has set for ssh would work here, and not in the worker. */
export function sshArguments(call: {
  target: SshTarget;
  /** The command; none for a shell. */
  words: readonly string[];
  keyFile: string;
  knownHostsFile: string;
  connectTimeoutMs: number;
  isTerminal: boolean;
}): string[] {
  const { target, words, keyFile, knownHostsFile, connectTimeoutMs, isTerminal } = call;
  const options = {
    BatchMode: "yes",
    IdentityFile: path(keyFile),
    IdentitiesOnly: "yes",
    IdentityAgent: "none",
    PreferredAuthentications: "publickey",
    GSSAPIAuthentication: "no",
    StrictHostKeyChecking: "yes",
    UserKnownHostsFile: path(knownHostsFile),
    GlobalKnownHostsFile: "/dev/null",
    HostKeyAlias: target.name,
    HostName: target.address.replaceAll("%", "%%"),
    ConnectTimeout: String(Math.ceil(connectTimeoutMs / 1000)),
    ServerAliveInterval: "10",
    ServerAliveCountMax: "3",
  };
  return [
    ...["-F", "/dev/null", "-l", target.account, "-p", String(target.port)],
    ...Object.entries(options).flatMap(([name, value]) => ["-o", `${name}=${value}`]),
    ...(words.length > 0 ? [] : [isTerminal ? "-t" : "-T"]),
    ...["--", target.name],
    ...(words.length > 0 ? [quoteAll(words)] : []),
  ];
}

/** ssh(1) takes `%` for the beginning of a token, and a space for the end of a path. */
function path(file: string): string {
  return `"${file.replaceAll("%", "%%")}"`;
}

function endOf(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    child.on("error", (cause) => reject(notInstalled(cause)));
    child.on("close", (code, signal) => resolve(exitStatusOf(code, signal)));
  });
}

function exitStatusOf(code: number | null, signal: NodeJS.Signals | null): number {
  return code ?? (signal === null ? 128 : signalStatus(signal));
}

function notInstalled(cause: Error): Misconfigured {
  return new Misconfigured({
    code: "ssh-not-installed",
    message: `The program ssh cannot be started: ${errorText(cause)}.`,
    hint: "Install OpenSSH's client (Debian: openssh-client); mento worker needs none.",
    cause,
  });
}
