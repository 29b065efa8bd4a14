import { Command, InvalidArgumentError, Option } from "commander";
import { Misconfigured } from "../errors.ts";
import { down, type FacilityDescription, type FacilityStatus, status, up } from "../facility/facility.ts";
import { startBeamtime } from "../facility/start-beamtime.ts";
import { stopBeamtime } from "../facility/stop-beamtime.ts";

/** `mento facility …`: all that a beamline has around Mento, on one machine. */
export function facilityCommand(): Command {
  return new Command("facility")
    .description("RabbitMQ, Slurm, sshd and two file systems on this machine, to try Mento on")
    .addCommand(upCommand())
    .addCommand(downCommand())
    .addCommand(statusCommand())
    .addCommand(startBeamtimeCommand())
    .addCommand(stopBeamtimeCommand());
}

interface UpArguments {
  dir: string;
  json?: true;
  syncDelay?: number;
  install: boolean;
}

function upCommand(): Command {
  return facilitySubcommand("up", "start what is not running, and wait until all of it is ready")
    .option("--json", "print every endpoint and path as one JSON object")
    .option("--sync-delay <seconds>", "delay of the copy from beamline to core (default: 0)", parseSeconds)
    .option("--no-install", "fail if packages are missing, instead of installing them")
    .action(async ({ dir, json, syncDelay, install }: UpArguments) => {
      const delay = syncDelay === undefined ? {} : { syncDelaySeconds: syncDelay };
      const facility = await up(dir, { ...delay, mayInstall: install }, sayOnStderr);
      print(json === true ? JSON.stringify(facility) : summary(facility));
    });
}

function downCommand(): Command {
  return facilitySubcommand("down", "end all of its processes; data and ports stay").action(
    async ({ dir }: { dir: string }) => {
      await down(dir, sayOnStderr);
    },
  );
}

function statusCommand(): Command {
  return facilitySubcommand("status", "show what runs, and the open beamtimes")
    .option("--json", "print one JSON object")
    .action(({ dir, json }: { dir: string; json?: true }) => {
      const facility = status(dir);
      print(json === true ? JSON.stringify(facility) : statusTable(facility));
      if (!facility.running) process.exitCode = 1;
    });
}

interface StartArguments {
  dir: string;
  beamtimeId: string;
  beamline: string;
  online?: true;
  verbose?: true;
  json?: true;
}

/** The real tool's options that a later version brings, and whether they take a value. */
const NOT_YET = [
  "--pre-start",
  "--feature <feature>",
  "--features <features>",
  "--resources <resources>",
  "--nodes <numbers>",
  "--asapo",
  "--archive",
  "--proposalType <type>",
  "--duration <hours>",
];

function startBeamtimeCommand(): Command {
  const command = facilitySubcommand(
    "start-beamtime",
    "open a beamtime, as the facility's startBeamtime does",
  )
    .requiredOption("--beamtimeId <id>", "the beamtime's id, such as 11010000")
    .requiredOption("--beamline <beamline>", "the beamline, such as p11")
    .option("--online", "with a reservation, an account and an SSH key for online analysis")
    .option("--verbose", "print each step")
    .option("--json", "print one JSON object")
    .action(async ({ dir, beamtimeId, beamline, online, verbose, json }: StartArguments) => {
      refuseNotYet(command);
      const say = json === true ? () => undefined : sayAsTheRealTool(verbose === true);
      const started = await startBeamtime(dir, { beamtimeId, beamline, online: online === true }, say);
      if (json === true) print(JSON.stringify(started));
    });
  for (const flags of NOT_YET) {
    command.addOption(new Option(flags, "an option of the real tool; not yet in this version").hideHelp());
  }
  return command;
}

function refuseNotYet(command: Command): void {
  const notYet = command.options.find((option) => {
    return NOT_YET.includes(option.flags) && command.getOptionValue(option.attributeName()) !== undefined;
  });
  if (notYet === undefined) return;
  throw new Misconfigured({
    code: "facility-option-not-yet",
    message: `This facility does not have the real tool's option ${notYet.long ?? notYet.flags} yet.`,
    hint: "Leave it out; a later version of Mento brings it.",
  });
}

function stopBeamtimeCommand(): Command {
  return facilitySubcommand("stop-beamtime", "close a beamtime; its data stays on the core file system")
    .requiredOption("--beamtimeId <id>", "the beamtime's id")
    .requiredOption("--beamline <beamline>", "the beamline")
    .option("--verbose", "print each step")
    .action(async ({ dir, beamtimeId, beamline, verbose }: StartArguments) => {
      await stopBeamtime(dir, beamtimeId, beamline, sayAsTheRealTool(verbose === true));
    });
}

function facilitySubcommand(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .requiredOption("--dir <directory>", "the facility's directory");
}

function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (text.trim() === "" || !(seconds >= 0 && seconds <= 86_400)) {
    throw new InvalidArgumentError("It must be a number of seconds from 0 to 86400.");
  }
  return seconds;
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

function sayOnStderr(step: string): void {
  process.stderr.write(`${step}\n`);
}

/** `2021-08-12 09:46:01,464 >  [Maxwell Online Analysis Resources]-----------------` */
function sayAsTheRealTool(verbose: boolean): (step: string) => void {
  return (step) => {
    const isHeading = step.startsWith("[");
    if (!verbose && !isHeading && !step.startsWith("Beamtime has been")) return;
    const now = new Date();
    const local = new Date(now.getTime() - now.getTimezoneOffset() * 60_000).toISOString();
    const time = local.replace("T", " ").replace(".", ",").replace("Z", "");
    print(`${time} >  ${isHeading ? `${step}-----------------` : step}`);
  };
}

function summary({ dir, broker, slurm, ssh, roots, sync }: FacilityDescription): string {
  return [
    `The facility in ${dir} is up.`,
    `  RabbitMQ  ${broker.url}`,
    `            ${broker.managementUrl}  (user ${broker.user})`,
    `  Slurm     SLURM_CONF=${slurm.conf}`,
    ...slurm.nodes.map(({ name, features }) => `            ${name}  ${features.join(",")}`),
    `  sshd      ${ssh.address}:${ssh.port}  ${ssh.hostKeyFingerprint}`,
    `  beamline  ${roots.gpfs}, on the nodes ${roots.beamline}`,
    `  core      ${roots.core}, ${sync.delaySeconds} s behind`,
  ].join("\n");
}

function statusTable({ dir, parts, beamtimes }: FacilityStatus): string {
  const lines = parts.map(({ name, running, pid, port }) => {
    const where = [pid === null ? "" : `pid ${pid}`, port === null ? "" : `port ${port}`];
    return `  ${name.padEnd(20)} ${running ? "running" : "NOT running"}  ${where.join("  ")}`.trimEnd();
  });
  const open = beamtimes.map(({ beamtimeId, beamline }) => `  beamtime ${beamtimeId} is open at ${beamline}`);
  return [dir, ...lines, ...open].join("\n");
}
