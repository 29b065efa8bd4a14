#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
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

/** Only the one that is asked for is loaded: all of them take half a second. */
const COMMANDS = {
  worker: async () => (await import("./commands/worker.ts")).workerCommand(),
  publish: async () => (await import("./commands/publish.ts")).publishCommand(),
  watch: async () => (await import("./commands/watch.ts")).watchCommand(),
  run: async () => (await import("./commands/run.ts")).runCommand(),
  cancel: async () => (await import("./commands/cancel.ts")).cancelCommand(),
  dead: async () => (await import("./commands/dead.ts")).deadCommand(),
  replay: async () => (await import("./commands/replay.ts")).replayCommand(),
  validate: async () => (await import("./commands/validate.ts")).validateCommand(),
  match: async () => (await import("./commands/match.ts")).matchCommand(),
  init: async () => (await import("./commands/init.ts")).initCommand(),
  beamtime: async () => (await import("./commands/beamtime.ts")).beamtimeCommand(),
  ssh: async () => (await import("./commands/ssh.ts")).sshCommand(),
  doctor: async () => (await import("./commands/doctor.ts")).doctorCommand(),
  facility: async () => (await import("./commands/facility.ts")).facilityCommand(),
};
const [asked = ""] = process.argv.slice(2);
const isCommand = Object.hasOwn(COMMANDS, asked);
for (const [name, load] of Object.entries(COMMANDS)) {
  if (!isCommand || name === asked) program.addCommand(await load());
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
