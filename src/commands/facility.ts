import { Command, InvalidArgumentError, Option } from "commander";
import {
  down,
  type FacilityDescription,
  type FacilityStatus,
  status,
  stay,
  up,
} from "../facility/facility.ts";
import { describeSession, stageOf } from "../facility/open-sessions.ts";
import { startBeamtime } from "../facility/start-beamtime.ts";
import { startCommissioning } from "../facility/start-commissioning.ts";
import type { TypedOptions } from "../facility/start-options.ts";
import { stopBeamtime, stopCommissioning } from "../facility/stop-session.ts";
import type { OpenSession } from "../facility/state.ts";
import { wrongUsage } from "../facility/wrong-usage.ts";
import { printJson, printLine, printLines, sayLine } from "../text/terminal.ts";

/** `mento facility …`: all that a beamline has around Mento, on one machine. */
export function facilityCommand(): Command {
  return new Command("facility")

    .addCommand(upCommand())
    .addCommand(downCommand())
    .addCommand(statusCommand())
    .addCommand(startBeamtimeCommand())
    .addCommand(stopBeamtimeCommand())
    .addCommand(startCommissioningCommand())
    .addCommand(stopCommissioningCommand());
}

interface UpArguments {
  dir: string;
  json?: true;
  syncDelay?: number;
  broker: boolean;
  install: boolean;
  foreground?: true;
  listen?: string;
  sshPort?: number;
  restPort?: number;
  workerUid?: number;
}

function upCommand(): Command {
  return facilitySubcommand("up", "start what is not running, and wait until all of it is ready")
    .option("--json", "print every endpoint and path as one JSON object")
    .option("--sync-delay <seconds>", "delay of the copy from beamline to core (default: 0)", parseSeconds)
    .option("--no-broker", "of a new facility: without RabbitMQ, where another is used")
    .option("--no-install", "fail if packages are missing, instead of installing them")
    .option(
      "--foreground",
      "stay until SIGTERM or Ctrl-C, and end all of it; fail if a server ends by itself",
    )
    .option(
      "--listen <address>",
      "of a new facility: where sshd and slurmrestd listen, for workers elsewhere",
    )
    .option("--ssh-port <port>", "with --listen: of sshd (default: 2222)", parsePort)
    .option("--rest-port <port>", "with --listen: of slurmrestd (default: 6820)", parsePort)
    .option("--worker-uid <number>", "with --listen: whose the sessions' private keys are", parseUid)
    .action(async ({ dir, json, syncDelay, broker, install, foreground, ...typed }: UpArguments) => {
      const { listen: address, sshPort = 2222, restPort = 6820, workerUid = null } = typed;
      if (address === undefined && Object.keys(typed).length > 0) {
        throw wrongUsage(
          "--ssh-port, --rest-port and --worker-uid are for workers elsewhere.",
          "Give --listen, too, such as --listen 0.0.0.0.",
        );
      }
      const stop = foreground === true ? untilSignal() : undefined;
      const facility = await up(
        dir,
        {
          ...(syncDelay !== undefined && { syncDelaySeconds: syncDelay }),
          ...(address !== undefined && { serving: { address, sshPort, restPort, workerUid } }),
          ...{ hasBroker: broker, mayInstall: install },
        },
        sayLine,
      );
      if (json === true) printJson(facility);
      else printLines(summary(facility));
      if (stop !== undefined) await stay(dir, stop, sayLine);
    });
}

function untilSignal(): AbortSignal {
  const stop = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => stop.abort());
  return stop.signal;
}

function downCommand(): Command {
  return facilitySubcommand("down", "end all of its processes; data and ports stay").action(
    async ({ dir }: { dir: string }) => {
      await down(dir, { cancelsJobs: true }, sayLine);
    },
  );
}

function statusCommand(): Command {
  return facilitySubcommand("status", "show what runs, what is open, and what is reserved")
    .option("--json", "print one JSON object")
    .action(async ({ dir, json }: { dir: string; json?: true }) => {
      const facility = await status(dir);
      if (json === true) printJson(facility);
      else printLines(statusTable(facility));
      if (!facility.running) process.exitCode = 1;
    });
}

interface SessionArguments {
  dir: string;
  beamline: string;
  verbose?: true;
}

interface StartArguments extends SessionArguments, TypedOptions {
  json?: true;
}

function startBeamtimeCommand(): Command {
  const command = facilitySubcommand(
    "start-beamtime",
    "open or pre-start a beamtime, as the facility's startBeamtime does",
  )
    .requiredOption("--beamtimeId <id>", "the beamtime's id, such as 11010000")
    .requiredOption("--beamline <beamline>", "the beamline, such as p11")
    .option("--online", "reserve nodes now, with an account and an SSH key for online analysis")
    .option("--pre-start", "only on the core file system, with a reservation on a shared node")
    .option("--archive", "archive the data, of proposal type P only (accepted; there is no archive here)")
    .option("--proposalType <type>", "H, I, II, C or P, for example; P needs dedicated nodes (default: H)");
  return withStartOptions(command).action(
    async ({
      dir,
      beamtimeId,
      beamline,
      verbose,
      json,
      ...typed
    }: StartArguments & { beamtimeId: string }) => {
      const say = json === true ? () => undefined : sayAsTheRealTool(verbose === true);
      const started = await startBeamtime(dir, { beamtimeId, beamline }, typed, say);
      if (json === true) printJson(started);
    },
  );
}

function startCommissioningCommand(): Command {
  const command = facilitySubcommand(
    "start-commissioning",
    "open a commissioning run, as the facility's startCommissioning does",
  )
    .requiredOption("--tag <tag>", "at most 8 characters; the run's id ends with it")
    .requiredOption("--beamline <beamline>", "the beamline, such as p11")
    .option("--online", "reserve nodes, with an account and an SSH key for online analysis");
  return withStartOptions(command).action(
    async ({ dir, tag, beamline, verbose, json, ...typed }: StartArguments & { tag: string }) => {
      const say = json === true ? () => undefined : sayAsTheRealTool(verbose === true);
      const started = await startCommissioning(dir, { tag, beamline }, typed, say);
      if (json === true) printJson(started);
    },
  );
}

function withStartOptions(command: Command): Command {
  return command
    .option("--resources <which>", "common or dedicated nodes (default: common)")
    .option("--feature <feature>", "of each node, as for sbatch --constraint; F:F… for each reservation")
    .addOption(new Option("--features <feature>", "the same").hideHelp())
    .option("--nodes <number>", "how many; N:N… makes several reservations")
    .option("--duration <time>", "of the reservations: 8h, 20m, 90s, HH:MM:SS or D-HH:MM:SS (default: 8h)")
    .option("--asapo", "with tokens for ASAP::O")
    .option("--verbose", "print each step")
    .option("--json", "print one JSON object");
}

function stopBeamtimeCommand(): Command {
  return facilitySubcommand("stop-beamtime", "close a beamtime; its data stays on the core file system")
    .requiredOption("--beamtimeId <id>", "the beamtime's id")
    .requiredOption("--beamline <beamline>", "the beamline")
    .option("--verbose", "print each step")
    .action(async ({ dir, beamtimeId, beamline, verbose }: SessionArguments & { beamtimeId: string }) => {
      await stopBeamtime(dir, beamtimeId, beamline, sayAsTheRealTool(verbose === true));
    });
}

function stopCommissioningCommand(): Command {
  return facilitySubcommand("stop-commissioning", "close a commissioning run; its data stays on core")
    .requiredOption("--beamline <beamline>", "the beamline")
    .option("--tag <tag>", "only if the run has this tag")
    .option("--verbose", "print each step")
    .action(async ({ dir, tag, beamline, verbose }: SessionArguments & { tag?: string }) => {
      await stopCommissioning(dir, tag, beamline, sayAsTheRealTool(verbose === true));
    });
}

function facilitySubcommand(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .requiredOption("--dir <directory>", "the facility's directory", parseDirectory);
}

/** An empty one, of a variable that is not set, would be the current folder. */
function parseDirectory(text: string): string {
  if (text !== "") return text;
  throw new InvalidArgumentError("It is empty.");
}

function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (text.trim() === "" || !(seconds >= 0 && seconds <= 86_400)) {
    throw new InvalidArgumentError("It must be a number of seconds from 0 to 86400.");
  }
  return seconds;
}

function parsePort(text: string): number {
  const port = Number(text);
  if (Number.isInteger(port) && port > 0 && port < 65_536) return port;
  throw new InvalidArgumentError("It must be a port: a number from 1 to 65535.");
}

function parseUid(text: string): number {
  const uid = Number(text);
  if (/^\d{1,9}$/.test(text) && uid > 0) return uid;
  throw new InvalidArgumentError("It must be a user's number, such as 1000.");
}

/** `2021-08-12 09:46:01,464 >  [Maxwell Online Analysis Resources]-----------------` */
function sayAsTheRealTool(verbose: boolean): (step: string) => void {
  return (step) => {
    const isHeading = step.startsWith("[");
    if (!verbose && !isHeading && !/^((Beamtime|Commissioning) has been|Core path:)/.test(step)) return;
    const now = new Date();
    const local = new Date(now.getTime() - now.getTimezoneOffset() * 60_000).toISOString();
    const time = local.replace("T", " ").replace(".", ",").replace("Z", "");
    printLine(`${time} >  ${isHeading ? `${step}-----------------` : step}`);
  };
}

function summary({ dir, broker, slurm, ssh, roots, sync }: FacilityDescription): string[] {
  return [
    `The facility in ${dir} is up.`,
    ...(broker === null
      ? []
      : [`  RabbitMQ  ${broker.url}`, `            ${broker.managementUrl}  (user ${broker.user})`]),
    `  Slurm     SLURM_CONF=${slurm.conf}`,
    `            ${slurm.restUrl}  (its REST API)`,
    ...slurm.nodes.map(({ name, features, partition }) => {
      return `            ${name.padEnd(15)} ${partition.padEnd(12)} ${features.join(",")}`;
    }),
    `  sshd      ${ssh.address}:${ssh.port}  ${ssh.hostKeyFingerprint}`,
    `  beamline  ${roots.gpfs}, on the nodes ${roots.beamline}`,
    `  core      ${roots.core}, ${sync.delaySeconds} s behind`,
  ];
}

function statusTable({ dir, parts, sessions, reservations }: FacilityStatus): string[] {
  const lines = parts.map(({ name, running, pid, port }) => {
    const where = [pid === null ? "" : `pid ${pid}`, port === null ? "" : `port ${port}`];
    return `  ${name.padEnd(22)} ${running ? "running" : "NOT running"}  ${where.join("  ")}`.trimEnd();
  });
  const reserved = (reservations ?? []).map(({ name, partition, nodes, users, end }) => {
    const until = end.replace("T", " ");
    return `  reservation ${name} for ${users} until ${until}: ${nodes.join(", ")} (${partition})`;
  });
  return [dir, ...lines, ...sessions.map(sessionLine), ...reserved];
}

function sessionLine(session: OpenSession): string {
  const { account } = session;
  return `  ${describeSession(session)} is ${stageOf(session)}${account === null ? "" : `, with account ${account.name}`}`;
}
