#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { beamtimeCommand } from "./commands/beamtime.ts";
import { cancelCommand } from "./commands/cancel.ts";
import { deadCommand } from "./commands/dead.ts";
import { doctorCommand } from "./commands/doctor.ts";
import { facilityCommand } from "./commands/facility.ts";
import { initCommand } from "./commands/init.ts";
import { matchCommand } from "./commands/match.ts";
import { publishCommand } from "./commands/publish.ts";
import { replayCommand } from "./commands/replay.ts";
import { runCommand } from "./commands/run.ts";
import { sshCommand } from "./commands/ssh.ts";
import { validateCommand } from "./commands/validate.ts";
import { watchCommand } from "./commands/watch.ts";
import { workerCommand } from "./commands/worker.ts";
import { exitStatusOf, MentoError } from "./errors.ts";

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
  version: string;
};

const program = new Command("mento")
  .description('Turns "data ready" messages into analysis jobs: RabbitMQ in, Slurm jobs, events out.')
  .version(version)
  .exitOverride()
  // `mento run ls -l`: options behind the program are the program's.
  .enablePositionalOptions()
  .showHelpAfterError("(mento --help lists the commands)");

for (const command of [
  workerCommand(),
  publishCommand(),
  watchCommand(),
  runCommand(),
  cancelCommand(),
  deadCommand(),
  replayCommand(),
  validateCommand(),
  matchCommand(),
  initCommand(),
  beamtimeCommand(),
  sshCommand(),
  doctorCommand(),
  facilityCommand(),
]) {
  program.addCommand(command);
}
exitOverrideAll(program);

// `mento watch | head` ends its reader first: that is an end, not an error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1));

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = report(error);
}

/** Prints an error for a person and says the exit status. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (!(error instanceof MentoError)) {
    console.error(error);
    return 1;
  }
  console.error(`mento: ${error.message}\n  ${error.hint} [${error.code}]`);
  return exitStatusOf(error);
}

function exitOverrideAll(command: Command): void {
  command.exitOverride();
  for (const child of command.commands) exitOverrideAll(child);
}
